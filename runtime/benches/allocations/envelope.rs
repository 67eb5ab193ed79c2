//! Allocations of the CloudEvent JSON that is made for a delivery or an uplink.

use std::hint::black_box;

use blocks::pubsub::cloudevent::{EventSource, envelope};
use store_forward::consumer::Message;
use store_forward::ids::{Epoch, NodeId, Sequence, StreamId};
use store_forward::record::{Timestamp, Topic};
use store_forward::store::Identity;

const WALL_MS: i64 = 1_800_000_000_000;

/// The figures and their values.
pub(crate) fn figures() -> [(&'static str, f64); 4] {
    let text = message("text/plain", "x".repeat(256));
    let json = message("application/json", format!(r#"{{"text":"{}","n":1.10}}"#, "x".repeat(256)));
    let mut traced = json.clone();
    traced.key = Some("key".into());
    traced.attributes.extend([
        attribute("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        attribute("tracestate", "vendor=1"),
    ]);
    let mut expires = traced.clone();
    expires.expires_in_ms = Some(90_000);
    [
        ("an envelope of text", count(&text)),
        ("an envelope of JSON", count(&json)),
        ("the same with trace and key", count(&traced)),
        ("the same that expires", count(&expires)),
    ]
}

fn count(message: &Message) -> f64 {
    let identity = Identity { node: NodeId("device".into()), epoch: Epoch(7) };
    let topic = Topic::new("pubsub", "orders");
    let source = EventSource { identity: &identity, stream: StreamId(3) };
    let counted = allocation_counter::measure(|| {
        black_box(envelope(&topic, message, source, WALL_MS));
    });
    counted.count_total as f64
}

fn message(content_type: &str, data: String) -> Message {
    Message {
        sequence: Sequence(42),
        at: Timestamp { wall_ms: WALL_MS, ..Timestamp::default() },
        content_type: Some(content_type.into()),
        attributes: vec![attribute("source", "shop")],
        data: data.into_bytes(),
        ..Message::default()
    }
}

fn attribute(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
