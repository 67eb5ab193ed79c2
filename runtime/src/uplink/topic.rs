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
}
