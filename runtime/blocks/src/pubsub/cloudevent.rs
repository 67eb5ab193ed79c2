//! CloudEvents 1.0 as Dapr makes them: what a publish stores, and what a delivery sends.
//!
//! What is stored holds only what can't be derived: the payload as it came, its content type, and
//! the attributes that differ from the defaults. The envelope is made anew for each delivery.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use components::port::pubsub::{
    DeadLetter, Identity, Message, Outgoing, Sequence, StreamId, Topic,
};
use serde_json::value::{RawValue, to_raw_value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::json_error::explain;

/// The media type of a CloudEvent in JSON.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Bytes of one attribute: they travel in headers and are stored with every message.
pub const MAX_ATTRIBUTE_BYTES: usize = 4096;

const SPEC_VERSION: &str = "1.0";
const DEFAULT_TYPE: &str = "com.dapr.event.sent";
const DEFAULT_SOURCE: &str = "Dapr";
const DEFAULT_DATA_CONTENT_TYPE: &str = "text/plain";
/// An extension attribute of dead letters (CloudEvents 1.0, section 3.3).
const DEAD_LETTER_REASON: &str = "deadletterreason";
/// The media type of bytes of which nothing else is known.
pub const BINARY: &str = "application/octet-stream";

/// Marks a message that was published with `rawPayload`: its payload is no event of ours.
const RAW: &str = "rawpayload";

/// Metadata that names an attribute, and the attribute. The later of two names for one wins.
const OVERRIDES: [(&str, &str); 7] = [
    ("cloudevent.id", "id"),
    ("cloudevent.source", "source"),
    ("cloudevent.type", "type"),
    ("cloudevent.subject", "subject"),
    ("cloudevent.traceid", "traceparent"),
    ("cloudevent.traceparent", "traceparent"),
    ("cloudevent.tracestate", "tracestate"),
];

/// Why a publish can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// A metadata value is not what it has to be.
    #[error("{name} value must be {expected}: actual is '{value}'")]
    Metadata {
        /// The metadata's name.
        name: &'static str,
        /// What was given.
        value: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// An attribute is too long to travel in a header.
    #[error(
        "{name} has {bytes} bytes, the limit is {MAX_ATTRIBUTE_BYTES}: put long values into the payload"
    )]
    AttributeTooLong {
        /// The attribute.
        name: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// The content type says CloudEvent, the payload isn't one.
    #[error(
        "the payload is no JSON object ({0}): send an object, or another content type than application/cloudevents+json"
    )]
    NotAnEvent(String),
}

/// The parts of a publish request.
#[derive(Debug)]
pub struct Publish<'a> {
    /// The payload.
    pub body: Vec<u8>,
    /// Its media type.
    pub content_type: Option<&'a str>,
    /// The request's metadata; names are looked up without regard to case.
    pub metadata: &'a BTreeMap<String, String>,
    /// The W3C `traceparent` header.
    pub traceparent: Option<&'a str>,
    /// The W3C `tracestate` header.
    pub tracestate: Option<&'a str>,
    /// Who publishes.
    pub app_id: &'a str,
}

/// What is stored of a publish.
///
/// # Errors
/// When the metadata or a CloudEvent can't be understood.
pub fn accept(publish: Publish<'_>) -> Result<Outgoing, AcceptError> {
    let metadata = Lookup(publish.metadata);
    let attributes = if metadata.flag("rawPayload")? {
        vec![(RAW.to_owned(), "true".to_owned())]
    } else if is_type(publish.content_type, CONTENT_TYPE) {
        check_event(&publish.body)?;
        attributes(&publish, &[])?
    } else {
        attributes(&publish, &OVERRIDES)?
    };
    Ok(Outgoing {
        content_type: bounded("content-type", publish.content_type)?,
        attributes,
        key: bounded("partitionKey", metadata.get("partitionKey"))?,
        priority: metadata.priority()?,
        ttl_ms: metadata.ttl_ms()?,
        data: publish.body,
    })
}

/// What names a message for ever: a delivery that is repeated has the same event id.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The device and the life of its store.
    pub identity: &'a Identity,
    /// The stream.
    pub stream: StreamId,
}

/// A CloudEvent: its attributes and data, each as JSON text, so that numbers stay exact.
#[derive(Debug)]
pub struct Event {
    fields: BTreeMap<String, Box<RawValue>>,
}

impl Event {
    /// The event of a message; `now_ms` is the wall clock's (milliseconds since 1970) and only used
    /// for `expiration`.
    #[must_use]
    pub fn of(topic: &Topic, message: &Message, origin: Origin<'_>, now_ms: i64) -> Self {
        let Birth { id, topic, wall_ms } = &Birth::of(topic, message, origin);
        if message.attribute(RAW).is_some() {
            return Self::of_raw_publish(topic, message, *id).with_reason(message);
        }
        let mut event = if is_type(message.content_type.as_deref(), CONTENT_TYPE) {
            Self::parse(&message.data).unwrap_or_else(|| Self::new(message))
        } else {
            Self::new(message)
        };
        event.default("id", || Some(id.to_string()));
        event.default("time", || rfc3339(*wall_ms));
        event.complete(topic);
        event.trace(message);
        if let Some(left) = message.expires_in_ms {
            let left = i64::try_from(left).unwrap_or(i64::MAX);
            // Whole seconds: two deliveries of one message mostly say the same.
            let at = now_ms.saturating_add(left) / 1000 * 1000;
            event.default("expiration", || rfc3339(at));
        }
        event.with_reason(message)
    }

    /// What a subscription with `rawPayload` gets: the bytes that a broker would carry, as binary
    /// data.
    #[must_use]
    pub fn raw(topic: &Topic, message: &Message, origin: Origin<'_>, now_ms: i64) -> Self {
        let Birth { id, topic: first, .. } = &Birth::of(topic, message, origin);
        let event = if message.attribute(RAW).is_some() {
            Self::wrap(first, &message.data, *id)
        } else {
            Self::wrap(first, &Self::of(topic, message, origin, now_ms).to_json(), *id)
        };
        event.with_reason(message)
    }

    /// The attribute's or the data's JSON text.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.fields.get(name).map(AsRef::as_ref)
    }

    /// The attribute, if it is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// Names and JSON texts, by name.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.fields.iter().map(|(name, raw)| (name.as_str(), raw.as_ref()))
    }

    /// The event in CloudEvents' JSON format.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.fields).expect("strings and JSON texts are always JSON")
    }

    /// The event as one JSON text, to be put into another.
    #[must_use]
    pub fn to_raw(&self) -> Box<RawValue> {
        to_raw_value(&self.fields).expect("strings and JSON texts are always JSON")
    }

    fn new(message: &Message) -> Self {
        let mut event = Self { fields: BTreeMap::new() };
        let content_type = message.content_type.as_deref().unwrap_or(DEFAULT_DATA_CONTENT_TYPE);
        event.set("datacontenttype", content_type);
        for name in ["id", "source", "type", "subject"] {
            if let Some(value) = message.attribute(name) {
                event.set(name, value);
            }
        }
        event.set_data(content_type, &message.data);
        event
    }

    /// As with Dapr, a raw publish is read as a CloudEvent; what is none arrives as binary data.
    fn of_raw_publish(topic: &Topic, message: &Message, id: Uuid) -> Self {
        let Some(mut event) = Self::parse(&message.data) else {
            return Self::wrap(topic, &message.data, id);
        };
        event.default("id", || Some(id.to_string()));
        event.complete(topic);
        event
    }

    fn wrap(topic: &Topic, data: &[u8], id: Uuid) -> Self {
        let mut event = Self { fields: BTreeMap::new() };
        event.set("id", &id.to_string());
        event.set("datacontenttype", BINARY);
        event.set_data(BINARY, data);
        event.complete(topic);
        event
    }

    fn parse(data: &[u8]) -> Option<Self> {
        serde_json::from_slice(data).ok().map(|fields| Self { fields })
    }

    fn complete(&mut self, topic: &Topic) {
        self.set("topic", &topic.name);
        self.set("pubsubname", &topic.component);
        for (name, value) in
            [("source", DEFAULT_SOURCE), ("type", DEFAULT_TYPE), ("specversion", SPEC_VERSION)]
        {
            self.default(name, || Some(value.to_owned()));
        }
    }

    fn trace(&mut self, message: &Message) {
        if let Some(parent) = message.attribute("traceparent") {
            self.set("traceid", parent);
            self.set("traceparent", parent);
            self.set("tracestate", message.attribute("tracestate").unwrap_or_default());
        }
    }

    /// A dead letter says why it is one.
    fn with_reason(mut self, message: &Message) -> Self {
        if let Some(letter) = DeadLetter::of(message) {
            self.set(DEAD_LETTER_REASON, letter.reason);
        }
        self
    }

    fn set(&mut self, name: &str, value: &str) {
        self.fields.insert(name.to_owned(), json_text(value));
    }

    fn default(&mut self, name: &str, value: impl FnOnce() -> Option<String>) {
        let missing = self.get(name).is_none_or(|raw| raw.get() == "null");
        if let Some(value) = missing.then(value).flatten() {
            self.set(name, &value);
        }
    }

    fn set_data(&mut self, content_type: &str, data: &[u8]) {
        let text = std::str::from_utf8(data);
        let (name, value) = if is_type(Some(content_type), BINARY) || text.is_err() {
            ("data_base64", json_text(&BASE64.encode(data)))
        } else if is_type(Some(content_type), "application/json") {
            let parsed = serde_json::from_slice(data);
            ("data", parsed.unwrap_or_else(|_| json_text(text.unwrap_or_default())))
        } else {
            ("data", json_text(text.unwrap_or_default()))
        };
        self.fields.insert(name.to_owned(), value);
    }
}

/// What an event says of its publishing. As with Dapr, which forwards an event as it is, a dead
/// letter says what the message said that it is a copy of.
struct Birth<'a> {
    id: Uuid,
    topic: Cow<'a, Topic>,
    wall_ms: i64,
}

impl<'a> Birth<'a> {
    fn of(topic: &'a Topic, message: &Message, origin: Origin<'_>) -> Self {
        let Some(letter) = DeadLetter::of(message) else {
            let id = event_id(origin, message.sequence);
            return Self { id, topic: Cow::Borrowed(topic), wall_ms: message.at.wall_ms };
        };
        let id = event_id(Origin { stream: letter.stream, ..origin }, letter.sequence);
        let topic = Topic::new(topic.component.as_str(), letter.topic);
        Self { id, topic: Cow::Owned(topic), wall_ms: letter.wall_ms }
    }
}

/// The CloudEvent of a message, as JSON.
#[must_use]
pub fn envelope(topic: &Topic, message: &Message, origin: Origin<'_>, now_ms: i64) -> Vec<u8> {
    Event::of(topic, message, origin, now_ms).to_json()
}

/// A UUID of version 8 (RFC 9562, section 5.8): 64 bits of hash over node, epoch and stream, then
/// 58 bits of sequence. Within a stream it can't repeat; over a fleet it is as unique as 64 bits are.
#[must_use]
pub fn event_id(origin: Origin<'_>, sequence: Sequence) -> Uuid {
    let mut hash = Fnv::new();
    hash.write(origin.identity.node.0.as_bytes());
    hash.write(&[0xff]); // No byte of UTF-8: the node's name ends here.
    hash.write(&origin.identity.epoch.0.to_le_bytes());
    hash.write(&origin.stream.0.to_le_bytes());
    let hash = hash.finish();
    let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&[a, b, c, d, e, f]);
    bytes[6] = g >> 4;
    bytes[7] = (g << 4) | (h >> 4);
    let low = (u64::from(h & 0x0f) << 58) | (sequence.0 & ((1 << 58) - 1));
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Whether a content type names this media type; parameters and case don't matter.
#[must_use]
pub fn is_type(content_type: Option<&str>, expected: &str) -> bool {
    content_type
        .and_then(|content_type| content_type.split(';').next())
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(expected))
}

/// Whether data of this content type can be other than UTF-8: text that names no other character
/// set can't (RFC 6838, section 4.2.1).
#[must_use]
pub fn may_be_binary(content_type: &str) -> bool {
    let lower = content_type.to_ascii_lowercase();
    let (media_type, parameters) = lower.split_once(';').unwrap_or((&lower, ""));
    let media_type = media_type.trim();
    let text = media_type.starts_with("text/")
        || media_type.ends_with("+json")
        || media_type.ends_with("+xml")
        || matches!(media_type, "application/json" | "application/xml");
    !text || (parameters.contains("charset") && !parameters.contains("utf-8"))
}

/// Metadata by name, without regard to case.
struct Lookup<'a>(&'a BTreeMap<String, String>);

impl<'a> Lookup<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str).or_else(|| {
            self.0
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
        })
    }

    fn flag(&self, name: &'static str) -> Result<bool, AcceptError> {
        let value = self.get(name).unwrap_or_default();
        flag(value).ok_or_else(|| invalid(name, value, "a valid boolean"))
    }

    fn priority(&self) -> Result<u8, AcceptError> {
        let Some(value) = self.get("priority") else { return Ok(0) };
        let parsed = value.parse().ok().filter(|priority| *priority <= 7);
        parsed.ok_or_else(|| invalid("priority", value, "an integer from 0 to 7"))
    }

    fn ttl_ms(&self) -> Result<Option<u64>, AcceptError> {
        let Some(value) = self.get("ttlInSeconds").filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let seconds = value.parse::<u64>().ok().filter(|seconds| *seconds > 0);
        seconds
            .map(|seconds| Some(seconds.saturating_mul(1000)))
            .ok_or_else(|| invalid("ttlInSeconds", value, "an integer higher than zero"))
    }
}

/// A boolean as Go reads it; nothing is false.
pub fn flag(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn attributes(
    publish: &Publish<'_>,
    overrides: &[(&'static str, &'static str)],
) -> Result<Vec<(String, String)>, AcceptError> {
    let mut found: BTreeMap<&'static str, &str> = BTreeMap::new();
    if !overrides.is_empty() {
        found.insert("source", publish.app_id);
    }
    found.extend(publish.traceparent.map(|value| ("traceparent", value)));
    found.extend(publish.tracestate.map(|value| ("tracestate", value)));
    for (name, attribute) in overrides {
        let value = Lookup(publish.metadata).get(name).filter(|value| !value.is_empty());
        found.extend(value.map(|value| (*attribute, value)));
    }
    if found.get("type") == Some(&DEFAULT_TYPE) {
        found.remove("type");
    }
    let found = found
        .into_iter()
        .map(|(name, value)| Ok(bounded(name, Some(value))?.map(|value| (name.to_owned(), value))));
    found.filter_map(Result::transpose).collect()
}

fn bounded(name: &'static str, value: Option<&str>) -> Result<Option<String>, AcceptError> {
    match value.filter(|value| !value.is_empty()) {
        Some(value) if value.len() > MAX_ATTRIBUTE_BYTES => {
            Err(AcceptError::AttributeTooLong { name, bytes: value.len() })
        }
        value => Ok(value.map(ToOwned::to_owned)),
    }
}

fn check_event(body: &[u8]) -> Result<(), AcceptError> {
    serde_json::from_slice::<BTreeMap<String, &RawValue>>(body)
        .map(|_| ())
        .map_err(|error| AcceptError::NotAnEvent(explain(&error)))
}

fn invalid(name: &'static str, value: &str, expected: &'static str) -> AcceptError {
    AcceptError::Metadata { name, value: value.to_owned(), expected }
}

fn json_text(value: &str) -> Box<RawValue> {
    to_raw_value(value).expect("a string is always JSON")
}

fn rfc3339(wall_ms: i64) -> Option<String> {
    let nanos = i128::from(wall_ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}

/// FNV-1a with a finalizer: stable for ever, as event ids have to be; std's hashers aren't.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The finalizer of MurmurHash3: neighbours in, strangers out.
    fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

#[cfg(test)]
mod tests;
