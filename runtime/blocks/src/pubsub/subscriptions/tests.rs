#![allow(clippy::unwrap_used)]

use super::*;

fn to(topic: &str, route: &str) -> SubscriptionSpec {
    SubscriptionSpec {
        pubsub: "p".into(),
        topic: topic.into(),
        default_route: Some(route.into()),
        ..SubscriptionSpec::default()
    }
}

fn simple(topic: &str) -> Subscription {
    Subscription { spec: to(topic, "/r"), source: SubscriptionSource::Programmatic }
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
fn a_subscription_without_route_or_name_is_left_out_with_a_warning() {
    let complete = to("t", "/r");
    let without_route = SubscriptionSpec { default_route: None, ..complete.clone() };
    let without_pubsub = SubscriptionSpec { pubsub: String::new(), ..complete.clone() };
    let without_topic = SubscriptionSpec { topic: String::new(), ..complete };
    let declared = DeclaredByApp(vec![without_route, without_pubsub, without_topic]);
    let (subscriptions, warnings) = accept(declared);
    assert!(subscriptions.is_empty());
    assert_eq!(warnings.len(), 3);
    assert!(warnings[0].contains("p/t") && warnings[0].contains("no route"), "{}", warnings[0]);
}

#[test]
fn the_later_of_two_subscriptions_to_one_topic_counts() {
    let (subscriptions, warnings) = accept(DeclaredByApp(vec![to("t", "/1"), to("t", "/2")]));
    assert_eq!(subscriptions.len(), 1);
    assert_eq!(subscriptions[0].spec.default_route.as_deref(), Some("/2"));
    assert!(warnings.is_empty());
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
    let consumers = ["app/a/p/t", "app/a/p/old/x", "app/b/p/old", "app/a/q/old", "uplink/a"];
    let consumers = consumers.map(str::to_owned);
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
fn invalid_metadata_is_named_with_its_remedy() {
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
    for (topic, told) in [("dead/#", "wildcard #"), ("+", "wildcard +"), ("a\u{7}", "U+0007")] {
        let spec = SubscriptionSpec { dead_letter_topic: Some(topic.into()), ..to("t", "/r") };
        let (subscriptions, warnings) = accept(DeclaredByApp(vec![spec]));
        assert!(subscriptions.is_empty());
        assert!(warnings[0].contains(told) && warnings[0].contains("p/t"), "{}", warnings[0]);
    }
}
