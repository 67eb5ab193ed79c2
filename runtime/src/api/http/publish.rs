//! `/v1.0/publish`: one message, or many in one record.

mod failure;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store_forward::record::NewMessage;

use super::error::ApiError;
use super::json;
use super::request::{Body, Query};
use crate::pubsub::cloudevent::{self, Publish, is_type};
use crate::pubsub::{PubSubBlock, PublishError};
use blocks::json_error::explain;

/// What the handlers need of the API's state.
#[derive(Clone)]
pub struct Publisher {
    /// The components.
    pub block: Arc<PubSubBlock>,
    /// The app that calls.
    pub app_id: Arc<str>,
}

/// The routes, for whatever state holds a [`Publisher`].
pub fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Publisher: FromRef<S>,
{
    let one = || post(publish).put(publish);
    let bulk = || post(publish_bulk).put(publish_bulk);
    Router::new()
        .route("/v1.0/publish/{pubsub}/", one())
        .route("/v1.0/publish/{pubsub}/{*topic}", one())
        .route("/v1.0/publish/bulk/{pubsub}/{*topic}", bulk())
        .route("/v1.0-alpha1/publish/bulk/{pubsub}/{*topic}", bulk())
}

type Metadata = BTreeMap<String, String>;

/// What both kinds of publish begin with: an app that may publish there.
struct Call {
    publisher: Publisher,
    pubsub: String,
    topic: String,
    metadata: Metadata,
    headers: HeaderMap,
}

/// Where a publish goes; a topic may hold slashes, and is empty when left out.
#[derive(Deserialize)]
struct Target {
    pubsub: String,
    #[serde(default)]
    topic: String,
}

impl<S> FromRequestParts<S> for Call
where
    S: Send + Sync,
    Publisher: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let publisher = Publisher::from_ref(state);
        let Path(Target { pubsub, topic }) = Path::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::malformed(error.body_text()))?;
        let metadata = Query::from_request_parts(parts, state).await?.metadata();
        let allowed = publisher.block.check(&publisher.app_id, &pubsub, &topic);
        allowed.map_err(|error| failure::publish(error, &metadata))?;
        Ok(Self { publisher, pubsub, topic, metadata, headers: parts.headers.clone() })
    }
}

impl Call {
    fn parts<'a>(
        &'a self,
        body: Vec<u8>,
        content_type: Option<&'a str>,
        metadata: &'a Metadata,
    ) -> Publish<'a> {
        let traceparent = text(&self.headers, "traceparent");
        let tracestate = text(&self.headers, "tracestate");
        let app_id = &self.publisher.app_id;
        Publish { body, content_type, metadata, traceparent, tracestate, app_id }
    }

    async fn commit(&self, messages: Vec<NewMessage>) -> Result<(), PublishError> {
        let Publisher { block, app_id } = &self.publisher;
        block.publish(app_id, &self.pubsub, &self.topic, messages).await
    }
}

async fn publish(call: Call, Body(body): Body) -> Result<StatusCode, ApiError> {
    let content_type = text(&call.headers, header::CONTENT_TYPE.as_str());
    let (pubsub, app_id, metadata) = (&call.pubsub, &call.publisher.app_id, &call.metadata);
    let message = cloudevent::accept(call.parts(body.into(), content_type, metadata))
        .map_err(|error| failure::accept(pubsub, app_id, metadata, &error))?;
    call.commit(vec![message]).await.map_err(|error| failure::publish(error, metadata))?;
    Ok(StatusCode::NO_CONTENT)
}

/// The good entries in one record; the others are named.
async fn publish_bulk(call: Call, Body(body): Body) -> Result<Response, ApiError> {
    let (mut ids, mut messages, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let entries = entries(&body).map_err(|error| {
        failure::events(&call.pubsub, &call.topic, &call.publisher.app_id, &error)
    })?;
    for Entry { id, content_type, metadata: own, data } in entries {
        let mut metadata = call.metadata.clone();
        metadata.extend(own);
        match cloudevent::accept(call.parts(data, Some(&content_type), &metadata)) {
            Ok(message) => {
                ids.push(id);
                messages.push(message);
            }
            Err(error) => failed.push(FailedEntry { entry_id: id, error: error.to_string() }),
        }
    }
    let mut status = StatusCode::INTERNAL_SERVER_ERROR;
    if !messages.is_empty()
        && let Err(error) = call.commit(messages).await
    {
        let text = error.to_string();
        status = failure::publish(error, &call.metadata).status();
        failed
            .extend(ids.into_iter().map(|entry_id| FailedEntry { entry_id, error: text.clone() }));
    }
    if failed.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let body = BulkFailure { failed_entries: failed, error_code: "ERR_PUBSUB_PUBLISH_MESSAGE" };
    Ok((status, json(&body)).into_response())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
}

/// One entry of a bulk, its event as the bytes that its content type says.
struct Entry {
    id: String,
    content_type: String,
    metadata: Metadata,
    data: Vec<u8>,
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

/// Why the entries of a bulk can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum EventsError {
    #[error("{0}")]
    Unmarshal(String),
    #[error("{0}")]
    Marshal(String),
}

fn entries(body: &[u8]) -> Result<Vec<Entry>, EventsError> {
    let wire: Vec<WireEntry<'_>> =
        serde_json::from_slice(body).map_err(|error| EventsError::Unmarshal(explain(&error)))?;
    let mut seen = HashSet::new();
    let mut entries = Vec::with_capacity(wire.len());
    for WireEntry { entry_id, event, content_type, metadata } in wire {
        let event = event.map_or("null", RawValue::get);
        let data = event_bytes(event, &content_type).map_err(EventsError::Marshal)?;
        if entry_id.is_empty() || !seen.insert(entry_id.clone()) {
            let message = "entryId is duplicated or not present for entry";
            return Err(EventsError::Marshal(message.to_owned()));
        }
        let metadata = metadata.unwrap_or_default();
        entries.push(Entry { id: entry_id, content_type, metadata, data });
    }
    Ok(entries)
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
struct BulkFailure {
    failed_entries: Vec<FailedEntry>,
    error_code: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FailedEntry {
    entry_id: String,
    error: String,
}

#[cfg(test)]
mod tests;
