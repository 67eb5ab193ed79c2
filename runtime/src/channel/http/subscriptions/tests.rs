#![allow(clippy::unwrap_used)]

use super::*;

fn one(json: &str) -> SubscriptionSpec {
    let mut declared = parse(json.as_bytes()).unwrap().0;
    assert_eq!(declared.len(), 1);
    declared.remove(0)
}

#[test]
fn the_old_form_with_one_route_is_read() {
    let spec = one(r#"[{"pubsubname":"p","topic":"t","route":"/r"}]"#);
    assert_eq!((spec.pubsub.as_str(), spec.topic.as_str()), ("p", "t"));
    assert_eq!(spec.default_route.as_deref(), Some("/r"));
    assert_eq!((spec.rules.len(), spec.bulk), (0, None));
}

#[test]
fn the_new_form_with_rules_is_read() {
    let spec = one(
        r#"[{"pubsubName":"p","topic":"t","deadLetterTopic":"dead","metadata":{"rawPayload":"true","Key":1},
            "routes":{"rules":[{"match":"event.type == 'a'","path":"/a"}],"default":"/d"},"route":"/old",
            "bulkSubscribe":{"enabled":true,"maxMessagesCount":7,"maxAwaitDurationMs":40}}]"#,
    );
    let rule = Rule { matches: "event.type == 'a'".into(), path: "/a".into() };
    assert_eq!(spec.rules, [rule]);
    assert_eq!(spec.default_route.as_deref(), Some("/d"));
    assert_eq!(spec.dead_letter_topic.as_deref(), Some("dead"));
    assert_eq!(spec.metadata["Key"], "1");
    let bulk = Bulk { max_messages: 7, max_await: Duration::from_millis(40) };
    assert_eq!(spec.bulk, Some(bulk));
}

#[test]
fn nulls_and_unknown_fields_count_as_missing() {
    let spec = one(r#"[{"pubsubname":"p","topic":"t","route":"/r","routes":null,"metadata":null,
            "bulkSubscribe":{"enabled":true,"maxMessagesCount":null},"deadLetterTopic":null,"x":1}]"#);
    let bulk = spec.bulk.unwrap();
    assert_eq!((bulk.max_messages, bulk.max_await), (100, Duration::from_secs(1)));
    assert!(parse(b"null").unwrap().0.is_empty());
}

#[test]
fn anything_but_a_list_is_refused() {
    for body in ["", "{}", "[1]", "<html>", r#"[{"topic":{}}]"#] {
        assert!(parse(body.as_bytes()).is_err(), "{body}");
    }
}
