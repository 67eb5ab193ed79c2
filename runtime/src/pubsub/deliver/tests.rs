#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use config::model::{Bulk as BulkSpec, Rule};
use serde_json::{Value, json};
use store_forward::clock::{ManualClock, Reading};
use store_forward::consumer::Message;
use store_forward::ids::{Sequence, StreamId};
use store_forward::record::{Timestamp, Topic};

use super::*;
use crate::app::tests::{FakeApp, channel, closed_port, hanging_up, options, silent};
use crate::app::{AppChannel, ChannelOptions};
use crate::pubsub::subscriptions::Source;
use crate::pubsub::tests::identity;

fn wanted() -> SubscriptionSpec {
    SubscriptionSpec {
        pubsub: "pubsub".into(),
        topic: "t".into(),
        rules: vec![Rule { matches: "event.type == 'special'".into(), path: "/special".into() }],
        default_route: Some("/normal".into()),
        ..SubscriptionSpec::default()
    }
}

fn sink(channel: AppChannel, spec: SubscriptionSpec) -> Arc<AppSink> {
    let SubscriptionSpec { rules, default_route, .. } = &spec;
    let routes = Routes::compile("pubsub/t", rules, default_route.as_deref()).unwrap();
    let subscription = Subscription { spec, source: Source::Programmatic };
    Arc::new(AppSink {
        channel: Arc::new(channel),
        settings: subscription.settings().unwrap(),
        subscription,
        routes,
        identity: identity(),
        clock: Arc::new(ManualClock::new(Reading::default(), "boot")),
        permits: Some(Arc::new(Semaphore::new(1))),
    })
}

fn delivery(sequence: u64, attributes: &[(&str, &str)]) -> Delivery {
    Delivery {
        topic: Topic::new("pubsub", "t"),
        stream: StreamId(1),
        attempt: 2,
        message: Message {
            sequence: Sequence(sequence),
            at: Timestamp::default(),
            expires_in_ms: None,
            content_type: None,
            attributes: attributes.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            key: Some("k".into()),
            priority: 0,
            data: sequence.to_string().into_bytes(),
        },
    }
}

fn kinds(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Ack => "ack",
            Outcome::Retry(_) => "retry",
            Outcome::Reject(_) => "reject",
            Outcome::Hold(_) => "hold",
            Outcome::Unreachable(_) => "unreachable",
        })
        .collect()
}

#[tokio::test]
async fn an_event_is_posted_to_its_route_with_brokers_headers() {
    let mut app = FakeApp::start().await;
    let sink = sink(app.channel(), wanted());
    let trace = [("traceparent", "00-1-2-01"), ("tracestate", "a=b"), ("type", "special")];
    assert_eq!(
        sink.deliver(Slot::new(GENERATION), vec![delivery(7, &trace)]).await,
        [Outcome::Ack]
    );
    let asked = app.asked.recv().await.unwrap();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/special"));
    for (name, value) in [
        ("content-type", "application/cloudevents+json"),
        ("traceparent", "00-1-2-01"),
        ("tracestate", "a=b"),
        ("pubsubname", "pubsub"),
        ("partitionkey", "k"),
        ("pannier-sequence", "7"),
        ("pannier-attempt", "2"),
    ] {
        assert_eq!(asked.headers[name], value, "{name}");
    }
    let event: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!((&event["data"], &event["topic"]), (&json!("7"), &json!("t")));
}

#[tokio::test]
async fn the_apps_answer_decides() {
    let app = FakeApp::start().await;
    let sink = sink(app.channel(), wanted());
    for (status, body, expected) in [
        (200, r#"{"status":"SUCCESS"}"#, "ack"),
        (200, r#"{"status":"RETRY"}"#, "retry"),
        (200, r#"{"status":"DROP"}"#, "reject"),
        (404, "", "reject"),
        (503, "", "retry"),
    ] {
        app.will_answer(status, body);
        let outcomes = sink.clone().deliver(Slot::new(GENERATION), vec![delivery(1, &[])]).await;
        assert_eq!(kinds(&outcomes), [expected], "{status} {body}");
    }
}

#[tokio::test]
async fn a_message_that_breaks_the_connection_was_tried_and_one_without_a_connection_was_not() {
    for (port, expected) in [(closed_port().await, "unreachable"), (hanging_up().await, "retry")] {
        let outcomes = sink(channel(port), wanted())
            .deliver(Slot::new(GENERATION), vec![delivery(1, &[])])
            .await;
        assert_eq!(kinds(&outcomes), [expected]);
    }
}

#[tokio::test]
async fn an_app_that_does_not_answer_in_time_is_retried() {
    let timeout = Duration::from_millis(20);
    let channel = AppChannel::new(ChannelOptions { timeout, ..options(silent().await) }).unwrap();
    let outcomes =
        sink(channel, wanted()).deliver(Slot::new(GENERATION), vec![delivery(1, &[])]).await;
    assert_eq!(kinds(&outcomes), ["retry"]);
}

#[tokio::test]
async fn a_message_that_no_rule_matches_is_rejected_without_a_call() {
    let mut app = FakeApp::start().await;
    let spec = SubscriptionSpec { default_route: None, ..wanted() };
    let outcomes =
        sink(app.channel(), spec).deliver(Slot::new(GENERATION), vec![delivery(1, &[])]).await;
    assert_eq!(kinds(&outcomes), ["reject"]);
    assert!(app.asked.try_recv().is_err());
}

#[tokio::test]
async fn a_raw_subscription_gets_binary_data() {
    let mut app = FakeApp::start().await;
    let metadata = BTreeMap::from([("rawPayload".to_owned(), "true".to_owned())]);
    let spec = SubscriptionSpec { metadata, ..wanted() };
    let raw = delivery(1, &[("rawpayload", "true")]);
    sink(app.channel(), spec).deliver(Slot::new(GENERATION), vec![raw]).await;
    let event: Value = serde_json::from_slice(&app.asked.recv().await.unwrap().body).unwrap();
    assert_eq!(event["data_base64"], json!("MQ=="));
}

#[tokio::test]
async fn a_bulk_is_one_call_for_each_run_of_messages_with_one_route() {
    let mut app = FakeApp::start().await;
    app.will_answer(
        200,
        r#"{"statuses":[{"entryId":"1-1","status":"SUCCESS"},{"entryId":"1-2","status":"DROP"}]}"#,
    );
    app.will_answer(200, r#"{"statuses":[]}"#);
    let bulk = Some(BulkSpec { max_messages: 10, max_await: Duration::from_secs(1) });
    let batch = vec![
        delivery(1, &[]),
        delivery(2, &[]),
        delivery(3, &[("type", "special")]),
        delivery(4, &[]),
    ];
    app.will_answer(404, "");
    let sink = sink(app.channel(), SubscriptionSpec { bulk, ..wanted() });
    let outcomes = sink.deliver(Slot::new(GENERATION), batch).await;
    assert_eq!(kinds(&outcomes), ["ack", "reject", "retry", "reject"]);
    let asked = app.asked.recv().await.unwrap();
    assert_eq!(
        (asked.path.as_str(), &asked.headers["content-type"]),
        ("/normal", &HeaderValue::from_static("application/json"))
    );
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(body["type"], json!("com.dapr.event.sent.bulk"));
    assert_eq!((&body["topic"], &body["pubsubname"]), (&json!("t"), &json!("pubsub")));
    let entries = body["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["entryId"], json!("1-1"));
    assert_eq!(entries[0]["event"]["data"], json!("1"));
    assert_eq!(entries[0]["contentType"], json!("application/cloudevents+json"));
    assert_eq!(app.asked.recv().await.unwrap().path, "/special");
}

#[test]
fn the_policy_keeps_strict_order_unless_concurrency_is_asked_for() {
    let mut subscription = Subscription { spec: wanted(), source: Source::Programmatic };
    let of = |subscription: &Subscription| {
        policy(subscription, &subscription.settings().unwrap(), Arc::default())
    };
    let strict = of(&subscription);
    assert_eq!((strict.window, strict.per_stream, strict.batch, strict.by_key), (1, 1, 1, false));
    assert_eq!(strict.max_attempts, None);

    let spec = &mut subscription.spec;
    spec.metadata.insert("concurrency".into(), "4".into());
    spec.bulk = Some(BulkSpec { max_messages: 10, max_await: Duration::from_secs(2) });
    spec.dead_letter_topic = Some("dead".into());
    let wide = of(&subscription);
    assert_eq!((wide.window, wide.per_stream, wide.batch, wide.by_key), (40, 4, 10, true));
    assert_eq!((wide.batch_wait, wide.max_attempts), (Duration::from_secs(2), Some(4)));
}
