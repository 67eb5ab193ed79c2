//! Durations, sizes and names for people, and JSON for terminals.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

/// Formats a duration with its two leading units, as a configuration takes them: `250ms`, `1.2s`,
/// `1m30s`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    let ms = duration.as_millis();
    match secs {
        _ if ms < 1000 => format!("{ms}ms"),
        0..10 if ms % 1000 >= 100 => format!("{secs}.{}s", ms % 1000 / 100),
        0..60 => format!("{secs}s"),
        60..3600 => two_units(secs / 60, "m", secs % 60, "s"),
        3600..86_400 => two_units(secs / 3600, "h", secs % 3600 / 60, "m"),
        _ => two_units(secs / 86_400, "d", secs % 86_400 / 3600, "h"),
    }
}

fn two_units(large: u64, unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{small_unit}") }
}

/// Formats a number of bytes in the largest unit that fits, with one decimal below ten.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let (bits, unit) = match bytes {
        0..0x400 => return format!("{bytes} B"),
        0x400..0x10_0000 => (10, "KiB"),
        0x10_0000..0x4000_0000 => (20, "MiB"),
        0x4000_0000..0x100_0000_0000 => (30, "GiB"),
        _ => (40, "TiB"),
    };
    let whole = bytes >> bits;
    let tenths = ((bytes % (1 << bits)) * 10) >> bits;
    if whole < 10 && tenths > 0 {
        format!("{whole}.{tenths} {unit}")
    } else {
        format!("{whole} {unit}")
    }
}

/// Formats a number with the noun that fits, `one` or `more`.
#[must_use]
pub fn count(number: u64, one: &str, more: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {more}") }
}

/// Escapes the characters of an untrusted text that a terminal would interpret or hide.
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

/// Formats JSON with lines and indents. Control characters above ASCII, which JSON leaves as they are,
/// are escaped too: a terminal would interpret them.
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

/// Cuts a text to `width` characters; if it is longer, the last one is an ellipsis.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.extend((width > 0).then_some('…'));
    cut
}

/// Breaks a text between words into lines of `width` characters; lines after the first are indented.
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
    fn durations_have_two_units_at_most() {
        let formatted = |ms| duration(Duration::from_millis(ms));
        assert_eq!(formatted(0), "0ms");
        assert_eq!(formatted(250), "250ms");
        assert_eq!(formatted(1_000), "1s");
        assert_eq!(formatted(1_234), "1.2s");
        assert_eq!(formatted(12_900), "12s");
        assert_eq!(formatted(61_000), "1m1s");
        assert_eq!(formatted(120_000), "2m");
        assert_eq!(formatted(7_260_000), "2h1m");
        assert_eq!(formatted(180_000_000), "2d2h");
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        assert_eq!(bytes(9), "9 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1 KiB");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(20_580), "20 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1023 KiB");
        assert_eq!(bytes(1 << 20), "1 MiB");
        assert_eq!(bytes(1 << 30), "1 GiB");
        assert_eq!(bytes(3 << 39), "1.5 TiB");
        assert_eq!(bytes(u64::MAX), "16777215 TiB");
    }

    #[test]
    fn characters_that_a_terminal_would_interpret_or_hide_are_escaped() {
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
