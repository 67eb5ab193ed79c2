//! MQTT's topics and filters (MQTT 5, section 4.7), and templates of topics.

use crate::reader::Field;

/// Bytes of a topic or a filter at most (MQTT 5, section 1.5.4).
pub(crate) const MAX_TOPIC_BYTES: usize = 65_535;

/// Names that a template may hold in braces.
const PLACEHOLDERS: [&str; 4] = ["topic", "rest", "pubsub", "node"];

/// Reads a topic or a filter: `#` alone in the last level, `+` alone in its level.
pub(crate) fn filter(field: &Field<'_>) -> Option<String> {
    let filter = plain(field)?;
    let levels: Vec<_> = filter.split('/').collect();
    for (index, level) in levels.iter().enumerate() {
        if level.contains('#') && (*level != "#" || index + 1 != levels.len()) {
            let problem = format!("# must be the whole last level of {filter:?}");
            return field.refuse(problem, "write for example sensors/#");
        }
        if level.contains('+') && *level != "+" {
            let problem = format!("+ must be alone in its level of {filter:?}");
            return field.refuse(problem, "write for example sensors/+/temperature");
        }
    }
    Some(filter)
}

/// Reads a topic that can be published to.
pub(crate) fn topic(field: &Field<'_>) -> Option<String> {
    match plain(field)? {
        topic if topic.contains(['+', '#']) => {
            field.refuse(format!("{topic:?} has a wildcard"), "write one topic")
        }
        topic => Some(topic),
    }
}

/// Reads a remote filter, which may contain `{node}`.
pub(crate) fn remote_filter(field: &Field<'_>) -> Option<String> {
    let filter = filter(field)?;
    check_placeholders(field, &filter, &["node"])?;
    let Some(shared) = filter.strip_prefix("$share/") else { return Some(filter) };
    match shared.split_once('/') {
        Some((group, rest))
            if !rest.is_empty() && !group.contains(['+', '#']) && !group.is_empty() =>
        {
            Some(filter)
        }
        _ => field.refuse("not a shared subscription", "write $share/GROUP/FILTER"),
    }
}

/// Reads a topic to publish to, in which `{topic}`, `{rest}`, `{pubsub}` and `{node}` are replaced.
pub(crate) fn template(field: &Field<'_>) -> Option<String> {
    let template = plain(field)?;
    if template.contains(['+', '#']) {
        let problem = format!("{template:?} has a wildcard, and no topic can");
        return field.refuse(problem, "use {topic} for the topic of the message");
    }
    check_placeholders(field, &template, &PLACEHOLDERS)?;
    Some(template)
}

/// Refuses `{rest}` where the filter has no wildcard, so that nothing is matched by one.
pub(crate) fn check_rest(to: &Field<'_>, template: &str, filter: &str) -> Option<()> {
    let wild = || filter.split('/').any(|level| matches!(level, "+" | "#"));
    if !template.contains("{rest}") || wild() {
        return Some(());
    }
    to.refuse(
        format!("{{rest}} stands for what a wildcard matched, and {filter:?} has no wildcard"),
        "write the topic itself, or let the filter end with /#",
    )
}

/// Reads a topic without looking at wildcards.
fn plain(field: &Field<'_>) -> Option<String> {
    let topic = field.text()?;
    if topic.len() > MAX_TOPIC_BYTES {
        let remedy = format!("shorten it to {MAX_TOPIC_BYTES} bytes");
        return field.refuse(format!("the topic has {} bytes", topic.len()), remedy);
    }
    match topic.chars().find(|c| c.is_control()) {
        Some(c) => {
            let problem = format!("a topic can't hold the character U+{:04X}", u32::from(c));
            field.refuse(problem, "remove it")
        }
        None => Some(topic),
    }
}

/// Refuses braces that don't hold one of the names in `allowed`.
fn check_placeholders(field: &Field<'_>, template: &str, allowed: &[&str]) -> Option<()> {
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let inner = rest[at..].strip_prefix('{').and_then(|open| open.split_once('}'));
        match inner {
            Some((name, after)) if allowed.contains(&name) => rest = after,
            _ => {
                let known: Vec<_> = allowed.iter().map(|name| format!("{{{name}}}")).collect();
                let problem = format!("{template:?} has an unknown placeholder");
                return field.refuse(problem, format!("known here: {}", known.join(", ")));
            }
        }
    }
    Some(())
}
