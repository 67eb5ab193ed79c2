//! The uplink: what is published on the device reaches a broker, once there is one.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use tests::ledger::first_arrivals;
use tests::subscriber::Received;
use tests::{App, Broker, Device, Subscriber, binary, until};

/// Short delays, so that a test does not wait for long.
const BACKOFF: &str = "backoff: {initial: 50ms, max: 200ms}";

fn uplink(url: &str, more: &str) -> String {
    format!(
        "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {{name: up}}\nspec:\n  {BACKOFF}\n  \
         mqtt: {{url: \"{url}\"{more}}}\n  routes:\n    - {{topic: \"sensors/#\", to: \"fleet/{{topic}}\", format: raw}}\n"
    )
}

fn plain(broker: &Broker) -> Device {
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    Device::new().with_resource("uplink.yaml", &uplink(&url, ""))
}

fn publish(device: &Device, numbers: std::ops::Range<u32>) {
    numbers.for_each(|n| device.publish("sensors/speed", &json!(n)));
}

fn has(received: &[Received], n: u32) -> bool {
    received.iter().any(|message| message.payload == n.to_string().as_bytes())
}

fn arrived(received: &[Received]) -> Vec<Value> {
    first_arrivals(received).remove("fleet/sensors/speed").unwrap_or_default()
}

fn numbers(count: u32) -> Vec<Value> {
    (0..count).map(Value::from).collect()
}

#[test]
fn what_was_published_without_a_broker_is_sent_when_there_is_one() {
    let mut broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "fleet/#");
    broker.stop();
    let device = plain(&broker).started();
    publish(&device, 0..100);
    broker.start();
    let received = subscriber.wait_for("100 messages", |received| has(received, 99));
    assert_eq!(arrived(&received), numbers(100));
    let first = &received[0];
    assert_eq!(first.topic, "fleet/sensors/speed");
    assert_eq!(first.property("pannier-stream"), "pubsub/sensors/speed");
    let node = first.property("pannier-node");
    let epoch = first.property("pannier-epoch");
    assert!(!node.is_empty() && epoch.parse::<u64>().is_ok(), "{first:?}");
    assert!(received.iter().all(|message| message.property("pannier-node") == node));
}

#[test]
fn a_broker_that_goes_in_midstream_costs_neither_messages_nor_order() {
    let mut broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "fleet/#");
    let device = plain(&broker).started();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish(&device, 0..600));
        for n in [50, 250] {
            let _ = subscriber.wait_for("the first messages", |received| has(received, n));
            broker.stop();
            broker.start();
        }
        publisher.join().unwrap();
    });
    let received = subscriber.wait_for("600 messages", |received| has(received, 599));
    assert_eq!(arrived(&received), numbers(600));
}

#[test]
fn what_the_broker_has_is_not_sent_again_after_a_graceful_end() {
    let broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "fleet/#");
    let mut device = plain(&broker).started();
    publish(&device, 0..20);
    let _ = subscriber.wait_for("20 messages", |received| has(received, 19));
    assert!(device.stop().success());
    device.start();
    publish(&device, 20..21);
    let received = subscriber.wait_for("the last message", |received| has(received, 20));
    assert_eq!(arrived(&received), numbers(21));
    assert!(received.len() <= 22, "{} messages were sent for 21", received.len());
}

#[test]
fn what_waits_for_the_broker_outlives_sigkill() {
    let mut broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "fleet/#");
    broker.stop();
    let mut device = plain(&broker).started();
    publish(&device, 0..30);
    device.kill();
    broker.start();
    device.start();
    publish(&device, 30..60);
    let received = subscriber.wait_for("60 messages", |received| has(received, 59));
    assert_eq!(arrived(&received), numbers(60));
}

#[test]
fn tls_with_a_ca_of_ones_own_is_spoken() {
    let broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "fleet/#");
    let url = format!("mqtts://localhost:{}", broker.tls_port());
    let ca = format!(", caCert: \"{}\"", broker.ca_certificate().display());
    let device = Device::new().with_resource("uplink.yaml", &uplink(&url, &ca)).started();
    publish(&device, 0..10);
    let received = subscriber.wait_for("10 messages", |received| has(received, 9));
    assert_eq!(arrived(&received), numbers(10));
}

#[test]
fn mqtt_3_1_1_is_spoken_where_it_is_asked_for() {
    let broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "fleet/#");
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let resource = uplink(&url, ", version: 3.1.1");
    let device = Device::new().with_resource("uplink.yaml", &resource).started();
    publish(&device, 0..10);
    let received = subscriber.wait_for("10 messages", |received| has(received, 9));
    let payloads: Vec<_> = received.iter().map(|message| message.payload.clone()).collect();
    let expected: Vec<_> = (0..10).map(|n| n.to_string().into_bytes()).collect();
    assert_eq!(payloads, expected);
}

#[test]
fn a_cloud_event_goes_up_unless_the_payload_alone_is_asked_for() {
    let broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "sensors/#");
    let resource = format!(
        "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {{name: up}}\nspec:\n  \
         mqtt: {{url: \"mqtt://127.0.0.1:{}\"}}\n  routes: [{{topic: \"sensors/+\"}}]\n",
        broker.port()
    );
    let device = Device::new().with_resource("uplink.yaml", &resource).started();
    publish(&device, 7..8);
    let received = subscriber.wait_for("one message", |received| !received.is_empty());
    let event: Value = serde_json::from_slice(&received[0].payload).unwrap();
    assert_eq!((&event["data"], &event["topic"]), (&json!(7), &json!("sensors/speed")));
}

#[test]
fn what_comes_down_reaches_an_app() {
    let broker = Broker::started();
    let sender = Subscriber::start(broker.port(), "nothing");
    sender.publish_retained("fleet/commands/stop", r#"{"now":true}"#);
    let commands = json!([{ "pubsubname": "pubsub", "topic": "commands", "route": "/commands" }]);
    let app = App::start(commands);
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let downlinks = "  downlinks: [{from: \"fleet/commands/#\", to: commands}]\n";
    let resource = uplink(&url, "") + downlinks;
    let device = Device::new().with_app(&app).with_resource("uplink.yaml", &resource).started();
    device.wait_for_app();
    let received = app.wait_for("/commands", 1);
    let data = &received[0].event["data"];
    let text = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
    assert_eq!(text, r#"{"now":true}"#);
}

#[test]
fn a_message_over_the_brokers_maximum_is_held_until_the_broker_takes_more() {
    let mut broker = Broker::new();
    broker.limit_packets(Some(2000));
    broker.start();
    let subscriber = Subscriber::start(broker.port(), "fleet/#");
    let device = plain(&broker).started();
    let large = "x".repeat(3000);
    device.publish("sensors/speed", &json!(large));
    publish(&device, 0..5);
    let received = subscriber.wait_for("the small messages", |received| has(received, 4));
    assert_eq!(arrived(&received), numbers(5));
    let consumer = || device.consumer("uplink/up");
    until("what passed is written down", || Some(()).filter(|()| consumer().backlog == 1));
    let holding = consumer();
    assert_eq!(holding.held, 1, "{holding:?}");
    assert!(holding.held_reason.unwrap().contains("2000"));
    let stream = device.stream("sensors/speed");
    assert_eq!((stream.messages, stream.lost.too_large), (1, 0));
    let log = device.log();
    assert_eq!(log.matches("message is held").count(), 1, "{log}");
    assert!(!log.contains("xxx"), "{log}");

    let data = device.data().display().to_string();
    let retry = |name: &str| binary::run(&["retry", name, "--data-dir", &data]);
    let told = retry("uplink/up");
    assert_eq!((told.code, told.said.trim()), (Some(0), "uplink/up tries 1 held message again"));
    let told = retry("uplink/down");
    assert_eq!(told.code, Some(1));
    assert!(told.said.contains("uplink/down"), "{}", told.said);

    broker.stop();
    broker.limit_packets(None);
    broker.start();
    let expected = json!(large).to_string().into_bytes();
    let came = |received: &[Received]| received.iter().any(|one| one.payload == expected);
    let _ = subscriber.wait_for("the large message", came);
    until("nothing is held", || Some(()).filter(|()| consumer().backlog == 0));
    assert_eq!(consumer().held, 0);
}

#[test]
fn a_message_that_the_broker_closes_the_connection_on_holds_up_no_other() {
    let mut broker = Broker::new();
    broker.limit_packets(Some(2000));
    broker.start();
    let subscriber = Subscriber::start(broker.port(), "fleet/#");
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    // By MQTT 3.1.1 a broker can't tell its limit.
    let device =
        Device::new().with_resource("uplink.yaml", &uplink(&url, ", version: \"3.1.1\"")).started();
    device.publish("sensors/speed", &json!("x".repeat(3000)));
    publish(&device, 0..5);
    let received = subscriber.wait_for("the small messages", |received| has(received, 4));
    assert!((0..5).all(|n| has(&received, n)), "{received:?}");
    until("the large one is held", || {
        let consumer = device.consumer("uplink/up");
        let reason = consumer.held_reason.unwrap_or_default();
        (consumer.held == 1 && reason.contains("closed the connection")).then_some(())
    });
}

/// A device whose uplink is up, with these routes and downlinks.
fn carrying(broker: &Broker, app: &App, version: &str, carries: &str) -> Device {
    let resource = format!(
        "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {{name: up}}\nspec:\n  {BACKOFF}\n  \
         mqtt: {{url: \"mqtt://127.0.0.1:{}\", version: \"{version}\"}}\n{carries}",
        broker.port()
    );
    let device = Device::new().with_app(app).with_resource("uplink.yaml", &resource).started();
    device.wait_for_app();
    until("the uplink is up", || device.uplink("up").connected.then_some(()));
    device
}

/// An app that takes these topics, each at the path of its name.
fn app_for(topics: &[&str]) -> App {
    let subscription = |topic: &&str| json!({ "pubsubname": "pubsub", "topic": topic, "route": format!("/{topic}") });
    App::start(topics.iter().map(subscription).collect())
}

#[test]
fn a_payload_that_is_no_text_reaches_the_app_byte_for_byte() {
    let broker = Broker::started();
    let app = app_for(&["frames"]);
    let downlinks = "  downlinks: [{from: \"frames/#\", to: frames}]\n";
    let _device = carrying(&broker, &app, "5", downlinks);
    let sender = Subscriber::start(broker.port(), "nothing");
    sender.publish("frames/1", b"\xff\x00\xfe");
    let event = &app.wait_for("/frames", 1)[0].event;
    assert_eq!(event["data_base64"], "/wD+", "{event}");
    assert_eq!(event["datacontenttype"], "application/octet-stream");
    assert!(event.get("data").is_none() && event.get("uplink").is_none(), "{event}");
}

#[test]
fn downlinks_that_overlap_get_each_message_once() {
    for version in ["5", "3.1.1"] {
        let broker = Broker::started();
        let topics = ["all", "some", "one"];
        let app = app_for(&topics);
        let downlinks = "  downlinks: [{from: \"c/#\", to: all}, {from: \"c/+\", to: some}, \
                         {from: \"c/x\", to: one}]\n";
        let _device = carrying(&broker, &app, version, downlinks);
        let sender = Subscriber::start(broker.port(), "nothing");
        for command in ["first", "last"] {
            sender.publish("c/x", command.as_bytes());
        }
        for topic in topics {
            let received = app.wait_for(&format!("/{topic}"), 2);
            let data: Vec<_> = received.iter().map(|one| one.event["data"].clone()).collect();
            assert_eq!(data, ["first", "last"], "{topic} with MQTT {version}");
        }
    }
}

#[test]
fn what_an_uplink_brought_is_not_sent_up_by_it_again() {
    for version in ["5", "3.1.1"] {
        let broker = Broker::started();
        let app = app_for(&["relay/a"]);
        let carries = "  routes: [{topic: \"relay/#\", to: \"out/{rest}\", format: raw}]\n  \
                       downlinks: [{from: \"in/#\", to: \"relay/{rest}\"}]\n";
        let device = carrying(&broker, &app, version, carries);
        let observer = Subscriber::start(broker.port(), "out/#");
        observer.publish("in/a", b"1");
        assert_eq!(app.wait_for("/relay/a", 1).len(), 1);
        device.publish("relay/a", &json!(2));
        let received = observer.wait_for("the app's message", |received| !received.is_empty());
        assert_eq!(
            (received[0].topic.as_str(), received[0].payload.as_slice()),
            ("out/a", &b"2"[..])
        );
        let uplink = until("both are acknowledged", || {
            let done = device.consumer("uplink/up").backlog == 0;
            Some(device.uplink("up")).filter(|_| done)
        });
        assert_eq!((uplink.acknowledged, uplink.received), (1, 1));
    }
}

#[test]
fn a_mirror_that_would_go_round_in_circles_is_refused() {
    let mirror = "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {name: up}\nspec:\n  \
                  mqtt: {url: \"mqtt://127.0.0.1:1\", version: 3.1.1}\n  routes: [{topic: \"#\"}]\n  \
                  downlinks: [{from: \"#\"}]\n";
    let device = Device::new().with_resource("uplink.yaml", mirror);
    let finished = binary::run_command(&mut device.command());
    assert_eq!(finished.code, Some(78), "{}", finished.said);
    assert!(finished.said.contains("come down again"), "{}", finished.said);
}
