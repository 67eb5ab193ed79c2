//! Conversion of a publish request into the message that is stored.

use std::collections::BTreeMap;

use components::port::pubsub::Outgoing;

use super::{CONTENT_TYPE, CloudEvent, DEFAULT_TYPE, RAW, flag, is_type};
use crate::json_error::explain;

/// Bytes of one attribute: they travel in headers and are stored with every message.
pub const MAX_ATTRIBUTE_BYTES: usize = 4096;

/// Reasons to refuse a publish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// A metadata value is invalid.
    #[error("{name} value must be {expected}: actual is '{value}'")]
    Metadata {
        /// The metadata's name.
        name: &'static str,
        /// The value given.
        value: String,
        /// The kind of value expected.
        expected: &'static str,
    },
    /// An attribute is too long to travel in a header.
    #[error(
        "{name} has {bytes} bytes, the limit is {MAX_ATTRIBUTE_BYTES}: put long values into the payload"
    )]
    AttributeTooLong {
        /// The attribute.
        name: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// The content type is a CloudEvent's, but the payload is no CloudEvent.
    #[error(
        "the payload is no JSON object ({}): send an object, or another content type than application/cloudevents+json",
        explain(.0)
    )]
    NotAnEvent(#[source] serde_json::Error),
}

/// The content of a publish request.
#[derive(Debug)]
pub struct Content<'a> {
    /// The payload.
    pub data: Vec<u8>,
    /// The payload's media type.
    pub content_type: Option<&'a str>,
    /// The request's metadata; names are looked up without regard to case.
    pub metadata: &'a BTreeMap<String, String>,
    /// The W3C `traceparent` header.
    pub traceparent: Option<&'a str>,
    /// The W3C `tracestate` header.
    pub tracestate: Option<&'a str>,
}

/// Turns a publish by `source` into the message that is stored.
///
/// # Errors
/// When the metadata or a CloudEvent can't be understood.
pub fn accept(content: Content<'_>, source: &str) -> Result<Outgoing, AcceptError> {
    let metadata = Lookup(content.metadata);
    let attributes = if metadata.flag("rawPayload")? {
        vec![(RAW.to_owned(), "true".to_owned())]
    } else if is_type(content.content_type, CONTENT_TYPE) {
        check_event(&content.data)?;
        attributes(&content, source, PayloadKind::CloudEvent)?
    } else {
        attributes(&content, source, PayloadKind::Data)?
    };
    Ok(Outgoing {
        content_type: bounded("content-type", content.content_type)?,
        attributes,
        key: bounded("partitionKey", metadata.get("partitionKey"))?,
        priority: metadata.priority()?,
        ttl_ms: metadata.ttl_ms()?,
        data: content.data,
    })
}

/// The kind of payload that a publish carries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PayloadKind {
    Data,
    CloudEvent,
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

/// Returns the attributes to store, by name. A CloudEvent has its own: headers add only its trace.
fn attributes(
    content: &Content<'_>,
    source: &str,
    kind: PayloadKind,
) -> Result<Vec<(String, String)>, AcceptError> {
    let metadata = Lookup(content.metadata);
    let overridden = |name| match kind {
        PayloadKind::Data => metadata.get(name).filter(|value| !value.is_empty()),
        PayloadKind::CloudEvent => None,
    };
    let traceparent = overridden("cloudevent.traceparent").or(overridden("cloudevent.traceid"));
    let app_id = (kind == PayloadKind::Data).then_some(source);
    let found = [
        ("id", overridden("cloudevent.id")),
        ("source", overridden("cloudevent.source").or(app_id)),
        ("subject", overridden("cloudevent.subject")),
        ("traceparent", traceparent.or(content.traceparent)),
        ("tracestate", overridden("cloudevent.tracestate").or(content.tracestate)),
        ("type", overridden("cloudevent.type").filter(|value| *value != DEFAULT_TYPE)),
    ];
    let found = found
        .into_iter()
        .map(|(name, value)| Ok(bounded(name, value)?.map(|value| (name.to_owned(), value))));
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
    serde_json::from_slice::<CloudEvent<'_>>(body).map(drop).map_err(AcceptError::NotAnEvent)
}

fn invalid(name: &'static str, value: &str, expected: &'static str) -> AcceptError {
    AcceptError::Metadata { name, value: value.to_owned(), expected }
}
