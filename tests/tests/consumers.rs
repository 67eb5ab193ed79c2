//! Consumers that files, flags or apps no longer name: what waits for them stays until it is
//! forgotten, and goes on where it was when they are back.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use tests::binary::{self, Finished};
use tests::http::Client;
use tests::ledger::first_arrivals;
use tests::{App, Broker, Device, Subscriber, until};

const SHORT: &str = "apiVersion: pannier.dev/v1\nkind: Node\nspec:\n  limits:\n    \
                     unclaimedRetention: 1s\n    checkpointInterval: 1s\n";

fn uplink(name: &str, port: u16, pubsub: &str, topic: &str) -> String {
    format!(
        "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {{name: {name}}}\nspec:\n  \
         backoff: {{initial: 50ms, max: 200ms}}\n  mqtt: {{url: \"mqtt://127.0.0.1:{port}\"}}\n  \
         routes:\n    - {{pubsub: {pubsub}, topic: \"{topic}\", to: \"fleet/{{topic}}\", format: raw}}\n"
    )
}

fn component(name: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\n\
         spec: {{type: pubsub.redb, version: v1}}\n"
    )
}

fn forget(device: &Device, words: &[&str]) -> Finished {
    let data = device.data().display().to_string();
    binary::run(&[&["forget", "--data-dir", &data], words].concat())
}

fn publish(device: &Device, topic: &str, numbers: std::ops::Range<u32>) {
    numbers.for_each(|n| device.publish(topic, &json!(n)));
}

fn unclaimed(device: &Device, topic: &str) -> u64 {
    device.stream(topic).lost.unclaimed
}

/// Waits until one line of the log has all of these words.
fn wait_for_line(device: &Device, words: &[&str]) {
    until(&format!("a line with {words:?}"), || {
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        device.log().lines().any(has_all).then_some(())
    });
}

fn orders() -> Value {
    json!([{ "pubsubname": "pubsub", "topic": "orders", "route": "/orders" }])
}

/// A device with 10 messages for the broker is started with that uplink instead, and then with the
/// right one again.
fn survives(wrong: impl Fn(u16) -> String) {
    let mut broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "fleet/#");
    broker.stop();
    let right = uplink("up", broker.port(), "pubsub", "s/#");
    let components = ["pubsub", "other"].map(component).join("---\n");
    let mut device = Device::new()
        .with_resource("node.yaml", SHORT)
        .with_resource("components.yaml", &components)
        .with_resource("uplink.yaml", &right)
        .started();
    publish(&device, "s/a", 0..10);
    assert!(device.stop().success());
    let mut device = device.with_resource("uplink.yaml", &wrong(broker.port())).started();
    until("the backlog is shown as unmatched", || {
        (device.consumer("uplink/up").unmatched == 10).then_some(())
    });
    wait_for_line(&device, &["topics that the consumer no longer matches", "messages=10"]);
    publish(&device, "s/b", 0..1);
    until("what nobody asked for is gone", || (unclaimed(&device, "s/b") == 1).then_some(()));
    assert!(device.stop().success());
    let device = device.with_resource("uplink.yaml", &right).started();
    until("the backlog waits to be delivered", || {
        (device.consumer("uplink/up").backlog == 10).then_some(())
    });
    broker.start();
    let received = subscriber.wait_for("10 messages", |received| received.len() >= 10);
    let arrived = first_arrivals(&received).remove("fleet/s/a").unwrap();
    assert_eq!(arrived, (0..10).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn a_mistyped_route_loses_nothing_and_the_right_one_delivers_it() {
    survives(|port| uplink("up", port, "pubsub", "s"));
}

#[test]
fn a_route_to_a_renamed_component_loses_nothing_and_the_right_one_delivers_it() {
    survives(|port| uplink("up", port, "other", "s/#"));
}

#[test]
fn a_removed_uplink_keeps_its_backlog_collects_nothing_new_and_is_named() {
    let right = uplink("up", 9, "pubsub", "#");
    let mut device = Device::new()
        .with_resource("node.yaml", SHORT)
        .with_resource("uplink.yaml", &right)
        .started();
    publish(&device, "s/a", 0..10);
    device.kill();
    let mut device = device.with_resource("uplink.yaml", "").started();
    publish(&device, "s/a", 10..15);
    until("what nobody claims is gone", || (unclaimed(&device, "s/a") == 5).then_some(()));
    let up = device.consumer("uplink/up");
    let inactive = up.inactive.unwrap();
    assert_eq!((up.backlog, inactive.reason.as_str()), (10, "not configured"));
    assert_eq!(inactive.kept_for_ms, None, "an uplink's is kept for ever");
    let metrics = Client::new(device.metrics_port()).send("GET", "/metrics", &[], &[]).unwrap();
    assert!(metrics.text().contains("pannier_consumer_inactive{consumer=\"uplink/up\"} 1"));
    wait_for_line(&device, &["consumer is not in use any more", "uplink/up"]);
    device.kill();
    let device = device.with_resource("uplink.yaml", &right).started();
    until("the uplink goes on", || {
        let up = device.consumer("uplink/up");
        (up.inactive.is_none() && up.backlog == 10).then_some(())
    });
    wait_for_line(&device, &["consumer is back", "missed=5"]);
}

#[test]
fn one_wrong_answer_of_an_app_costs_it_nothing() {
    let app = App::start(orders());
    let port = app.port();
    let mut device = Device::new().with_resource("node.yaml", SHORT).with_app(&app).started();
    device.wait_for_app();
    drop(app);
    publish(&device, "orders", 0..5);
    let app = App::start_at(port, json!([]));
    until("the subscription is inactive", || {
        let inactive = device.consumer("app/tester/pubsub/orders").inactive?;
        (inactive.reason == "not subscribed").then_some(())
    });
    publish(&device, "orders", 5..10);
    let orders = device.consumer("app/tester/pubsub/orders");
    assert_eq!((orders.backlog, orders.inactive.unwrap().collecting), (10, true));
    device.kill();
    drop(app);
    let app = App::start_at(port, self::orders());
    device.start();
    let received = app.wait_for("/orders", 10);
    let data: Vec<Value> = received.iter().map(|one| one.event["data"].clone()).collect();
    assert_eq!(data, (0..10).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn a_subscription_of_an_app_that_is_no_longer_called_can_be_forgotten() {
    let app = App::start(orders());
    let mut device = Device::new().with_app(&app).started();
    device.wait_for_app();
    drop(app);
    publish(&device, "orders", 0..3);
    device.kill();
    let device = Device::new().with_data_of(&device).started();
    let orders = device.consumer("app/tester/pubsub/orders");
    assert_eq!(orders.inactive.unwrap().reason, "not configured");
    publish(&device, "orders", 3..5);
    let done = forget(&device, &["app/tester/pubsub/orders"]);
    assert!(done.said.contains("3 messages deleted"), "{}", done.said);
}

#[test]
fn forgetting_takes_the_name_as_it_is_shown_and_says_what_it_did() {
    let app = App::start(json!([
        { "pubsubname": "pubsub", "topic": "orders", "route": "/orders" },
        { "pubsubname": "pubsub", "topic": "orders?x", "route": "/x" },
        { "pubsubname": "pubsub", "topic": "sensors/#", "route": "/sensors" },
    ]));
    let port = app.port();
    let device = Device::new()
        .with_resource("uplink.yaml", &uplink("up", 9, "pubsub", "sensors/a"))
        .with_app(&app)
        .started();
    device.wait_for_app();
    drop(app);
    publish(&device, "orders", 0..3);
    publish(&device, "sensors/a", 0..7);
    publish(&device, "sensors/b", 0..5);
    let in_use = forget(&device, &["app/tester/pubsub/sensors/#"]);
    assert_eq!(in_use.code, Some(1));
    assert!(
        in_use.said.contains("is in use") && in_use.said.contains("--force"),
        "{}",
        in_use.said
    );
    let _app = App::start_at(port, orders());
    until("two are inactive", || {
        device.consumer("app/tester/pubsub/sensors/#").inactive.map(|_| ())
    });
    let done = forget(&device, &["app/tester/pubsub/sensors/#"]);
    assert_eq!(done.code, Some(0), "{}", done.said);
    let expected = "forgot app/tester/pubsub/sensors/#: 5 messages deleted (nobody else waits for \
                    them), 7 stay for others";
    assert_eq!(done.said.trim(), expected);
    assert_eq!(unclaimed(&device, "sensors/b"), 5);
    assert_eq!(forget(&device, &["app/tester/pubsub/orders?x"]).code, Some(0));
    let orders = device.consumer("app/tester/pubsub/orders");
    assert_eq!(orders.inactive, None, "`orders?x` is another");
    let unknown = forget(&device, &["app/tester/pubsub/nothing"]);
    assert!(unknown.code == Some(1) && unknown.said.contains("no consumer"), "{}", unknown.said);
}

#[test]
fn a_consumer_in_use_that_is_forgotten_by_force_goes_on_with_the_next_message() {
    let mut broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "fleet/#");
    broker.stop();
    let up = uplink("up", broker.port(), "pubsub", "#");
    let device = Device::new().with_resource("uplink.yaml", &up).started();
    publish(&device, "s/a", 0..300);
    let done = forget(&device, &["uplink/up", "--force"]);
    assert!(done.said.contains("300 messages deleted"), "{}", done.said);
    assert_eq!(device.consumer("uplink/up").backlog, 0);
    publish(&device, "s/a", 300..305);
    broker.start();
    let received = subscriber.wait_for("5 messages", |received| received.len() >= 5);
    let arrived = first_arrivals(&received).remove("fleet/s/a").unwrap();
    assert_eq!(arrived, (300..305).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn a_store_that_is_full_names_who_holds_the_space() {
    let bus = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: pubsub}\n\
               spec: {type: pubsub.redb, version: v1, metadata: [{name: maxMessages, value: 10}]}\n";
    let mut device = Device::new()
        .with_resource("bus.yaml", bus)
        .with_resource("uplink.yaml", &uplink("up", 9, "pubsub", "#"))
        .started();
    publish(&device, "s/a", 0..10);
    device.kill();
    let device = device.with_resource("uplink.yaml", "").started();
    let refused = device.post("/v1.0/publish/pubsub/s/a", &json!(10));
    assert_eq!(refused.status, 507);
    let text = refused.text();
    assert!(text.contains("10 messages wait for uplink/up, which is not in use"), "{text}");
    wait_for_line(&device, &["no room, what needs it is refused", "uplink/up"]);
}

#[test]
fn a_component_that_is_gone_with_its_messages_is_named_at_the_start() {
    let mut device = Device::new().with_resource("bus.yaml", &component("pubsub")).started();
    publish(&device, "s/a", 0..3);
    device.save("k", &json!(1));
    device.kill();
    let store = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: store}\n\
                 spec: {type: state.redb, version: v1}\n";
    let device = device.with_resource("bus.yaml", &component("bus")).with_resource("s.yaml", store);
    let device = device.started();
    wait_for_line(
        &device,
        &["component is gone and holds messages", "component=\"pubsub\"", "messages=3"],
    );
    wait_for_line(
        &device,
        &["component is gone and holds keys", "component=\"statestore\"", "keys=1"],
    );
}
