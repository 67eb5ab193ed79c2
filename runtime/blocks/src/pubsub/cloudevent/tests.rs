#![allow(clippy::unwrap_used)]

mod model;

use base64::Engine;
use components::port::pubsub::{Epoch, NodeId, Outgoing, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn identity() -> Identity {
    Identity { node: NodeId("boat-7".into()), epoch: Epoch(0x0102_0304) }
}

fn publish<'a>(
    body: &[u8],
    content_type: Option<&'a str>,
    metadata: &'a BTreeMap<String, String>,
) -> Content<'a> {
    Content { data: body.to_vec(), content_type, metadata, traceparent: None, tracestate: None }
}

fn accepted(content: Content<'_>) -> Result<Outgoing, AcceptError> {
    accept(content, "shop")
}

fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn stored(message: Outgoing) -> Message {
    Message {
        sequence: Sequence(42),
        at: Timestamp { wall_ms: 1_800_000_000_000, ..Timestamp::default() },
        expires_in_ms: message.ttl_ms,
        content_type: message.content_type,
        attributes: message.attributes,
        key: message.key,
        priority: message.priority,
        data: message.data,
    }
}

fn delivered(message: &Message) -> Value {
    let identity = identity();
    let source = EventSource { identity: &identity, stream: StreamId(3) };
    let topic = Topic::new("pubsub", "orders");
    serde_json::from_slice(&envelope(&topic, message, source, 1_800_000_000_999)).unwrap()
}

fn round_trip(body: &[u8], content_type: Option<&str>, pairs: &[(&str, &str)]) -> Value {
    let metadata = metadata(pairs);
    delivered(&stored(accepted(publish(body, content_type, &metadata)).unwrap()))
}

#[test]
fn an_envelope_has_daprs_attributes() {
    let event = round_trip(b"hello", None, &[]);
    let id = event["id"].as_str().unwrap();
    assert_eq!(id.as_bytes()[14], b'8');
    assert_eq!(
        event,
        json!({
            "id": id, "specversion": "1.0", "datacontenttype": "text/plain", "source": "shop",
            "type": "com.dapr.event.sent", "topic": "orders", "pubsubname": "pubsub",
            "time": "2027-01-15T08:00:00Z", "data": "hello",
        })
    );
}

#[test]
fn only_what_cannot_be_derived_is_stored() {
    let metadata = metadata(&[]);
    let message = accepted(publish(b"{}", Some("application/json"), &metadata)).unwrap();
    assert_eq!(message.attributes, [("source".to_owned(), "shop".to_owned())]);
    assert_eq!(message.data, b"{}");
    assert_eq!((message.key, message.priority, message.ttl_ms), (None, 0, None));
}

#[test]
fn a_json_payload_keeps_its_numbers_exact() {
    let metadata = metadata(&[]);
    let body = br#"{"n": 12345678901234567890123, "d": 1.10}"#;
    let message = stored(
        accepted(publish(body, Some("application/json; charset=utf-8"), &metadata)).unwrap(),
    );
    let identity = identity();
    let source = EventSource { identity: &identity, stream: StreamId(1) };
    let text = envelope(&Topic::new("p", "t"), &message, source, 0);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(r#""data":{"n": 12345678901234567890123, "d": 1.10}"#), "{text}");
}

#[test]
fn a_payload_that_is_no_json_falls_back_to_a_string() {
    for body in [&b"{oops"[..], b"", b"1 2"] {
        let event = round_trip(body, Some("application/json"), &[]);
        assert_eq!(event["data"], json!(std::str::from_utf8(body).unwrap()));
    }
}

#[test]
fn a_payload_that_is_no_utf_8_keeps_its_bytes_whatever_its_content_type() {
    for content_type in ["application/json", "text/plain", "image/png"] {
        let event = round_trip(b"a\xff", Some(content_type), &[]);
        assert_eq!(event["data_base64"], json!("Yf8="));
        assert_eq!(event["datacontenttype"], json!(content_type));
        assert!(event.get("data").is_none());
    }
}

#[test]
fn binary_payloads_travel_as_base64_and_anything_else_as_a_string() {
    let event = round_trip(&[0, 255], Some("application/octet-stream"), &[]);
    assert_eq!(event["data_base64"], json!("AP8="));
    assert!(event.get("data").is_none());
    assert_eq!(round_trip(b"<a/>", Some("application/xml"), &[])["data"], json!("<a/>"));
}

#[test]
fn metadata_overrides_attributes_but_not_the_topic() {
    let event = round_trip(
        b"x",
        None,
        &[
            ("cloudevent.id", "my-id"),
            ("cloudevent.source", "me"),
            ("cloudevent.type", "my.type"),
            ("cloudevent.subject", "s"),
            ("cloudevent.traceparent", "00-a-b-01"),
            ("cloudevent.topic", "elsewhere"),
        ],
    );
    assert_eq!(
        event,
        json!({
            "id": "my-id", "source": "me", "type": "my.type", "subject": "s", "specversion": "1.0",
            "traceid": "00-a-b-01", "traceparent": "00-a-b-01", "tracestate": "",
            "topic": "orders", "pubsubname": "pubsub", "time": "2027-01-15T08:00:00Z",
            "datacontenttype": "text/plain", "data": "x",
        })
    );
}

#[test]
fn trace_headers_become_attributes() {
    let metadata = metadata(&[]);
    let content = Content {
        traceparent: Some("00-1-2-01"),
        tracestate: Some("a=b"),
        ..publish(b"x", None, &metadata)
    };
    let event = delivered(&stored(accepted(content).unwrap()));
    assert_eq!(event["traceid"], json!("00-1-2-01"));
    assert_eq!(event["traceparent"], json!("00-1-2-01"));
    assert_eq!(event["tracestate"], json!("a=b"));
}

#[test]
fn a_cloud_event_passes_through_and_gets_only_what_it_lacks() {
    let body =
        br#"{"id":"7","type":"t","data":{"a":1.0},"topic":"lies","custom":[1],"source":null}"#;
    let event = round_trip(body, Some(CONTENT_TYPE), &[("cloudevent.type", "ignored")]);
    assert_eq!(
        event,
        json!({
            "id": "7", "type": "t", "data": {"a": 1.0}, "custom": [1], "source": "Dapr",
            "specversion": "1.0", "topic": "orders", "pubsubname": "pubsub",
            "time": "2027-01-15T08:00:00Z",
        })
    );
}

#[test]
fn a_cloud_event_without_id_gets_the_messages() {
    let event = round_trip(b"{}", Some(CONTENT_TYPE), &[]);
    assert_eq!(event["id"], round_trip(b"x", None, &[])["id"]);
}

#[test]
fn a_cloud_event_that_is_no_object_is_refused() {
    let metadata = metadata(&[]);
    for body in [&b"[]"[..], b"", b"3", b"{", b"{} x"] {
        let refused = accepted(publish(body, Some("application/CloudEvents+json"), &metadata));
        assert!(matches!(refused, Err(AcceptError::NotAnEvent(_))), "{body:?}");
    }
}

#[test]
fn a_time_to_live_is_stored_and_delivered_as_expiration() {
    let metadata = metadata(&[("ttlInSeconds", "90")]);
    let message = accepted(publish(b"x", None, &metadata)).unwrap();
    assert_eq!(message.ttl_ms, Some(90_000));
    assert_eq!(delivered(&stored(message))["expiration"], json!("2027-01-15T08:01:30Z"));
}

#[test]
fn priority_and_key_are_taken_from_metadata_of_any_case() {
    let metadata = metadata(&[("Priority", "7"), ("partitionkey", "k")]);
    let message = accepted(publish(b"x", None, &metadata)).unwrap();
    assert_eq!((message.priority, message.key.as_deref()), (7, Some("k")));
}

#[test]
fn invalid_metadata_is_refused() {
    for (name, value) in [
        ("priority", "8"),
        ("priority", "high"),
        ("ttlInSeconds", "0"),
        ("ttlInSeconds", "-1"),
        ("ttlInSeconds", "1.5"),
        ("rawPayload", "yes"),
    ] {
        let metadata = metadata(&[(name, value)]);
        let refused = accepted(publish(b"x", None, &metadata)).unwrap_err();
        assert!(refused.to_string().contains(value), "{refused}");
    }
    let metadata = metadata(&[("cloudevent.subject", &"x".repeat(5000))]);
    let refused = accepted(publish(b"x", None, &metadata)).unwrap_err();
    let too_long = AcceptError::AttributeTooLong { name: "subject", bytes: 5000 };
    assert_eq!(refused.to_string(), too_long.to_string());
}

#[test]
fn a_key_and_a_content_type_are_bounded_like_attributes() {
    let long = "x".repeat(MAX_ATTRIBUTE_BYTES + 1);
    let keyed = metadata(&[("partitionKey", &long)]);
    assert!(accepted(publish(b"x", None, &keyed)).is_err());
    assert!(accepted(publish(b"x", Some(&long), &metadata(&[]))).is_err());
}

#[test]
fn a_raw_publish_is_read_as_an_event_or_arrives_as_binary_data() {
    let raw = [("rawPayload", "true")];
    let event = round_trip(br#"{"id":"1","data":2}"#, None, &raw);
    assert_eq!((&event["id"], &event["data"]), (&json!("1"), &json!(2)));
    let event = round_trip(b"plain", None, &raw);
    assert_eq!(event["data_base64"], json!("cGxhaW4="));
    assert_eq!(event["source"], json!("Dapr"));
}

#[test]
fn a_raw_subscription_gets_the_bytes_a_broker_would_carry() {
    let identity = identity();
    let source = EventSource { identity: &identity, stream: StreamId(3) };
    let topic = Topic::new("pubsub", "orders");
    let plain = metadata(&[]);
    let wrapped = stored(accepted(publish(b"x", None, &plain)).unwrap());
    let event = CloudEvent::raw(&topic, &wrapped, source, 0);
    let carried = BASE64.decode(event.text("data_base64").unwrap()).unwrap();
    assert_eq!(carried, envelope(&topic, &wrapped, source, 0));
    assert_eq!(event.text("datacontenttype").as_deref(), Some("application/octet-stream"));

    let raw = metadata(&[("rawPayload", "true")]);
    let raw = stored(accepted(publish(b"{1", None, &raw)).unwrap());
    let event = CloudEvent::raw(&topic, &raw, source, 0);
    assert_eq!(BASE64.decode(event.text("data_base64").unwrap()).unwrap(), b"{1");
}

#[test]
fn an_id_never_changes_with_the_version_of_the_program() {
    let identity = identity();
    let source = EventSource { identity: &identity, stream: StreamId(3) };
    assert_eq!(event_id(source, Sequence(42)).to_string(), GOLDEN_ID);
}

const GOLDEN_ID: &str = "a07dc4fe-58a5-8648-ac00-00000000002a";

proptest! {
    #[test]
    fn ids_of_one_stream_differ_by_their_sequence_and_of_two_by_their_stream(
        a in 0u64..1 << 58, b in 0u64..1 << 58, stream in 1u32.., other in 1u32..,
    ) {
        let identity = identity();
        let source = |stream| EventSource { identity: &identity, stream: StreamId(stream) };
        let first = event_id(source(stream), Sequence(a));
        prop_assert_eq!(first == event_id(source(stream), Sequence(b)), a == b);
        prop_assert_eq!(first == event_id(source(other), Sequence(a)), stream == other);
        prop_assert_eq!(first.get_version_num(), 8);
        prop_assert_eq!(first.get_variant(), uuid::Variant::RFC4122);
    }

    #[test]
    fn every_payload_makes_valid_json_that_holds_it(
        body in prop::collection::vec(any::<u8>(), 0..200),
        kind in prop::sample::select(vec![None, Some("application/json"), Some(BINARY), Some("text/x")]),
    ) {
        let event = round_trip(&body, kind, &[]);
        if kind == Some(BINARY) || std::str::from_utf8(&body).is_err() {
            let data = event["data_base64"].as_str().unwrap();
            prop_assert_eq!(BASE64.decode(data).unwrap(), body);
        } else {
            prop_assert!(event.get("data").is_some());
        }
    }
}

#[test]
fn a_dead_letter_has_its_reason_however_it_was_published_and_is_read() {
    let reason = "the app answered 404";
    let marks = [
        ("deadletterreason", reason),
        ("deadlettertopic", "orders"),
        ("deadletterstream", "3"),
        ("deadlettersequence", "7"),
        ("deadlettertime", "1"),
    ];
    let none = metadata(&[]);
    let raw = metadata(&[("rawPayload", "true")]);
    for content in [
        publish(b"hello", None, &none),
        publish(b"{\"deadletterreason\":\"forged\"}", Some(CONTENT_TYPE), &none),
        publish(b"{}", None, &raw),
        publish(b"\x00", None, &raw),
    ] {
        let shown = format!("{content:?}");
        let mut message = stored(accepted(content).unwrap());
        message.attributes.extend(marks.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(delivered(&message)["deadletterreason"], json!(reason), "{shown}");
        let identity = identity();
        let source = EventSource { identity: &identity, stream: StreamId(4) };
        let topic = Topic::new("pubsub", "dead");
        let event = CloudEvent::raw(&topic, &message, source, 0);
        assert_eq!(event.text("deadletterreason").as_deref(), Some(reason), "{shown}");
    }
}
