//! What is published becomes a message, and a message becomes an event again.

use std::collections::BTreeMap;

use blocks::pubsub::cloudevent::{CloudEvent, Content, EventSource, accept};
use serde_json::Value;
use store_forward::consumer::Message;
use store_forward::ids::{Epoch, NodeId, Sequence, StreamId};
use store_forward::record::{NewMessage, Timestamp, Topic};
use store_forward::store::Identity;

use super::input::Input;

const METADATA: [&str; 8] = [
    "rawPayload",
    "ttlInSeconds",
    "priority",
    "partitionKey",
    "cloudevent.id",
    "cloudevent.type",
    "CloudEvent.Source",
    "cloudevent.traceparent",
];

/// A payload with its content type and metadata.
pub(super) fn run(data: &[u8]) {
    let mut input = Input(data);
    let (content_type, trace) = (input.text(), input.text());
    let mut metadata = BTreeMap::new();
    for _ in 0..usize::from(input.byte().unwrap_or(0) % 4) {
        let name = METADATA[usize::from(input.byte().unwrap_or(0)) % METADATA.len()];
        metadata.insert(name.to_owned(), input.text());
    }
    let content = Content {
        data: input.0.to_vec(),
        content_type: Some(&content_type).filter(|text| !text.is_empty()).map(String::as_str),
        metadata: &metadata,
        traceparent: Some(&trace).filter(|text| !text.is_empty()).map(String::as_str),
        tracestate: None,
    };
    if let Ok(message) = accept(content, "app") {
        deliver(&message);
    }
}

fn deliver(message: &NewMessage) {
    assert!(message.priority <= 7);
    assert_ne!(message.ttl_ms, Some(0));
    let identity = Identity { node: NodeId("node".into()), epoch: Epoch(7) };
    let source = EventSource { identity: &identity, stream: StreamId(3) };
    let topic = Topic::new("pubsub", "topic");
    let stored = stored(message);
    for event in [
        CloudEvent::of(&topic, &stored, source, 1_767_225_600_000),
        CloudEvent::raw(&topic, &stored, source, 1_767_225_600_000),
    ] {
        let json: Value = serde_json::from_slice(&event.to_json()).unwrap_or_else(|error| {
            // What the publisher nested deeper than we read, or a number larger than we read, is
            // handed on as it came.
            let beyond = ["recursion limit", "number out of range"];
            assert!(beyond.iter().any(|limit| error.to_string().contains(limit)), "{error}");
            Value::Null
        });
        let has = |name: &str| json.get(name).is_some_and(|value| !value.is_null());
        for name in ["id", "source", "type", "specversion", "topic", "pubsubname"] {
            assert!(json.is_null() || has(name), "{name} is missing in {json}");
        }
        assert_eq!(event.to_raw().get().as_bytes(), event.to_json());
    }
}

fn stored(message: &NewMessage) -> Message {
    let NewMessage { content_type, attributes, key, priority, ttl_ms, data } = message.clone();
    Message {
        sequence: Sequence(9),
        at: Timestamp { wall_ms: 1_767_225_600_000, boot: 1, up_ms: 5, believed: true },
        expires_in_ms: ttl_ms,
        content_type,
        attributes,
        key,
        priority,
        data,
    }
}
