//! Pub/sub: what is published reaches the app, whatever happens in between.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use tests::app::Received;
use tests::{App, Device};

fn orders() -> Value {
    json!([{ "pubsubname": "pubsub", "topic": "orders", "route": "/orders" }])
}

fn with_dead_letters() -> Value {
    json!([
        { "pubsubname": "pubsub", "topic": "orders", "route": "/orders", "deadLetterTopic": "dead" },
        { "pubsubname": "pubsub", "topic": "dead", "route": "/dead" },
    ])
}

fn data(received: &[Received]) -> Vec<i64> {
    received.iter().map(|received| received.event["data"]["n"].as_i64().unwrap()).collect()
}

fn publish(device: &Device, numbers: std::ops::Range<i64>) {
    numbers.for_each(|n| device.publish("orders", &json!({ "n": n })));
}

#[test]
fn an_app_gets_cloud_events_in_the_order_of_their_publishing() {
    let app = App::start(orders());
    let device = Device::new().with_app(&app).started();
    device.wait_for_app();
    publish(&device, 0..50);
    let received = app.wait_for("/orders", 50);
    assert_eq!(data(&received), (0..50).collect::<Vec<_>>());
    let first = &received[0];
    assert_eq!(first.header("content-type"), Some("application/cloudevents+json"));
    for (name, value) in [
        ("specversion", "1.0"),
        ("type", "com.dapr.event.sent"),
        ("source", tests::device::APP_ID),
        ("topic", "orders"),
        ("pubsubname", "pubsub"),
        ("datacontenttype", "application/json"),
    ] {
        assert_eq!(first.event[name], value, "{name}");
    }
    assert_ne!(first.event["id"], received[1].event["id"]);
}

#[test]
fn texts_and_bytes_arrive_as_what_they_are() {
    let app = App::start(orders());
    let device = Device::new().with_app(&app).started();
    let path = "/v1.0/publish/pubsub/orders";
    for (kind, body) in [("text/plain", &b"hello"[..]), ("application/octet-stream", &[0, 159])] {
        let answer = device.send("POST", path, &[("Content-Type", kind)], body).unwrap();
        assert_eq!(answer.status, 204);
    }
    let received = app.wait_for("/orders", 2);
    assert_eq!(received[0].event["data"], "hello");
    assert_eq!(received[1].event["data_base64"], "AJ8=");
}

#[test]
fn a_bulk_is_published_in_its_order() {
    let app = App::start(orders());
    let device = Device::new().with_app(&app).started();
    device.wait_for_app();
    let entries: Vec<Value> = (0..20)
        .map(|n| json!({ "entryId": n.to_string(), "event": { "n": n }, "contentType": "application/json" }))
        .collect();
    let answer = device.post("/v1.0/publish/bulk/pubsub/orders", &json!(entries));
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert_eq!(data(&app.wait_for("/orders", 20)), (0..20).collect::<Vec<_>>());
}

#[test]
fn an_app_that_was_away_gets_what_it_missed() {
    let app = App::start(orders());
    let port = app.port();
    let mut device = Device::new().with_app(&app).started();
    device.wait_for_app();
    assert!(device.stop().success());
    drop(app);
    device.start();
    publish(&device, 0..10);
    let app = App::start_at(port, orders());
    assert_eq!(data(&app.wait_for("/orders", 10)), (0..10).collect::<Vec<_>>());
}

#[test]
fn an_app_that_goes_and_comes_back_gets_what_it_missed() {
    let app = App::start(orders());
    let port = app.port();
    let device = Device::new().with_app(&app).started();
    device.wait_for_app();
    publish(&device, 0..5);
    assert_eq!(data(&app.wait_for("/orders", 5)), (0..5).collect::<Vec<_>>());
    drop(app);
    publish(&device, 5..10);
    let app = App::start_at(port, orders());
    // An answer that was lost with the app makes a repeat of what came before.
    let received = app.wait_for("/orders", 5);
    let last = data(&received).split_off(received.len() - 5);
    let received = if last.last() == Some(&9) { received } else { app.wait_for("/orders", 6) };
    assert!(data(&received).ends_with(&[5, 6, 7, 8, 9]), "{:?}", data(&received));
}

#[test]
fn what_an_app_wants_again_comes_again_before_the_next() {
    let app = App::start(orders());
    app.will_answer("/orders", 200, r#"{"status":"RETRY"}"#);
    app.will_answer("/orders", 200, r#"{"status":"SUCCESS"}"#);
    let device = Device::new().with_app(&app).started();
    device.wait_for_app();
    publish(&device, 0..2);
    let received = app.wait_for("/orders", 3);
    assert_eq!(data(&received), [0, 0, 1]);
    assert_eq!(received[0].event["id"], received[1].event["id"]);
}

#[test]
fn what_an_app_drops_goes_to_the_dead_letter_topic() {
    let app = App::start(with_dead_letters());
    app.will_answer("/orders", 200, r#"{"status":"DROP"}"#);
    app.will_answer("/orders", 404, "");
    let device = Device::new().with_app(&app).started();
    device.wait_for_app();
    publish(&device, 0..3);
    let (dead, orders) = (app.wait_for("/dead", 2), app.wait_for("/orders", 3));
    assert_eq!(data(&dead), [0, 1]);
    assert_eq!(data(&orders), [0, 1, 2]);
    // The event is forwarded as it is, with the reason: whoever looks into it finds the one that
    // was refused.
    for ((letter, order), reason) in dead.iter().zip(&orders).zip(["DROP", "404"]) {
        let mut event = order.event.clone();
        event["deadletterreason"] = json!(format!("the app answered {reason}"));
        assert_eq!(letter.event, event);
    }
}

#[test]
fn what_is_published_outlives_sigkill() {
    let app = App::start(orders());
    let port = app.port();
    let mut device = Device::new().with_app(&app).started();
    device.wait_for_app();
    drop(app);
    publish(&device, 0..20);
    device.kill();
    device.start();
    publish(&device, 20..30);
    device.kill();
    device.start();
    let app = App::start_at(port, orders());
    assert_eq!(data(&app.wait_for("/orders", 30)), (0..30).collect::<Vec<_>>());
}

#[test]
fn what_an_app_has_acknowledged_does_not_come_again_after_a_graceful_end() {
    let app = App::start(orders());
    let mut device = Device::new().with_app(&app).started();
    device.wait_for_app();
    publish(&device, 0..10);
    assert_eq!(app.wait_for("/orders", 10).len(), 10);
    assert!(device.stop().success());
    device.start();
    publish(&device, 10..11);
    assert_eq!(data(&app.wait_for("/orders", 11)), (0..11).collect::<Vec<_>>());
}

#[test]
fn a_declared_subscription_routes_by_what_is_in_the_event() {
    let resource = r#"
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata: {name: readings}
spec:
  pubsubname: pubsub
  topic: readings
  routes:
    rules:
      - {match: event.data.level == "alarm", path: /alarms}
    default: /readings
"#;
    let app = App::start(json!([]));
    let device = Device::new().with_app(&app).with_resource("readings.yaml", resource).started();
    device.wait_for_app();
    device.publish("readings", &json!({ "level": "normal" }));
    device.publish("readings", &json!({ "level": "alarm" }));
    assert_eq!(app.wait_for("/readings", 1)[0].event["data"]["level"], "normal");
    assert_eq!(app.wait_for("/alarms", 1)[0].event["data"]["level"], "alarm");
}
