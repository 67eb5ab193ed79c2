//! Overlap of MQTT topic filters and templates.

/// Returns the part of a remote filter that is compared with topics: that of a shared subscription
/// without its group (MQTT 5, section 4.8.2).
pub(crate) fn matched_part(filter: &str) -> &str {
    match filter.strip_prefix("$share/").and_then(|shared| shared.split_once('/')) {
        Some((_, matched)) => matched,
        None => filter,
    }
}

/// Returns whether a topic can match both filters.
pub(crate) fn filters(one: &str, other: &str) -> bool {
    overlap(levels(one), levels(other))
}

/// Returns whether `filter` can match a topic that the template `to` makes of one that `from`
/// matches. `{node}` equals only itself and wildcards. Where `{topic}` or `{rest}` is followed by more,
/// the answer may be true in error, but never false in error.
pub(crate) fn template(to: &str, from: &str, pubsub: &str, filter: &str) -> bool {
    let pubsub_in = |level: &str| level.replace("{pubsub}", pubsub);
    let made = to.split('/').flat_map(move |level| match level {
        "{topic}" => from.split('/').map(Level::of).collect(),
        "{rest}" if from.ends_with('#') => vec![Level::Many],
        "{rest}" => vec![Level::Any],
        partly if partly.contains("{topic}") || partly.contains("{rest}") => vec![Level::Many],
        plain if plain.contains("{pubsub}") => vec![Level::Is(pubsub_in(plain).into())],
        plain => vec![Level::Is(plain.into())],
    });
    overlap(made, levels(filter))
}

/// One level of a set of topics.
#[derive(Clone, Debug, PartialEq)]
enum Level<'a> {
    /// Any number of levels, none included.
    Many,
    /// Any single level.
    Any,
    Is(std::borrow::Cow<'a, str>),
}

impl<'a> Level<'a> {
    fn of(level: &'a str) -> Self {
        match level {
            "#" => Self::Many,
            "+" => Self::Any,
            text => Self::Is(text.into()),
        }
    }

    /// Returns whether it begins the broker's own topics: no wildcard matches their first level (MQTT 5,
    /// section 4.7.2).
    fn is_reserved(&self) -> bool {
        matches!(self, Self::Is(text) if text.starts_with('$'))
    }
}

fn levels(filter: &str) -> impl Iterator<Item = Level<'_>> {
    filter.split('/').map(Level::of)
}

/// Compares level by level up to the first `#`, which matches all the rest.
fn overlap<'a>(
    mut one: impl Iterator<Item = Level<'a>>,
    mut other: impl Iterator<Item = Level<'a>>,
) -> bool {
    let mut first = true;
    loop {
        let pair = (one.next(), other.next());
        if first && let (Some(a), Some(b)) = &pair {
            first = false;
            if a != b && (a.is_reserved() || b.is_reserved()) {
                return false;
            }
        }
        match pair {
            (Some(Level::Many), _) | (_, Some(Level::Many)) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == Level::Any || b == Level::Any => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{filters, matched_part, template};

    #[test]
    fn filters_overlap_where_a_topic_matches_both() {
        for (one, other) in
            [("a/#", "a"), ("a/+/c", "a/b/+"), ("#", "x"), ("+", "a"), ("a/#", "+/b"), ("a", "a")]
        {
            assert!(filters(one, other) && filters(other, one), "{one} {other}");
        }
        for (one, other) in [("a/#", "b/#"), ("a/+", "a"), ("a/+/c", "a/b/d"), ("#", "$SYS/x")] {
            assert!(!filters(one, other) && !filters(other, one), "{one} {other}");
        }
        assert!(filters("$SYS/#", "$SYS/+"));
    }

    #[test]
    fn a_template_overlaps_with_filters_of_topics_that_it_can_make() {
        let made = |to, from, filter| template(to, from, "pubsub", filter);
        assert!(made("{topic}", "#", "a/b"));
        assert!(made("{topic}", "sensors/#", "sensors/+/temperature"));
        assert!(!made("{topic}", "sensors/#", "commands/#"));
        assert!(made("fleet/{node}/{topic}", "#", "fleet/{node}/commands/#"));
        assert!(!made("fleet/{node}/{topic}", "sensors/#", "fleet/{node}/commands/#"));
        assert!(!made("up/{node}/{topic}", "#", "down/{node}/#"));
        assert!(made("{node}/x", "x", "+/x") && !made("{node}/x", "x", "all/x"));
        assert!(made("{pubsub}/x", "x", "pubsub/x") && !made("{pubsub}/x", "x", "other/x"));
        assert!(made("fleet/{rest}", "sensors/#", "fleet"));
        assert!(made("fleet/{rest}", "sensors/+", "fleet/a"));
        assert!(!made("fleet/{rest}", "sensors/+", "fleet/a/b"));
        assert!(made("x-{topic}", "#", "x-a/b"));
    }

    #[test]
    fn a_shared_subscription_matches_by_its_filter_without_the_group() {
        assert_eq!(matched_part("$share/group/a/+"), "a/+");
        assert_eq!(matched_part("a/+"), "a/+");
    }
}
