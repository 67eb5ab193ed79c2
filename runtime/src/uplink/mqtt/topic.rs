//! Shared subscriptions and templates of topics.

pub(super) use store_forward::topic::{check_name, check_text, matches};

/// Recognizes a shared subscription (MQTT 5, section 4.8.2).
pub(super) fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// Strips the group from a shared subscription's filter. The rest is matched with topics.
pub fn matched_part(filter: &str) -> &str {
    match filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/')) {
        Some((_, shared)) => shared,
        None => filter,
    }
}

/// Returns true if `wide` matches every topic that `narrow` matches. Returns false for `+/#` and `#`,
/// which match the same topics.
pub(super) fn covers(wide: &str, narrow: &str) -> bool {
    if narrow.starts_with('$') && wide.starts_with(['+', '#']) {
        return false;
    }
    let mut wide = wide.split('/');
    let mut narrow = narrow.split('/');
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

/// Returns the part of `topic` that the `#` of `filter` matched, or else its last `+`. `None` if the
/// filter has neither, and if `a/#` matched `a`.
fn rest<'a>(filter: &str, topic: &'a str) -> Option<&'a str> {
    let levels = || filter.split('/').enumerate();
    if let Some((before, _)) = levels().find(|(_, level)| *level == "#") {
        return topic.splitn(before + 1, '/').nth(before);
    }
    let (place, _) = levels().filter(|(_, level)| *level == "+").last()?;
    topic.split('/').nth(place)
}

/// The values of the names in a template of a route or a downlink.
#[derive(Clone, Copy)]
pub(super) struct TemplateNames<'a> {
    /// The message's topic.
    pub(super) topic: &'a str,
    /// The filter that matched it.
    pub(super) filter: &'a str,
    pub(super) pubsub: &'a str,
    pub(super) node: &'a str,
}

/// Expands the template of a message's destination. An empty `{rest}` is removed together with the
/// slash before or after it. If the result is empty, the message keeps its topic.
pub(super) fn destination(template: &str, names: TemplateNames<'_>) -> String {
    let TemplateNames { topic, filter, pubsub, node } = names;
    let rest = rest(matched_part(filter), topic);
    let values =
        [("topic", topic), ("rest", rest.unwrap_or_default()), ("pubsub", pubsub), ("node", node)];
    let expanded = if rest.is_none() && template.contains("{rest}") {
        let without = template.replace("/{rest}", "").replace("{rest}/", "").replace("{rest}", "");
        expand(&without, &values)
    } else {
        expand(template, &values)
    };
    if expanded.is_empty() { topic.to_owned() } else { expanded }
}

/// Replaces each `{name}` in `template`. Values are not expanded again.
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
        destination(template, TemplateNames { topic, filter, pubsub: "p", node: "n1" })
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
        assert!(covers("#", "a/+"));
        assert!(covers("a/#", "a"));
        assert!(covers("a/#", "a/#"));
        assert!(covers("a/+", "a/b"));
        assert!(covers("#", "+/#"));
        assert!(!covers("a/+", "a/#"));
        assert!(!covers("a/b", "a/+"));
        assert!(!covers("a/+", "a"));
        assert!(!covers("#", "$SYS/x"));
        assert!(!covers("a/#", "b"));
        assert!(!covers("a", "a/b"));
    }
}
