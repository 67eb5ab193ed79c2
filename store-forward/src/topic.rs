//! Topic filters (MQTT 5, section 4.7).

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

#[cfg(test)]
mod tests {
    use super::matches;

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
}
