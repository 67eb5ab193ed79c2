//! The end: bounded, whatever the app does, and without a loss.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use tests::{App, Device, until};

fn orders() -> Value {
    json!([{ "pubsubname": "pubsub", "topic": "orders", "route": "/orders" }])
}

/// A device with three messages, the first of which hangs at the app.
fn hung(app: &App, grace: &str) -> Device {
    app.will_hang("/orders");
    let flags = ["--dapr-graceful-shutdown-seconds", grace];
    let device = Device::new().with_app(app).with_flags(&flags).started();
    device.wait_for_app();
    device.save("a", &json!(1));
    (0..3).for_each(|n| device.publish("orders", &json!(n)));
    assert_eq!(app.wait_for("/orders", 1).len(), 1);
    device
}

/// Nothing was acknowledged but the state: all the messages come again.
fn assert_nothing_is_lost(device: &mut Device, app: &App) {
    device.start();
    assert_eq!(device.get("/v1.0/state/statestore/a").json(), json!(1));
    let received = app.wait_for("/orders", 4);
    let data: Vec<&Value> = received.iter().map(|received| &received.event["data"]).collect();
    assert_eq!(data, [0, 0, 1, 2]);
}

#[test]
fn an_app_that_hangs_does_not_hold_up_the_end_beyond_its_bound() {
    let app = App::start(orders());
    let mut device = hung(&app, "1");
    assert_eq!(device.stop().code(), Some(0));
    assert!(device.log().contains("shutdown took too long"), "{}", device.log());
    assert_nothing_is_lost(&mut device, &app);
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let app = App::start(orders());
    let mut device = hung(&app, "100000");
    device.terminate();
    until("the shutdown begins", || {
        Some(()).filter(|()| device.log().contains("shutdown has begun"))
    });
    assert!(device.is_running());
    assert_eq!(device.stop().code(), Some(1));
    assert_nothing_is_lost(&mut device, &app);
}

#[test]
fn a_delivery_under_way_is_finished_before_the_end() {
    let app = App::start(orders());
    let mut device = Device::new().with_app(&app).started();
    device.wait_for_app();
    (0..50).for_each(|n| device.publish("orders", &json!(n)));
    assert_eq!(device.stop().code(), Some(0));
    device.start();
    device.publish("orders", &json!(50));
    let is_last = |event: &Value| event["data"] == 50;
    let received = until("the last message comes", || {
        let received = app.wait_for("/orders", 51);
        Some(received).filter(|received| received.iter().any(|one| is_last(&one.event)))
    });
    let data: Vec<i64> = received.iter().map(|one| one.event["data"].as_i64().unwrap()).collect();
    assert_eq!(data, (0..=50).collect::<Vec<_>>(), "none is lost, none comes twice");
}
