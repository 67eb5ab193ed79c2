use std::time::Duration;

use crate::model::{Bulk, Rule, SubscriptionSpec};
use crate::tests::{error, resources};

fn text(version: &str, more: &str) -> String {
    format!(
        "apiVersion: dapr.io/{version}\nkind: Subscription\nmetadata: {{name: s}}\nspec:\n  \
         pubsubname: pubsub\n  topic: orders\n{more}"
    )
}

fn read(version: &str, more: &str) -> SubscriptionSpec {
    resources(&text(version, more)).subscriptions.remove(0).spec
}

#[test]
fn the_one_route_of_v1_is_the_default_route() {
    let spec = read("v1alpha1", "  route: /orders\n");
    assert_eq!(spec.default_route.as_deref(), Some("/orders"));
    assert_eq!(spec.rules, []);
}

#[test]
fn each_version_knows_its_own_routes() {
    let shown = crate::tests::errors(&text("v1alpha1", "  routes: {default: /a}\n"));
    assert_eq!(shown[1], "7: spec.routes: unknown field; did you mean route?");
    let shown = crate::tests::errors(&text("v2alpha1", "  route: /a\n"));
    assert_eq!(shown[1], "7: spec.route: unknown field; did you mean routes?");
}

#[test]
fn an_empty_match_is_the_default_and_hides_later_rules() {
    let routes = "  routes:\n    rules:\n    - {match: event.x == 1, path: /one}\n    \
                  - {match: '', path: /all}\n    - {match: event.x == 2, path: /two}\n    \
                  default: /never\n";
    let read = resources(&text("v2alpha1", routes));
    let spec = &read.subscriptions[0].spec;
    assert_eq!(spec.rules, [Rule { matches: "event.x == 1".into(), path: "/one".into() }]);
    assert_eq!(spec.default_route.as_deref(), Some("/all"));
    assert_eq!(
        read.warnings,
        [
            "a.yaml:11: spec.routes.rules[2]: never reached: a rule before it has an empty match",
            "a.yaml:7: spec.routes: the default is never reached: a rule has an empty match"
        ]
    );
}

#[test]
fn routes_without_a_route_are_refused() {
    assert!(error(&text("v2alpha1", "  routes: {}\n")).starts_with("7: spec.routes: has no route"));
    assert!(error(&text("v2alpha1", "")).starts_with("4: spec.routes: is missing"));
}

#[test]
fn bulk_subscription_has_bounds_and_daprs_defaults() {
    let bulk = |fields: &str| format!("  route: /a\n  bulkSubscribe: {{{fields}}}\n");
    assert_eq!(
        read("v1alpha1", &bulk("enabled: true")).bulk,
        Some(Bulk { max_messages: 100, max_await: Duration::from_secs(1) })
    );
    assert_eq!(read("v1alpha1", &bulk("maxMessagesCount: 5")).bulk, None);
    let shown = error(&text("v1alpha1", &bulk("enabled: true, maxMessagesCount: 10001")));
    assert!(shown.contains("10001 is not within 1 to 10000"), "{shown}");
}

#[test]
fn metadata_is_text_by_name() {
    let spec = read("v1alpha1", "  route: /a\n  metadata: {rawPayload: true, n: 5}\n");
    assert_eq!(spec.metadata["rawPayload"], "true");
    assert_eq!(spec.metadata["n"], "5");
}

#[test]
fn the_dead_letter_topic_is_one_topic() {
    for (wrong, told) in [("'a/#'", "\"a/#\" has a wildcard"), ("\"a\\x01\"", "U+0001")] {
        let more = format!("  route: /a\n  deadLetterTopic: {wrong}\n");
        let shown = error(&text("v1alpha1", &more));
        assert!(shown.starts_with("8: spec.deadLetterTopic: "), "{shown}");
        assert!(shown.contains(told), "{shown}");
    }
    let spec = read("v1alpha1", "  route: /a\n  deadLetterTopic: undeliverable\n");
    assert_eq!(spec.dead_letter_topic.as_deref(), Some("undeliverable"));
}

#[test]
fn a_topic_is_one_or_a_filter_that_something_can_match() {
    let with_topic = |topic: &str| {
        text("v1alpha1", "  route: /a\n").replace("topic: orders", &format!("topic: {topic}"))
    };
    for topic in ["orders", "'#'", "a/+/b/#", "$sys/a"] {
        resources(&with_topic(topic));
    }
    for wrong in ["a#", "a+/b", "'#/a'"] {
        let shown = error(&with_topic(wrong));
        assert!(shown.starts_with("6: spec.topic: "), "{shown}");
    }
}
