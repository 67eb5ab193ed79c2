//! CloudEvents 1.0 as Dapr makes them: the message that a publish stores, and the event that a
//! delivery sends.
//!
//! A stored message holds only what can't be derived: the payload as it came, its content type, and
//! the attributes that differ from the defaults. The envelope is made anew for each delivery.

mod accept;

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD as BASE64;
use components::port::pubsub::{DeadLetter, Identity, Message, Sequence, StreamId, Topic};
use config::units::parse_go_bool;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

pub use accept::{AcceptError, Content, MAX_ATTRIBUTE_BYTES, accept};

/// The media type of a CloudEvent in JSON.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

const SPEC_VERSION: &str = "1.0";
const DEFAULT_TYPE: &str = "com.dapr.event.sent";
const DEFAULT_SOURCE: &str = "Dapr";
const DEFAULT_DATA_CONTENT_TYPE: &str = "text/plain";
/// An extension attribute of dead letters (CloudEvents 1.0, section 3.3).
const DEAD_LETTER_REASON: &str = "deadletterreason";
/// The media type of arbitrary bytes.
pub const BINARY: &str = "application/octet-stream";

/// Marks a message that was published with `rawPayload`: its payload gets no envelope.
const RAW: &str = "rawpayload";

/// The reason why an event can always be serialized.
const ALWAYS_JSON: &str = "strings and JSON texts are always JSON";

/// The store and the stream of a message. With its sequence they identify it for ever, so a repeated
/// delivery has the same event id.
#[derive(Clone, Copy, Debug)]
pub struct EventSource<'a> {
    /// The device and the life of its store.
    pub identity: &'a Identity,
    /// The stream.
    pub stream: StreamId,
}

/// A CloudEvent: its attributes and data by name. Most are borrowed from the message until they are
/// written into the JSON; JSON texts are kept as they came, so that numbers stay exact.
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub struct CloudEvent<'a> {
    #[serde(borrow)]
    fields: BTreeMap<FieldName<'a>, FieldValue<'a>>,
}

impl<'a> CloudEvent<'a> {
    /// Makes the event of a message; `now_ms` is the wall clock's (milliseconds since 1970) and only
    /// used for `expiration`.
    #[must_use]
    pub fn of(
        topic: &'a Topic,
        message: &'a Message,
        source: EventSource<'_>,
        now_ms: i64,
    ) -> Self {
        let publication = Publication::of(topic, message, source);
        if message.attribute(RAW).is_some() {
            return Self::of_raw_publish(publication, message).with_reason(message);
        }
        let mut event = if is_type(message.content_type.as_deref(), CONTENT_TYPE) {
            Self::parse(&message.data).unwrap_or_else(|| Self::new(message))
        } else {
            Self::new(message)
        };
        event.default("id", || Some(FieldValue::Id(publication.id)));
        event.default("time", || time_field(publication.wall_ms));
        event.complete(publication);
        event.trace(message);
        if let Some(left) = message.expires_in_ms {
            let left = i64::try_from(left).unwrap_or(i64::MAX);
            // Whole seconds: two deliveries of one message mostly say the same.
            let at = now_ms.saturating_add(left) / 1000 * 1000;
            event.default("expiration", || time_field(at));
        }
        event.with_reason(message)
    }

    /// Makes the event for a subscription with `rawPayload`: the bytes that a broker would carry, as
    /// binary data.
    #[must_use]
    pub fn raw(
        topic: &'a Topic,
        message: &'a Message,
        source: EventSource<'_>,
        now_ms: i64,
    ) -> Self {
        let carried = if message.attribute(RAW).is_some() {
            Cow::Borrowed(message.data.as_slice())
        } else {
            Cow::Owned(Self::of(topic, message, source, now_ms).to_json())
        };
        Self::wrap(Publication::of(topic, message, source), carried).with_reason(message)
    }

    /// Returns the JSON text of an attribute or of the data.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'_, RawValue>> {
        self.fields.get(name).map(FieldValue::to_raw)
    }

    /// Returns an attribute that is a string.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// Lists names and JSON texts, sorted by name.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Cow<'_, RawValue>)> {
        self.fields.iter().map(|(name, value)| (&*name.0, value.to_raw()))
    }

    /// Serializes the event in CloudEvents' JSON format.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Quotes, a colon and a comma around each name.
        let fields = self.fields.iter().map(|(name, value)| name.0.len() + 4 + value.json_bytes());
        let mut json = Vec::with_capacity(2 + fields.sum::<usize>());
        serde_json::to_writer(&mut json, self).expect(ALWAYS_JSON);
        json
    }

    /// Serializes the event as one JSON text, to be embedded in another.
    #[must_use]
    pub fn to_raw(&self) -> Box<RawValue> {
        to_raw_value(self).expect(ALWAYS_JSON)
    }

    fn new(message: &'a Message) -> Self {
        let mut event = Self { fields: BTreeMap::new() };
        let content_type = message.content_type.as_deref().unwrap_or(DEFAULT_DATA_CONTENT_TYPE);
        event.set("datacontenttype", content_type);
        for name in ["id", "source", "type", "subject"] {
            if let Some(value) = message.attribute(name) {
                event.set(name, value);
            }
        }
        let (name, data) = data(content_type, &message.data);
        event.set(name, data);
        event
    }

    /// Reads a raw publish as a CloudEvent, as Dapr does; anything else becomes binary data.
    fn of_raw_publish(publication: Publication<'a>, message: &'a Message) -> Self {
        let Some(mut event) = Self::parse(&message.data) else {
            return Self::wrap(publication, Cow::Borrowed(&message.data));
        };
        event.default("id", || Some(FieldValue::Id(publication.id)));
        event.complete(publication);
        event
    }

    fn wrap(publication: Publication<'a>, data: Cow<'a, [u8]>) -> Self {
        let mut event = Self { fields: BTreeMap::new() };
        event.set("id", FieldValue::Id(publication.id));
        event.set("datacontenttype", BINARY);
        event.set("data_base64", FieldValue::Base64(data));
        event.complete(publication);
        event
    }

    fn parse(data: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }

    fn complete(&mut self, publication: Publication<'a>) {
        self.set("topic", publication.topic);
        self.set("pubsubname", publication.pubsub);
        self.default("source", || Some(DEFAULT_SOURCE.into()));
        self.default("type", || Some(DEFAULT_TYPE.into()));
        self.default("specversion", || Some(SPEC_VERSION.into()));
    }

    fn trace(&mut self, message: &'a Message) {
        if let Some(parent) = message.attribute("traceparent") {
            self.set("traceid", parent);
            self.set("traceparent", parent);
            self.set("tracestate", message.attribute("tracestate").unwrap_or_default());
        }
    }

    /// Adds the reason to a dead letter.
    fn with_reason(mut self, message: &'a Message) -> Self {
        if let Some(letter) = DeadLetter::of(message) {
            self.set(DEAD_LETTER_REASON, letter.reason);
        }
        self
    }

    fn set(&mut self, name: &'static str, value: impl Into<FieldValue<'a>>) {
        self.fields.insert(FieldName(Cow::Borrowed(name)), value.into());
    }

    fn default(&mut self, name: &'static str, value: impl FnOnce() -> Option<FieldValue<'a>>) {
        let missing = self.fields.get(name).is_none_or(FieldValue::is_null);
        if let Some(value) = missing.then(value).flatten() {
            self.set(name, value);
        }
    }
}

/// The name of an attribute, borrowed where it has no escapes.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(transparent)]
struct FieldName<'a>(#[serde(borrow)] Cow<'a, str>);

impl Borrow<str> for FieldName<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// An attribute or the data, in the form that is available without a copy.
#[derive(Debug)]
enum FieldValue<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
    Id(Uuid),
    Base64(Cow<'a, [u8]>),
}

impl FieldValue<'_> {
    fn is_null(&self) -> bool {
        matches!(self, Self::Json(raw) if raw.get() == "null")
    }

    fn to_raw(&self) -> Cow<'_, RawValue> {
        match self {
            Self::Json(raw) => Cow::Borrowed(raw),
            other => Cow::Owned(to_raw_value(other).expect(ALWAYS_JSON)),
        }
    }

    /// Returns the bytes of its JSON text, without those that escapes add.
    fn json_bytes(&self) -> usize {
        match self {
            Self::Json(raw) => raw.get().len(),
            Self::Text(text) => 2 + text.len(),
            Self::Id(_) => 2 + Hyphenated::LENGTH,
            Self::Base64(bytes) => 2 + bytes.len().div_ceil(3) * 4,
        }
    }
}

impl<'a> From<&'a str> for FieldValue<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for FieldValue<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(Self::Json)
    }
}

impl Serialize for FieldValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Json(raw) => raw.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Id(id) => {
                serializer.serialize_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
            Self::Base64(bytes) => serializer.collect_str(&Base64Display::new(bytes, &BASE64)),
        }
    }
}

/// The publish that an event describes. As in Dapr, which forwards an event unchanged, a dead letter
/// describes the message that it copies.
#[derive(Clone, Copy)]
struct Publication<'a> {
    id: Uuid,
    pubsub: &'a str,
    topic: &'a str,
    wall_ms: i64,
}

impl<'a> Publication<'a> {
    fn of(topic: &'a Topic, message: &'a Message, source: EventSource<'_>) -> Self {
        let pubsub = topic.component.as_str();
        let Some(letter) = DeadLetter::of(message) else {
            let id = event_id(source, message.sequence);
            return Self { id, pubsub, topic: &topic.name, wall_ms: message.at.wall_ms };
        };
        let id = event_id(EventSource { stream: letter.stream, ..source }, letter.sequence);
        Self { id, pubsub, topic: letter.topic, wall_ms: letter.wall_ms }
    }
}

/// Makes the CloudEvent of a message, as JSON.
#[must_use]
pub fn envelope(topic: &Topic, message: &Message, source: EventSource<'_>, now_ms: i64) -> Vec<u8> {
    CloudEvent::of(topic, message, source, now_ms).to_json()
}

/// Makes a UUID of version 8 (RFC 9562, section 5.8): 64 bits of hash over node, epoch and stream, then
/// 58 bits of sequence. Within a stream it can't repeat; over a fleet it is as unique as 64 bits are.
#[must_use]
pub fn event_id(source: EventSource<'_>, sequence: Sequence) -> Uuid {
    let mut hash = Fnv::new();
    hash.write(source.identity.node.0.as_bytes());
    hash.write(&[0xff]); // Ends the node's name, as no UTF-8 text holds this byte.
    hash.write(&source.identity.epoch.0.to_le_bytes());
    hash.write(&source.stream.0.to_le_bytes());
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

/// Checks whether a content type names this media type; parameters and case don't matter.
#[must_use]
pub fn is_type(content_type: Option<&str>, expected: &str) -> bool {
    content_type
        .and_then(|content_type| content_type.split(';').next())
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(expected))
}

/// Checks whether data of this content type can be other than UTF-8: text that names no other
/// character set can't (RFC 6838, section 4.2.1).
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

/// Parses a boolean as Go does; an empty text is false.
pub(super) fn flag(value: &str) -> Option<bool> {
    if value.is_empty() { Some(false) } else { parse_go_bool(value) }
}

/// Returns the name and the value of the data: JSON unchanged, bytes in Base64, the rest as a string.
fn data<'a>(content_type: &str, data: &'a [u8]) -> (&'static str, FieldValue<'a>) {
    let is = |expected| is_type(Some(content_type), expected);
    match std::str::from_utf8(data) {
        Ok(text) if is("application/json") => {
            ("data", serde_json::from_str(text).unwrap_or_else(|_| text.into()))
        }
        Ok(text) if !is(BINARY) => ("data", text.into()),
        _ => ("data_base64", FieldValue::Base64(Cow::Borrowed(data))),
    }
}

fn time_field<'a>(wall_ms: i64) -> Option<FieldValue<'a>> {
    rfc3339(wall_ms).map(|text| FieldValue::Text(Cow::Owned(text)))
}

/// Writes a time (RFC 3339), in milliseconds since 1970; `None` where its year has more than four digits.
pub(super) fn rfc3339(wall_ms: i64) -> Option<String> {
    let nanos = i128::from(wall_ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}

/// FNV-1a with a finalizer. Stable across versions, as event ids must be; std's hashers aren't.
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

    /// Applies the finalizer of MurmurHash3, which spreads similar inputs.
    fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

#[cfg(test)]
mod tests;
