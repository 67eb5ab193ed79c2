//! The slots of an app: it gets what it can take, in turns, and nothing else is read from the store.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use runtime::admin::AppReadiness;
use serde_json::{Value, json};
use tests::app::Received;
use tests::http::Client;
use tests::{App, Device, binary, until};

/// The path of all subscriptions here, so that an app sees their messages in the order they come in.
const ROUTE: &str = "/all";

/// Bytes of a large message.
const LARGE: usize = 200_000;

/// Topics that hold one large message each.
const TOPICS: usize = 400;

/// KiB that a debug build may take while 80 MB wait.
const SMALL: u64 = 60 << 10;

const HEALTH_CHECK: [&str; 5] = [
    "--enable-app-health-check",
    "--app-health-check-path=/healthz",
    "--app-health-probe-interval=1",
    "--app-health-probe-timeout=500",
    "--app-health-threshold=1",
];

const IN_MEMORY: &str = "apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: statestore}
spec: {type: state.in-memory, version: v1}
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: pubsub}
spec: {type: pubsub.in-memory, version: v1}
";

fn subscription(topic: &str, more: &Value) -> Value {
    let mut subscription = json!({ "pubsubname": "pubsub", "topic": topic, "route": ROUTE });
    subscription.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    subscription
}

fn concurrent(topic: &str, calls: &str) -> Value {
    subscription(topic, &json!({ "metadata": { "concurrency": calls } }))
}

/// Publishes messages in one call.
fn publish_many(device: &Device, topic: &str, count: usize) {
    let entry = |n: usize| json!({ "entryId": n.to_string(), "event": n.to_string(), "contentType": "text/plain" });
    let entries: Vec<Value> = (0..count).map(entry).collect();
    let answer = device.post(&format!("/v1.0/publish/bulk/pubsub/{topic}"), &json!(entries));
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn topics(received: &[Received]) -> Vec<&str> {
    received.iter().map(|received| received.event["topic"].as_str().unwrap()).collect()
}

fn wait_until_unhealthy(device: &Device) {
    until("the app is found unhealthy", || {
        Some(()).filter(|()| device.status().apps[0].state == AppReadiness::Unhealthy)
    });
}

#[test]
fn messages_for_an_unhealthy_app_wait_without_counting_as_tried() {
    let bounded = json!({ "deadLetterTopic": "dead", "metadata": { "maxRetries": "1" } });
    let app = App::start(json!([subscription("orders", &bounded), concurrent("dead", "1")]));
    app.set_health(200);
    let device = Device::new().with_app(&app).with_flags(&HEALTH_CHECK).started();
    device.wait_for_app();
    device.publish("orders", &json!(0));
    assert_eq!(app.wait_for(ROUTE, 1).len(), 1);
    app.set_health(503);
    wait_until_unhealthy(&device);
    // An app that is called although it is unhealthy refuses.
    (0..100).for_each(|_| app.will_answer(ROUTE, 500, ""));
    (1..=20).for_each(|n| device.publish("orders", &json!(n)));
    let consumer = device.consumer("app/tester/pubsub/orders");
    assert_eq!((consumer.backlog, consumer.deliveries.refused), (20, 0), "{consumer:?}");
    app.forget_answers();
    app.set_health(200);
    let received = app.wait_for(ROUTE, 21);
    let data: Vec<&Value> = received.iter().map(|received| &received.event["data"]).collect();
    assert_eq!(data, (0..=20).collect::<Vec<_>>());
    let attempts: Vec<_> = received.iter().map(|one| one.header("pannier-attempt")).collect();
    assert_eq!(attempts, [Some("1"); 21]);
    let consumer = device.consumer("app/tester/pubsub/orders");
    assert_eq!((consumer.deliveries.refused, consumer.deliveries.rejected), (0, 0));
    assert!(device.store().streams.iter().all(|stream| stream.topic != "dead"));
}

/// 400 large messages wait for an app that takes one call at a time, and doesn't answer it.
#[test]
fn memory_stays_small_while_large_messages_of_many_topics_wait_for_a_hung_app() {
    let names: Vec<String> = (0..TOPICS).map(|number| format!("t-{number}")).collect();
    let subscriptions: Value = names.iter().map(|name| subscription(name, &json!({}))).collect();
    let app = App::start(subscriptions.clone());
    app.hang();
    let port = app.port();
    let flags = ["--app-max-concurrency", "1"];
    let device = Device::new().with_app(&app).with_flags(&flags).started();
    device.wait_for_app();
    let idle = device.resident_kib();
    let data = json!("x".repeat(LARGE));
    names.iter().for_each(|name| device.publish(name, &data));
    assert_eq!(app.wait_for(ROUTE, 1).len(), 1);
    let waiting = device.resident_kib();
    let peak = device.peak_kib();
    drop(app);
    let app = App::start_at(port, subscriptions);
    let received = app.wait_for(ROUTE, TOPICS);
    let mut topics = topics(&received);
    topics.sort_unstable();
    topics.dedup();
    assert_eq!(topics.len(), TOPICS);
    let drained = device.peak_kib();
    println!(
        "KiB: {idle} idle, {waiting} while 80 MB wait, {peak} at most; {drained} at most once it \
         is drained"
    );
    assert!(drained < SMALL, "{drained} KiB");
}

#[test]
fn a_hung_app_without_a_limit_leaves_files_for_others() {
    let app = App::start(json!([concurrent("a", "1000"), concurrent("b", "1000")]));
    app.hang();
    let device = Device::new().with_app(&app).with_file_limit(1184).started();
    device.wait_for_app();
    ["a", "b"].iter().for_each(|topic| publish_many(&device, topic, 2_000));
    assert_eq!(app.wait_for(ROUTE, 100).len(), 100);
    assert_eq!(device.get("/v1.0/metadata").status, 200);
    device.save("a", &json!(1));
    let data = device.data().to_str().unwrap();
    let status = binary::run(&["status", "--data-dir", data]);
    assert_eq!(status.code, Some(0), "{}", status.said);
    let waiting = ["a", "b"].map(|topic| device.consumer(&format!("app/tester/pubsub/{topic}")));
    assert_eq!(waiting.map(|consumer| consumer.backlog), [2_000, 2_000]);
    assert_eq!((app.most_at_once(), app.most_connections()), (100, 100));
    let excess = "asks for more calls at once than its app gets";
    assert_eq!(device.log().matches(excess).count(), 2, "{}", device.log());
}

#[test]
fn a_subscription_within_the_limit_of_its_app_is_no_warning() {
    let app = App::start(json!([concurrent("a", "100"), concurrent("b", "1")]));
    let device = Device::new().with_app(&app).started();
    device.wait_for_app();
    assert!(!device.log().contains("more calls at once"), "{}", device.log());
}

#[test]
fn subscriptions_of_one_app_take_turns() {
    let subscriptions = json!([concurrent("a", "1"), concurrent("b", "1")]);
    let app = App::start(subscriptions.clone());
    let port = app.port();
    let flags = ["--app-max-concurrency", "1"];
    let device = Device::new().with_app(&app).with_flags(&flags).started();
    device.wait_for_app();
    drop(app);
    ["a", "b"].iter().for_each(|topic| publish_many(&device, topic, 200));
    let app = App::start_at(port, subscriptions);
    let received = app.wait_for(ROUTE, 400);
    let order = topics(&received).concat();
    // One that is ready a moment late misses a turn, not its place.
    let both_wait = &order[..order.rfind("ab").unwrap()];
    for topic in ["a", "b"] {
        assert!(!both_wait.contains(&topic.repeat(4)), "{order}");
    }
    assert_eq!(app.most_at_once(), 1);
}

/// The names of the files that a store has.
fn store_files(data: &Path) -> Vec<String> {
    let names = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name != "lock" && name != "control.sock").collect()
}

#[test]
fn a_device_in_memory_alone_has_no_store() {
    let app = App::start(json!([concurrent("orders", "1")]));
    let mut device = Device::new().with_app(&app).with_resource("memory.yaml", IN_MEMORY);
    // The second start finds what the first one has left.
    for start in 1..=2 {
        device.start();
        device.wait_for_app();
        device.save("a", &json!(1));
        assert_eq!(device.get("/v1.0/state/statestore/a").json(), json!(1));
        device.publish("orders", &json!(start));
        assert_eq!(app.wait_for(ROUTE, start).len(), start);
        assert!(device.status().store.is_none());
        let metrics = Client::new(device.metrics_port()).send("GET", "/metrics", &[], &[]).unwrap();
        assert!(metrics.text().contains("dapr_http_server_request_count"), "{}", metrics.text());
        let data = device.data().to_str().unwrap();
        let status = binary::run(&["status", "--data-dir", data]);
        assert_eq!(status.code, Some(0), "{}", status.said);
        assert!(status.said.contains("in memory only"), "{}", status.said);
        let consumer = "app/tester/pubsub/orders";
        for command in ["forget", "retry"] {
            let finished = binary::run(&[command, consumer, "--data-dir", data]);
            assert_eq!(finished.code, Some(1), "{}", finished.said);
            assert!(finished.said.contains("there is no consumer"), "{}", finished.said);
        }
        assert_eq!(device.stop().code(), Some(0));
        assert_eq!(store_files(device.data()), [""; 0]);
    }
}

#[test]
fn a_store_that_is_there_is_opened_although_no_component_needs_it() {
    let mut durable = Device::new().started();
    durable.save("a", &json!(1));
    durable.publish("t", &json!(1));
    assert_eq!(durable.stop().code(), Some(0));
    assert_ne!(store_files(durable.data()), [""; 0]);
    let device =
        Device::new().with_data_of(&durable).with_resource("memory.yaml", IN_MEMORY).started();
    assert_eq!(device.stream("t").messages, 1);
    for told in ["component is gone and holds messages", "component is gone and holds keys"] {
        assert!(device.log().contains(told), "{told} is not in:\n{}", device.log());
    }
}
