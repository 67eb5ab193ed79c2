//! Durations, sizes and names, as people read them.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

/// A duration, rounded to what matters, in the units of a configuration: `250ms`, `1.2s`, `1m30s`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let (secs, ms) = (duration.as_secs(), duration.as_millis());
    match secs {
        _ if ms < 1000 => format!("{ms}ms"),
        0..10 if ms % 1000 >= 100 => format!("{secs}.{}s", ms % 1000 / 100),
        0..60 => format!("{secs}s"),
        60..3600 => two(secs / 60, "m", secs % 60, "s"),
        3600..86_400 => two(secs / 3600, "h", secs % 3600 / 60, "m"),
        _ => two(secs / 86_400, "d", secs % 86_400 / 3600, "h"),
    }
}

fn two(large: u64, unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
}

/// A number of bytes in the unit that fits, with one decimal below ten.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let Some((bits, unit)) = UNITS.into_iter().find(|(bits, _)| bytes >> bits > 0) else {
        return format!("{bytes} B");
    };
    let (whole, tenths) = (bytes >> bits, (((bytes % (1 << bits)) * 10) >> bits));
    if whole < 10 && tenths > 0 {
        format!("{whole}.{tenths} {unit}")
    } else {
        format!("{whole} {unit}")
    }
}

/// A number of things.
#[must_use]
pub fn count(number: u64, one: &str, more: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {more}") }
}

/// A text of others with all that a terminal would obey or hide escaped.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '"' | '\'' | '\\' => out.push(char),
            char => out.extend(char.escape_debug()),
        }
    }
    out
}

/// JSON with lines and indents, in which a terminal finds nothing to obey either: JSON leaves the
/// control characters above ASCII as they are.
#[must_use]
pub fn json(value: &Value) -> String {
    let mut out = String::new();
    for char in format!("{value:#}\n").chars() {
        match char {
            '\n' => out.push(char),
            char if char.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            char => out.push(char),
        }
    }
    out
}

/// A text cut to `width` characters, the last of which then says so.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.extend((width > 0).then_some('…'));
    cut
}

/// A text in lines of `width` characters, broken between words; those after the first are indented.
#[must_use]
pub fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > indent && column + 1 + length > width {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_to_what_matters() {
        let cases = [
            (0, "0ms"),
            (250, "250ms"),
            (1_000, "1s"),
            (1_234, "1.2s"),
            (12_900, "12s"),
            (61_000, "1m1s"),
            (120_000, "2m"),
            (7_260_000, "2h1m"),
            (180_000_000, "2d2h"),
        ];
        for (ms, text) in cases {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        let cases = [
            (9, "9 B"),
            (1536, "1.5 KiB"),
            (20_580, "20 KiB"),
            (1 << 30, "1 GiB"),
            (3 << 39, "1.5 TiB"),
        ];
        for (size, text) in cases {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_or_hide_is_escaped() {
        assert_eq!(escape("a\u{1b}[31mb\n\u{9b}\u{202e}"), "a\\u{1b}[31mb\\n\\u{9b}\\u{202e}");
        assert_eq!(escape("größe/\"x\" 温度"), "größe/\"x\" 温度");
    }

    #[test]
    fn json_for_a_terminal_is_still_the_same_json() {
        let value = serde_json::json!({ "a\u{9b}\u{7f}": "\u{1b}\n" });
        let text = json(&value);
        assert!(text.chars().all(|char| char == '\n' || !char.is_control()), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).ok(), Some(value));
    }

    #[test]
    fn a_text_is_cut_with_a_mark_and_wrapped_between_words() {
        assert_eq!(cut("topic", 5), "topic");
        assert_eq!(cut("topics", 5), "topi…");
        assert_eq!(wrap("one two three four", 9, 2), "one two\n  three\n  four");
        assert_eq!(wrap("averylongword b", 5, 2), "averylongword\n  b");
    }
}
