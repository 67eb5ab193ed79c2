//! How an app gets its messages: what subscriptions, metadata and flags ask for.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use tests::http::Client;
use tests::{App, Device, until};

fn one(topic: &str, more: &Value) -> Value {
    let mut subscription =
        json!({ "pubsubname": "pubsub", "topic": topic, "route": format!("/{topic}") });
    subscription.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    subscription
}

fn component(kind: &str, metadata: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: pubsub}}\nspec:\n  \
         type: {kind}\n  version: v1\n  metadata: [{metadata}]\n"
    )
}

#[test]
fn a_bulk_subscription_gets_many_messages_in_one_call() {
    let bulk = json!({ "bulkSubscribe": {
        "enabled": true, "maxMessagesCount": 10, "maxAwaitDurationMs": 100
    }});
    let app = App::start(json!([one("orders", &bulk)]));
    let device = Device::new().with_app(&app).started();
    device.wait_for_app();
    (0..25).for_each(|n| device.publish("orders", &json!(n)));
    let data = until("25 messages come", || {
        let received = app.wait_for("/orders", 1);
        let entries = received.iter().flat_map(|call| call.event["entries"].as_array().unwrap());
        let data: Vec<Value> = entries.map(|entry| entry["event"]["data"].clone()).collect();
        Some(data).filter(|data| data.len() >= 25)
    });
    assert_eq!(data, (0..25).map(Value::from).collect::<Vec<_>>());
    let calls = app.wait_for("/orders", 1);
    assert!(calls.iter().all(|call| call.event["type"] == "com.dapr.event.sent.bulk"));
    assert!(calls.iter().all(|call| call.event["entries"].as_array().unwrap().len() <= 10));
}

#[test]
fn a_raw_subscription_gets_bytes_and_a_raw_publish_is_no_event() {
    let raw = json!({ "metadata": { "rawPayload": "true" } });
    let app = App::start(json!([one("raw", &raw), one("plain", &json!({}))]));
    let device = Device::new().with_app(&app).started();
    device.wait_for_app();
    for topic in ["raw", "plain"] {
        let path = format!("/v1.0/publish/pubsub/{topic}?metadata.rawPayload=true");
        assert_eq!(device.send("POST", &path, &[], b"\x00\x9f").unwrap().status, 204);
        let event = app.wait_for(&format!("/{topic}"), 1).remove(0).event;
        assert_eq!(event["data_base64"], "AJ8=", "{event}");
        assert_eq!(event["datacontenttype"], "application/octet-stream");
    }
}

#[test]
fn a_message_whose_time_is_over_is_not_delivered_and_counted() {
    let app = App::start(json!([one("orders", &json!({}))]));
    let port = app.port();
    let device = Device::new().with_app(&app).started();
    device.wait_for_app();
    drop(app);
    let path = "/v1.0/publish/pubsub/orders?metadata.ttlInSeconds=1";
    assert_eq!(device.post(path, &json!("short")).status, 204);
    device.publish("orders", &json!("long"));
    until("the message expires", || {
        Some(()).filter(|()| device.stream("orders").lost.expired == 1)
    });
    let app = App::start_at(port, json!([one("orders", &json!({}))]));
    let received = app.wait_for("/orders", 1);
    assert_eq!(received[0].event["data"], "long");
}

#[test]
fn a_full_topic_is_507_or_loses_what_its_policy_says_and_counts_it() {
    for (policy, third, lost, kept) in
        [("reject", 507, 0, [1, 2]), ("drop-oldest", 204, 1, [2, 3]), ("drop-new", 204, 1, [1, 2])]
    {
        let limits =
            format!("{{name: maxMessages, value: \"2\"}}, {{name: overflow, value: {policy}}}");
        let app = App::start(json!([one("orders", &json!({}))]));
        let port = app.port();
        let mut device = Device::new()
            .with_app(&app)
            .with_resource("pubsub.yaml", &component("pubsub.redb", &limits))
            .started();
        device.wait_for_app();
        assert_eq!(device.stop().code(), Some(0));
        drop(app);
        device.start();
        let publish = |n: i32| device.post("/v1.0/publish/pubsub/orders", &json!(n)).status;
        assert_eq!([publish(1), publish(2), publish(3)], [204, 204, third], "{policy}");
        assert_eq!(device.stream("orders").lost.overflowed, lost, "{policy}");
        let app = App::start_at(port, json!([one("orders", &json!({}))]));
        let received = app.wait_for("/orders", 2);
        let data: Vec<&Value> = received.iter().map(|one| &one.event["data"]).collect();
        assert_eq!(data, kept, "{policy}");
    }
}

#[test]
fn no_more_calls_are_open_than_an_app_allows() {
    let topics = ["a", "b", "c", "d"];
    let concurrent = json!({ "metadata": { "concurrency": "10" } });
    let app = App::start(topics.iter().map(|topic| one(topic, &concurrent)).collect());
    let flags = ["--app-max-concurrency", "2"];
    let device = Device::new().with_app(&app).with_flags(&flags).started();
    device.wait_for_app();
    for n in 0..20 {
        topics.iter().for_each(|topic| device.publish(topic, &json!(n)));
    }
    for topic in topics {
        assert_eq!(app.wait_for(&format!("/{topic}"), 20).len(), 20);
    }
    assert!(app.most_at_once() <= 2, "{} at once", app.most_at_once());
}

#[test]
fn scopes_of_topics_hold_for_both_directions() {
    let metadata = "{name: publishingScopes, value: \"tester=mine\"}, \
                    {name: subscriptionScopes, value: \"tester=mine\"}";
    let app = App::start(json!([one("mine", &json!({})), one("theirs", &json!({}))]));
    let device = Device::new()
        .with_app(&app)
        .with_resource("pubsub.yaml", &component("pubsub.redb", metadata))
        .started();
    device.wait_for_app();
    let answer = device.post("/v1.0/publish/pubsub/theirs", &json!(1));
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "ERR_PUBSUB_FORBIDDEN"));
    device.publish("mine", &json!(1));
    assert_eq!(app.wait_for("/mine", 1).len(), 1);
    let subscriptions = device.get("/v1.0/metadata").json()["subscriptions"].to_string();
    assert!(!subscriptions.contains("theirs"), "{subscriptions}");
}

#[test]
fn a_pubsub_in_memory_delivers_and_forgets_with_the_process() {
    let app = App::start(json!([one("orders", &json!({}))]));
    let port = app.port();
    let mut device = Device::new()
        .with_app(&app)
        .with_resource("pubsub.yaml", &component("pubsub.in-memory", ""))
        .started();
    device.wait_for_app();
    device.publish("orders", &json!(1));
    assert_eq!(app.wait_for("/orders", 1).len(), 1);
    drop(app);
    device.publish("orders", &json!(2));
    assert_eq!(device.stop().code(), Some(0));
    let app = App::start_at(port, json!([one("orders", &json!({}))]));
    device.start();
    device.wait_for_app();
    device.publish("orders", &json!(3));
    assert_eq!(app.wait_for("/orders", 1)[0].event["data"], 3);
}

#[test]
fn an_unhealthy_app_gets_nothing_until_it_has_recovered() {
    let app = App::start(json!([one("orders", &json!({}))]));
    app.set_health(503);
    let flags = [
        "--enable-app-health-check",
        "--app-health-check-path=/healthz",
        "--app-health-probe-interval=1",
        "--app-health-probe-timeout=500",
        "--app-health-threshold=1",
    ];
    let device = Device::new().with_app(&app).with_flags(&flags).started();
    device.publish("orders", &json!(1));
    assert_eq!(device.get("/v1.0/healthz").error_code(), "ERR_HEALTH_NOT_READY");
    let health = device.get("/v1.0/metadata").json()["appConnectionProperties"]["health"].take();
    assert_eq!(health["healthProbeInterval"], "1s", "{health}");
    assert_eq!(app.most_at_once(), 0, "nothing has come");
    app.set_health(200);
    assert_eq!(app.wait_for("/orders", 1)[0].event["data"], 1);
}

#[test]
fn a_message_that_breaks_the_connection_is_tried_with_pauses_and_then_a_dead_letter() {
    let bounded = json!({ "deadLetterTopic": "dead", "metadata": { "maxRetries": "1" } });
    let app = App::start(json!([one("orders", &bounded), one("dead", &json!({}))]));
    // The first connection is kept from before, and no attempt.
    (0..3).for_each(|_| app.will_hang_up("/orders"));
    let device = Device::new().with_app(&app).started();
    device.wait_for_app();
    device.publish("orders", &json!("poison"));
    let letter = app.wait_for("/dead", 1).remove(0).event;
    assert_eq!((&letter["data"], &letter["topic"]), (&json!("poison"), &json!("orders")));
    let reason = letter["deadletterreason"].as_str().unwrap();
    assert!(reason.contains("closed the connection"), "{letter}");
    let orders = app.wait_for("/orders", 3);
    let attempts: Vec<_> = orders.iter().map(|call| call.header("pannier-attempt")).collect();
    assert_eq!(attempts, [Some("1"), Some("1"), Some("2")]);
    device.publish("orders", &json!("next"));
    assert_eq!(app.wait_for("/orders", 4)[3].event["data"], "next");
    let log = device.log();
    assert_eq!(log.matches("the app takes messages").count(), 1, "{log}");
}

#[test]
fn why_a_message_does_not_get_through_is_told_in_the_log_the_status_and_the_metrics() {
    let app = App::start(json!([one("orders", &json!({}))]));
    app.will_answer("/orders", 500, "");
    app.will_answer("/orders", 404, "");
    let device = Device::new().with_app(&app).started();
    device.wait_for_app();
    device.publish("orders", &json!("never mind the payload"));
    let name = "app/tester/pubsub/orders";
    let consumer = until("the message is dropped", || {
        Some(device.consumer(name)).filter(|consumer| consumer.deliveries.rejected == 1)
    });
    let last = consumer.last_refusal.unwrap();
    assert_eq!((last.topic.as_str(), last.sequence), ("pubsub/orders", 1));
    assert_eq!((last.attempt, last.reason.as_str()), (2, "the app answered 404"));
    assert!(last.at > 0, "{last:?}");
    let log = device.log();
    for text in ["the app answered 500", "the app answered 404", name, "pubsub/orders"] {
        assert!(log.contains(text), "{text} is missing in {log}");
    }
    assert!(!log.contains("payload"), "{log}");
    let metrics = Client::new(device.metrics_port()).send("GET", "/metrics", &[], &[]);
    let metrics = metrics.unwrap().text();
    for outcome in ["refused", "rejected"] {
        let line = format!("pannier_deliveries{{consumer=\"{name}\",outcome=\"{outcome}\"}} 1\n");
        assert!(metrics.contains(&line), "{line} is missing in {metrics}");
    }
}

#[test]
fn an_app_that_is_waited_for_is_named_once() {
    let app = App::start(json!([one("orders", &json!({}))]));
    let port = app.port();
    let device = Device::new().with_app(&app);
    drop(app);
    let device = device.started();
    until("it is waited for", || {
        Some(()).filter(|()| device.log().contains("waiting for the app"))
    });
    device.publish("orders", &json!(1));
    let app = App::start_at(port, json!([one("orders", &json!({}))]));
    assert_eq!(app.wait_for("/orders", 1)[0].event["data"], 1);
    let log = device.log();
    assert_eq!(log.matches("waiting for the app").count(), 1, "{log}");
    assert!(log.contains(&format!("127.0.0.1:{port}")), "{log}");
}
