//! Topic names and filters (MQTT 5, section 4.7).

use std::fmt;

/// Bytes of a topic's name: its length is sent as two bytes (MQTT 5, section 1.5.4).
pub const MAX_NAME_BYTES: usize = 65_535;

/// Whether `filter` accepts `topic`: levels are parted by `/`, `+` stands for one level, `#` at the
/// end for any number of them, its parent included; neither accepts a first level that starts with `$`.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if filter == topic {
        return true;
    }
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    let mut wanted = filter.split('/');
    loop {
        match (wanted.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(want), Some(level)) if want == level => {}
            _ => return false,
        }
    }
}

/// Why nothing can be published to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Illegal {
    /// It has no characters.
    Empty,
    /// It has this many bytes.
    TooLong(usize),
    /// It has this wildcard.
    Wildcard(char),
    /// It has a character that MQTT forbids, or that a broker may close the connection for.
    Character(char),
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::TooLong(bytes) => {
                write!(f, "it has {bytes} bytes, the limit is {MAX_NAME_BYTES}")
            }
            Self::Wildcard(c) => write!(f, "it has the wildcard {c}"),
            Self::Character(c) => write!(f, "it has the character U+{:04X}", u32::from(*c)),
        }
    }
}

/// Checks that messages can be published to `name`.
///
/// # Errors
/// The first reason why they can't.
pub fn check_name(name: &str) -> Result<(), Illegal> {
    if name.is_empty() {
        return Err(Illegal::Empty);
    }
    match name.chars().find(|c| matches!(c, '+' | '#')) {
        Some(wildcard) => Err(Illegal::Wildcard(wildcard)),
        None => check_text(name),
    }
}

/// Checks that `text` can be sent as an MQTT string. Control characters and non-characters are
/// refused with NUL: a broker may take them for a malformed packet (MQTT 5, section 1.5.4), and the
/// same message would end each connection anew.
///
/// # Errors
/// The first reason why it can't.
pub fn check_text(text: &str) -> Result<(), Illegal> {
    if text.len() > MAX_NAME_BYTES {
        return Err(Illegal::TooLong(text.len()));
    }
    match text.chars().find(|c| c.is_control() || is_no_character(*c)) {
        Some(c) => Err(Illegal::Character(c)),
        None => Ok(()),
    }
}

fn is_no_character(c: char) -> bool {
    let code = u32::from(c);
    (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_stands_for_exactly_one_level() {
        assert!(matches("a/+/c", "a/b/c"));
        assert!(matches("+", "a"));
        assert!(!matches("+", "a/b"));
        assert!(matches("a/+", "a/"));
        assert!(!matches("a/+", "a"));
    }

    #[test]
    fn a_hash_stands_for_the_rest_and_for_the_parent() {
        for topic in ["a", "a/b", "a/b/c"] {
            assert!(matches("a/#", topic), "{topic}");
        }
        assert!(matches("#", "a/b"));
        assert!(!matches("a/#", "ab"));
    }

    #[test]
    fn a_wildcard_at_the_start_never_takes_a_topic_that_starts_with_a_dollar() {
        assert!(!matches("#", "$SYS/x"));
        assert!(!matches("+/x", "$SYS/x"));
        assert!(matches("$SYS/#", "$SYS/x"));
    }

    #[test]
    fn a_topic_without_wildcards_accepts_itself_alone() {
        assert!(matches("orders", "orders"));
        assert!(!matches("orders", "order"));
        assert!(!matches("orders", "orders/new"));
    }

    #[test]
    fn a_name_that_cannot_be_published_to_is_refused_with_its_reason() {
        assert_eq!(check_name(""), Err(Illegal::Empty));
        assert_eq!(check_name("a/+"), Err(Illegal::Wildcard('+')));
        assert_eq!(check_name("a#"), Err(Illegal::Wildcard('#')));
        assert_eq!(check_name("a\0b"), Err(Illegal::Character('\0')));
        assert_eq!(check_name("a\u{85}"), Err(Illegal::Character('\u{85}')));
        assert_eq!(check_name("a\u{FFFE}"), Err(Illegal::Character('\u{FFFE}')));
        assert_eq!(check_name("a\u{1FFFF}"), Err(Illegal::Character('\u{1FFFF}')));
        assert_eq!(check_name(&"x".repeat(65_536)), Err(Illegal::TooLong(65_536)));
        assert_eq!(check_name(&"x".repeat(65_535)), Ok(()));
        assert_eq!(check_name("$aws/things/ü"), Ok(()));
    }

    #[test]
    fn the_reason_names_the_character() {
        assert_eq!(Illegal::Wildcard('#').to_string(), "it has the wildcard #");
        assert_eq!(Illegal::Character('\u{7}').to_string(), "it has the character U+0007");
    }
}
