//! Shared subscriptions and templates of topics.

pub(super) use store_forward::topic::{check_name, check_text, matches};

/// Whether `filter` is a shared subscription (MQTT 5, section 4.8.2).
pub(super) fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// What a subscription's filter is matched by: a shared one without its group.
pub fn matched_part(filter: &str) -> &str {
    match filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
        Some((_, shared)) => shared,
        None => filter,
    }
}

/// Whether every topic that `narrow` matches is matched by `wide` too. Says no for `+/#` and `#`,
/// which match the same.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false;
    }
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            (_, Some("#")) => return false,
            (Some("+"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// What of `topic` the `#` of `filter` matched, or else its last `+`. `None` where there is neither,
/// and where `a/#` matched `a`.
fn rest<'a>(filter: &str, topic: &'a str) -> Option<&'a str> {
    let levels = || filter.split('/').enumerate();
    if let Some((before, _)) = levels().find(|(_, level)| *level == "#") {
        return topic.splitn(before + 1, '/').nth(before);
    }
    let (place, _) = levels().filter(|(_, level)| *level == "+").last()?;
    topic.split('/').nth(place)
}

/// The names that a template of a route or a downlink knows.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    /// The topic that the message has.
    pub(super) topic: &'a str,
    /// The filter that matched it.
    pub(super) filter: &'a str,
    pub(super) pubsub: &'a str,
    pub(super) node: &'a str,
}

/// The topic that a message goes to. Where nothing is left for `{rest}`, it goes together with the
/// slash before or behind it; where nothing is left at all, the topic stays as it is.
pub(super) fn destination(template: &str, names: Names<'_>) -> String {
    let Names { topic, filter, pubsub, node } = names;
    let rest = rest(matched_part(filter), topic);
    let values =
        [("topic", topic), ("rest", rest.unwrap_or_default()), ("pubsub", pubsub), ("node", node)];
    let made = if rest.is_none() && template.contains("{rest}") {
        let without = template.replace("/{rest}", "").replace("{rest}/", "").replace("{rest}", "");
        expand(&without, &values)
    } else {
        expand(template, &values)
    };
    if made.is_empty() { topic.to_owned() } else { made }
}

/// Replaces each `{name}` in `template`; what was put in is not looked at again.
pub fn expand(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        out.push_str(before);
        let known = values.iter().find_map(|(name, value)| {
            let tail = from[1..].strip_prefix(name)?.strip_prefix('}')?;
            Some((*value, tail))
        });
        match known {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push('{');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_subscription_matches_by_what_follows_its_group() {
        assert_eq!(matched_part("$share/group/a/+"), "a/+");
        assert_eq!(matched_part("a/+"), "a/+");
        assert!(is_shared("$share/group/a"));
        assert!(!is_shared("share/group/a"));
    }

    #[test]
    fn a_template_replaces_the_names_it_knows_and_leaves_the_rest() {
        let values = [("topic", "a/{node}"), ("node", "n1"), ("pubsub", "p")];
        assert_eq!(expand("{node}/{pubsub}/{topic}", &values), "n1/p/a/{node}");
        assert_eq!(expand("{other}/{topic", &values), "{other}/{topic");
        assert_eq!(expand("{{node}}", &values), "{n1}");
        assert_eq!(expand("", &values), "");
    }

    fn sent(filter: &str, topic: &str, template: &str) -> String {
        destination(template, Names { topic, filter, pubsub: "p", node: "n1" })
    }

    #[test]
    fn the_rest_is_what_the_last_wildcard_matched() {
        assert_eq!(sent("sensors/#", "sensors/a/b", "fleet/{rest}"), "fleet/a/b");
        assert_eq!(sent("fleet/n1/commands/#", "fleet/n1/commands/reboot", "c/{rest}"), "c/reboot");
        assert_eq!(sent("#", "a/b", "{pubsub}/{node}/{rest}"), "p/n1/a/b");
        assert_eq!(
            sent("a/+/speed", "a/kitchen/speed", "{rest}/{topic}"),
            "kitchen/a/kitchen/speed"
        );
        assert_eq!(sent("$share/g/a/+/+", "a/b/c", "x/{rest}"), "x/c");
    }

    #[test]
    fn a_rest_of_nothing_takes_its_slash_with_it() {
        assert_eq!(sent("a/#", "a", "x/{rest}"), "x");
        assert_eq!(sent("a/#", "a", "{rest}/x"), "x");
        assert_eq!(sent("a/#", "a", "x/{rest}/y"), "x/y");
        assert_eq!(sent("a/#", "a", "{rest}"), "a");
        assert_eq!(sent("a/#", "a/", "x/{rest}"), "x/");
        assert_eq!(sent("a/+", "a/", "{rest}"), "a/");
    }

    #[test]
    fn a_filter_covers_those_that_match_less() {
        for (wide, narrow) in
            [("#", "a/+"), ("a/#", "a"), ("a/#", "a/#"), ("a/+", "a/b"), ("#", "+/#")]
        {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            ("a/+", "a/#"),
            ("a/b", "a/+"),
            ("a/+", "a"),
            ("#", "$SYS/x"),
            ("a/#", "b"),
            ("a", "a/b"),
        ] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }
}
