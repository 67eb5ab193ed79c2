//! `/v1.0/publish`: one message, or many in one record.

use std::borrow::Cow;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use blocks::fault::Metadata;
use blocks::json_error::explain;
use blocks::pubsub::cloudevent::{self, Content, is_type};
use blocks::pubsub::publish::{unreadable, unserializable};
use blocks::pubsub::{self, BulkEntry, BulkOutcome, Publish, PublishBulk};
use blocks::{Fault, Principal};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::{ApiError, status_and_code};
use super::json;
use super::request::{ApiRequest, RequestHead};

/// The topic of a publish, whose name may hold slashes, and is empty when left out.
struct Target<'a> {
    pubsub: Cow<'a, str>,
    topic: Cow<'a, str>,
}

impl<'a> Target<'a> {
    fn of(head: &'a RequestHead) -> Result<Self, ApiError> {
        Ok(Self { pubsub: head.parameter("pubsub")?, topic: head.parameter("topic")? })
    }
}

pub(super) async fn publish(request: ApiRequest) -> Result<StatusCode, ApiError> {
    let ApiRequest { api, head, body } = request;
    let target = Target::of(&head)?;
    let metadata = head.query()?.metadata();
    let content = Content {
        data: body.read().await?,
        content_type: head.header(header::CONTENT_TYPE.as_str()),
        metadata: &metadata,
        traceparent: head.header("traceparent"),
        tracestate: head.header("tracestate"),
    };
    let message = Publish { pubsub: &target.pubsub, topic: &target.topic, content };
    pubsub::publish(&api.registry(), &api.principal, message).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Publishes the good entries in one record, and names the others.
pub(super) async fn publish_bulk(request: ApiRequest) -> Result<Response, ApiError> {
    let ApiRequest { api, head, body } = request;
    let target = Target::of(&head)?;
    let metadata = head.query()?.metadata();
    let bulk = PublishBulk {
        pubsub: &target.pubsub,
        topic: &target.topic,
        metadata: &metadata,
        traceparent: head.header("traceparent"),
        tracestate: head.header("tracestate"),
        entries: entries(&body.read().await?, &target, &api.principal)?,
    };
    let outcome = pubsub::publish_bulk(&api.registry(), &api.principal, bulk).await?;
    if outcome.failed.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(bulk_failure(outcome))
}

fn bulk_failure(BulkOutcome { failed, fault }: BulkOutcome) -> Response {
    let status = fault.map_or(StatusCode::INTERNAL_SERVER_ERROR, |fault| {
        status_and_code(fault.reason, fault.kind).0
    });
    let failed =
        failed.into_iter().map(|entry| WireFailedEntry { entry_id: entry.id, error: entry.error });
    let body = WireBulkFailure {
        failed_entries: failed.collect(),
        error_code: "ERR_PUBSUB_PUBLISH_MESSAGE",
    };
    (status, json(&body)).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object with an entryId and an event")]
struct WireEntry<'a> {
    #[serde(default)]
    entry_id: String,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(default)]
    content_type: String,
    metadata: Option<Metadata>,
}

/// Reads the entries of a bulk, each event as the bytes that its content type says.
fn entries(body: &[u8], target: &Target<'_>, by: &Principal) -> Result<Vec<BulkEntry>, Fault> {
    let Target { pubsub, topic } = target;
    let wire: Vec<WireEntry<'_>> = serde_json::from_slice(body)
        .map_err(|error| unreadable(pubsub, topic, by, &explain(&error)))?;
    let entry = |WireEntry { entry_id, event, content_type, metadata }: WireEntry<'_>| {
        let event = event.map_or("null", RawValue::get);
        let data = event_bytes(event, &content_type)
            .map_err(|cause| unserializable(pubsub, topic, by, &cause))?;
        let metadata = metadata.unwrap_or_default();
        Ok(BulkEntry { id: entry_id, data, content_type, metadata })
    };
    wire.into_iter().map(entry).collect()
}

fn event_bytes(event: &str, content_type: &str) -> Result<Vec<u8>, String> {
    let mismatch = |_| "error: mismatch between contentType and event".to_owned();
    let is = |expected| is_type(Some(content_type), expected);
    let is_text = content_type.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/"));
    if is("application/octet-stream") {
        let text: String = serde_json::from_str(event).map_err(mismatch)?;
        BASE64.decode(text).map_err(|error| {
            format!("error: unable to decode base64 application/octect-stream data: {error}")
        })
    } else if is_text || is("application/xml") {
        serde_json::from_str::<String>(event).map(String::into_bytes).map_err(mismatch)
    } else if is("application/json") || is(cloudevent::CONTENT_TYPE) {
        Ok(event.as_bytes().to_vec())
    } else {
        Err("error: mismatch between contentType and event".to_owned())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireBulkFailure {
    failed_entries: Vec<WireFailedEntry>,
    error_code: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireFailedEntry {
    entry_id: String,
    error: String,
}

#[cfg(test)]
mod tests;
