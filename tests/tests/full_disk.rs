//! The disk fills up: what needs room is refused with a clear word, what gives room back works, and
//! nothing that was acknowledged is lost.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use tests::http::Answer;
use tests::ledger::first_arrivals;
use tests::{Broker, Device, Subscriber, Volume, until};

/// Small enough to fill up at once.
const LIMITS: &str = "apiVersion: pannier.dev/v1\nkind: Node\nspec:\n  limits:\n    \
    journalSegment: 256Ki\n    checkpointBytes: 64Ki\n    reserve: 1Mi\n";

fn uplink(port: u16) -> String {
    format!(
        "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {{name: up}}\nspec:\n  \
         backoff: {{initial: 50ms, max: 200ms}}\n  mqtt: {{url: \"mqtt://127.0.0.1:{port}\"}}\n  \
         routes: [{{topic: \"#\", format: raw}}]\n"
    )
}

fn device(volume: &Volume, broker: &Broker) -> Device {
    Device::new()
        .with_data_in(&volume.path())
        .with_flags(&["--max-body-size", "65536"])
        .with_resource("limits.yaml", LIMITS)
        .with_resource("uplink.yaml", &uplink(broker.port()))
}

fn publish(device: &Device, number: u64) -> Answer {
    let body = json!([number, "x".repeat(2000)]);
    device.post("/v1.0/publish/pubsub/t", &body)
}

/// Publishes until the disk is full; says how many were acknowledged.
fn publish_until_full(device: &Device, from: u64) -> u64 {
    for number in from.. {
        let answer = publish(device, number);
        if answer.status != 204 {
            assert_eq!(answer.status, 507, "{}", answer.text());
            assert!(answer.text().contains("the disk is full"), "{}", answer.text());
            return number;
        }
    }
    unreachable!("the disk has an end")
}

#[test]
fn a_full_disk_refuses_what_needs_room_and_drains() {
    let Some(volume) = Volume::in_memory("a disk that is full", 12) else { return };
    let mut broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "#");
    broker.stop();
    let mut device = device(&volume, &broker).started();
    for key in 0..20 {
        device.save(&format!("key-{key}"), &json!(key));
    }
    let full = publish_until_full(&device, 0);
    let saved = device.post("/v1.0/state/statestore", &json!([{ "key": "a", "value": 1 }]));
    assert_eq!(saved.status, 507, "{}", saved.text());
    // What gives room back works, over restarts too.
    for key in 0..10 {
        let path = format!("/v1.0/state/statestore/key-{key}");
        assert_eq!(device.send("DELETE", &path, &[], &[]).unwrap().status, 204);
    }
    device.kill();
    device.start();
    assert_eq!(device.get("/v1.0/state/statestore/key-9").status, 204);
    assert_eq!(device.get("/v1.0/state/statestore/key-10").json(), 10);
    // A start may find some room: segments whose records are in the tables.
    let full = publish_until_full(&device, full);
    assert!(device.stop().success());
    device.start();
    let full = publish_until_full(&device, full);
    broker.start();
    wait_until_drained(&device);
    // What was drained makes room.
    until("there is room again", || Some(()).filter(|()| publish(&device, full).status == 204));
    let received = subscriber.wait_for("all messages", |all| {
        all.iter().any(|message| message.payload.starts_with(format!("[{full},").as_bytes()))
    });
    assert_eq!(numbers(&first_arrivals(&received)["t"]), (0..=full).collect::<Vec<_>>());
    assert_eq!(device.store().poisoned, None);
}

#[test]
fn a_disk_that_others_fill_costs_nothing_acknowledged() {
    let Some(volume) = Volume::in_memory("a disk that others fill", 24) else { return };
    let mut broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "#");
    broker.stop();
    let mut device = device(&volume, &broker).started();
    let mut next = 0;
    for round in 0..6 {
        for _ in 0..150 {
            assert_eq!(publish(&device, next).status, 204);
            next += 1;
        }
        // Full during a publish, a checkpoint, an end, or a recovery.
        volume.fill();
        next = publish_until_full(&device, next);
        match round % 3 {
            0 => {}
            1 => assert!(device.stop().success()),
            _ => device.kill(),
        }
        if !device.is_running() {
            device.start();
            assert_eq!(publish(&device, next).status, 507);
        }
        volume.empty();
        until("there is room again", || Some(()).filter(|()| publish(&device, next).status == 204));
        next += 1;
    }
    volume.fill();
    broker.start();
    wait_until_drained(&device);
    let received = subscriber.wait_for("all messages", |all| {
        let last = format!("[{},", next - 1);
        all.iter().any(|message| message.payload.starts_with(last.as_bytes()))
    });
    assert_eq!(numbers(&first_arrivals(&received)["t"]), (0..next).collect::<Vec<_>>());
    assert_eq!(device.store().poisoned, None);
}

fn numbers(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|message| message[0].as_u64().unwrap()).collect()
}

fn wait_until_drained(device: &Device) {
    until("the backlog is gone", || Some(()).filter(|()| device.store().consumers[0].backlog == 0));
}
