#![allow(clippy::unwrap_used)]

use store_forward::record::ConsumerKind;

use super::*;

fn one(json: &str) -> Subscription {
    let (mut subscriptions, warnings) = parse(json.as_bytes()).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(subscriptions.len(), 1);
    subscriptions.remove(0)
}

fn simple(topic: &str) -> Subscription {
    one(&format!(r#"[{{"pubsubname":"p","topic":"{topic}","route":"/r"}}]"#))
}

fn declared(topic: &str, scopes: &[&str]) -> config::model::Subscription {
    config::model::Subscription {
        name: "s".into(),
        spec: SubscriptionSpec {
            pubsub: "p".into(),
            topic: topic.into(),
            default_route: Some("/declared".into()),
            ..SubscriptionSpec::default()
        },
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        origin: config::model::Origin::default(),
    }
}

#[test]
fn the_old_form_with_one_route_is_read() {
    let subscription = simple("t");
    assert_eq!((subscription.spec.pubsub.as_str(), subscription.spec.topic.as_str()), ("p", "t"));
    assert_eq!(subscription.spec.default_route.as_deref(), Some("/r"));
    assert_eq!((subscription.spec.rules.len(), subscription.spec.bulk), (0, None));
}

#[test]
fn the_new_form_with_rules_is_read() {
    let subscription = one(
        r#"[{"pubsubName":"p","topic":"t","deadLetterTopic":"dead","metadata":{"rawPayload":"true","Key":1},
            "routes":{"rules":[{"match":"event.type == 'a'","path":"/a"}],"default":"/d"},"route":"/old",
            "bulkSubscribe":{"enabled":true,"maxMessagesCount":7,"maxAwaitDurationMs":40}}]"#,
    );
    let rule = Rule { matches: "event.type == 'a'".into(), path: "/a".into() };
    assert_eq!(subscription.spec.rules, [rule]);
    assert_eq!(subscription.spec.default_route.as_deref(), Some("/d"));
    assert_eq!(subscription.spec.dead_letter_topic.as_deref(), Some("dead"));
    assert_eq!(subscription.spec.metadata["Key"], "1");
    let bulk = Bulk { max_messages: 7, max_await: Duration::from_millis(40) };
    assert_eq!(subscription.spec.bulk, Some(bulk));
    assert!(subscription.settings().unwrap().raw);
}

#[test]
fn nulls_and_unknown_fields_are_as_good_as_nothing() {
    let subscription = one(
        r#"[{"pubsubname":"p","topic":"t","route":"/r","routes":null,"metadata":null,
            "bulkSubscribe":{"enabled":true,"maxMessagesCount":null},"deadLetterTopic":null,"x":1}]"#,
    );
    let bulk = subscription.spec.bulk.unwrap();
    assert_eq!((bulk.max_messages, bulk.max_await), (100, Duration::from_secs(1)));
    assert_eq!(parse(b"null").unwrap().0, Vec::new());
}

#[test]
fn an_entry_without_route_or_name_is_left_out_with_a_warning() {
    let (subscriptions, warnings) = parse(
        br#"[{"pubsubname":"p","topic":"t"},{"topic":"t","route":"/r"},{"pubsubname":"p","route":"/r"}]"#,
    )
    .unwrap();
    assert!(subscriptions.is_empty());
    assert_eq!(warnings.len(), 3);
    assert!(warnings[0].contains("p/t") && warnings[0].contains("no route"), "{}", warnings[0]);
}

#[test]
fn what_is_no_list_is_refused() {
    for body in ["", "{}", "[1]", "<html>", r#"[{"topic":{}}]"#] {
        assert!(parse(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn the_later_of_two_entries_for_one_topic_counts() {
    let subscription = one(
        r#"[{"pubsubname":"p","topic":"t","route":"/1"},{"pubsubname":"p","topic":"t","route":"/2"}]"#,
    );
    assert_eq!(subscription.spec.default_route.as_deref(), Some("/2"));
}

#[test]
fn programmatic_subscriptions_replace_declared_ones_of_the_same_topic() {
    let declared = [declared("t", &[]), declared("u", &["a", "b"]), declared("v", &["b"])];
    let merged = merge("a", &declared, vec![simple("t")]);
    let found: Vec<_> = merged.iter().map(|s| (s.spec.topic.as_str(), s.source.name())).collect();
    assert_eq!(found, [("t", "PROGRAMMATIC"), ("u", "DECLARATIVE")]);
}

#[test]
fn consumers_that_no_subscription_stands_for_are_stale() {
    let spec = |name: &str| ConsumerSpec {
        name: name.into(),
        kind: ConsumerKind::App,
        filters: Vec::new(),
        dead_letter: None,
    };
    let consumers =
        ["app/a/p/t", "app/a/p/old/x", "app/b/p/old", "app/a/q/old", "uplink/a"].map(spec);
    assert_eq!(stale("a", "p", &consumers, &[simple("t")]), ["app/a/p/old/x"]);
}

#[test]
fn attempts_are_bounded_only_where_a_dead_letter_topic_takes_the_message() {
    let mut subscription = simple("t");
    subscription.spec.metadata.insert("maxRetries".into(), "5".into());
    assert_eq!(subscription.settings().unwrap().max_attempts, None);
    subscription.spec.dead_letter_topic = Some("dead".into());
    assert_eq!(subscription.settings().unwrap().max_attempts, Some(6));
    subscription.spec.metadata.insert("maxRetries".into(), "-1".into());
    assert_eq!(subscription.settings().unwrap().max_attempts, None);
    subscription.spec.metadata.clear();
    assert_eq!(subscription.settings().unwrap().max_attempts, Some(4));
}

#[test]
fn metadata_that_makes_no_sense_is_named_with_its_remedy() {
    for (name, value) in [("concurrency", "0"), ("rawPayload", "maybe"), ("maxRetries", "-2")] {
        let mut subscription = simple("t");
        subscription.spec.metadata.insert(name.into(), value.into());
        let error = subscription.settings().unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("p/t") && error.contains("has to be"));
    }
    let mut subscription = simple("t");
    subscription.spec.metadata.insert("Concurrency".into(), "4".into());
    assert_eq!(subscription.settings().unwrap().concurrency, 4);
}

#[test]
fn a_dead_letter_topic_that_nothing_can_be_published_to_leaves_the_subscription_out() {
    for (topic, told) in [("dead/#", "wildcard #"), ("+", "wildcard +"), ("a\\u0007", "U+0007")] {
        let body = format!(
            r#"[{{"pubsubname":"p","topic":"t","route":"/r","deadLetterTopic":"{topic}"}}]"#
        );
        let (subscriptions, warnings) = parse(body.as_bytes()).unwrap();
        assert!(subscriptions.is_empty());
        assert!(warnings[0].contains(told) && warnings[0].contains("p/t"), "{}", warnings[0]);
    }
}
