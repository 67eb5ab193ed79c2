//! MQTT topic filters and topic templates.

use runtime::uplink::mqtt::topic::{expand, matched_part};
use store_forward::topic::{check_name, check_text, matches};

use super::input::Input;

/// A filter, a topic and a template.
pub(super) fn run(data: &[u8]) {
    let mut input = Input(data);
    let (filter, topic, template) = (input.text(), input.text(), input.text());
    assert_eq!(matches(&filter, &topic), model(&filter, &topic), "{filter:?} and {topic:?}");
    assert!(filter.ends_with(matched_part(&filter)));
    let values = [("topic", topic.as_str()), ("node", "n1")];
    let expanded = expand(&template, &values);
    assert!(template.contains('{') || expanded == template);
    if check_name(&expanded).is_ok() {
        assert!(!expanded.contains(['+', '#', '\0']) && !expanded.is_empty());
        assert!(check_text(&expanded).is_ok() && matches("#", &format!("a{expanded}")));
    }
}

/// MQTT 5, section 4.7, word for word; and, as ever here, a filter accepts itself.
fn model(filter: &str, topic: &str) -> bool {
    let filter_levels: Vec<&str> = filter.split('/').collect();
    let topic_levels: Vec<&str> = topic.split('/').collect();
    let hidden = topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#'));
    filter == topic || (!hidden && levels_match(&filter_levels, &topic_levels))
}

fn levels_match(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#", ..], _) | ([], []) => true,
        ([one, filter @ ..], [level, topic @ ..]) => {
            (*one == "+" || one == level) && levels_match(filter, topic)
        }
        _ => false,
    }
}
