//! `/v1.0/publish`: one message, or many in one record.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use store_forward::record::NewMessage;

use crate::pubsub::cloudevent::{self, AcceptError, Publish, is_type};
use crate::pubsub::{PubSubBlock, PublishError, Refusal};

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

/// Where a publish goes; a topic may hold slashes, and is empty when left out.
#[derive(Deserialize)]
struct Target {
    pubsub: String,
    #[serde(default)]
    topic: String,
}

type Metadata = BTreeMap<String, String>;

async fn publish(
    State(publisher): State<Publisher>,
    Path(Target { pubsub, topic }): Path<Target>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Failure> {
    let metadata = metadata(query.as_deref().unwrap_or_default());
    let Publisher { block, app_id } = publisher;
    let failure = |error| Failure::publish(error, &metadata);
    block.check(&app_id, &pubsub, &topic).map_err(failure)?;
    let content_type = text(&headers, header::CONTENT_TYPE.as_str());
    let parts = parts(body.into(), content_type, &metadata, &headers, &app_id);
    let message = cloudevent::accept(parts)
        .map_err(|error| Failure::accept(&pubsub, &app_id, &metadata, &error))?;
    block.publish(&app_id, &pubsub, &topic, vec![message]).await.map_err(failure)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn publish_bulk(
    State(publisher): State<Publisher>,
    Path(Target { pubsub, topic }): Path<Target>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Response> {
    let metadata = metadata(query.as_deref().unwrap_or_default());
    let Publisher { block, app_id } = publisher;
    block
        .check(&app_id, &pubsub, &topic)
        .map_err(|error| Failure::publish(error, &metadata).into_response())?;
    let entries = entries(&body)
        .map_err(|error| Failure::events(&pubsub, &topic, &app_id, &error).into_response())?;

    let (mut ids, mut messages, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for Entry { id, content_type, metadata: own, data } in entries {
        let mut metadata = metadata.clone();
        metadata.extend(own);
        match cloudevent::accept(parts(data, Some(&content_type), &metadata, &headers, &app_id)) {
            Ok(message) => {
                ids.push(id);
                messages.push(message);
            }
            Err(error) => failed.push(FailedEntry { entry_id: id, error: error.to_string() }),
        }
    }
    commit(&block, &app_id, (&pubsub, &topic), ids, messages, failed).await
}

/// The good entries in one record; the others are named.
async fn commit(
    block: &PubSubBlock,
    app_id: &str,
    (pubsub, topic): (&str, &str),
    ids: Vec<String>,
    messages: Vec<NewMessage>,
    mut failed: Vec<FailedEntry>,
) -> Result<StatusCode, Response> {
    let mut status = StatusCode::INTERNAL_SERVER_ERROR;
    if !messages.is_empty()
        && let Err(error) = block.publish(app_id, pubsub, topic, messages).await
    {
        status = status_of(&error);
        let error = error.to_string();
        failed
            .extend(ids.into_iter().map(|entry_id| FailedEntry { entry_id, error: error.clone() }));
    }
    if failed.is_empty() {
        return Ok(StatusCode::NO_CONTENT);
    }
    let body = BulkFailure { failed_entries: failed, error_code: "ERR_PUBSUB_PUBLISH_MESSAGE" };
    Err(json_answer(status, &body))
}

fn parts<'a>(
    body: Vec<u8>,
    content_type: Option<&'a str>,
    metadata: &'a Metadata,
    headers: &'a HeaderMap,
    app_id: &'a str,
) -> Publish<'a> {
    let traceparent = text(headers, "traceparent");
    let tracestate = text(headers, "tracestate");
    Publish { body, content_type, metadata, traceparent, tracestate, app_id }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
}

fn metadata(query: &str) -> Metadata {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .filter_map(|(name, value)| Some((name.strip_prefix("metadata.")?.to_owned(), value)))
        .collect()
}

fn json_answer(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("names and texts are always JSON");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// One entry of a bulk, its event as the bytes that its content type says.
struct Entry {
    id: String,
    content_type: String,
    metadata: Metadata,
    data: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
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
        serde_json::from_slice(body).map_err(|error| EventsError::Unmarshal(error.to_string()))?;
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

/// An error as Dapr words it.
#[derive(Debug)]
struct Failure {
    status: StatusCode,
    code: &'static str,
    reason: &'static str,
    message: String,
    /// The component, where Dapr names it as the resource.
    resource: Option<String>,
    metadata: Metadata,
}

impl Failure {
    fn publish(error: PublishError, metadata: &Metadata) -> Self {
        let (code, reason) = code_of(&error);
        let (status, message) = (status_of(&error), error.to_string());
        let (resource, metadata) = match error {
            PublishError::Forbidden { pubsub, topic, .. } => {
                (Some(pubsub), pairs([("topic", &topic), ("error", &message)]))
            }
            PublishError::Failed { pubsub, topic, cause, .. } => {
                (Some(pubsub), pairs([("topic", &topic), ("error", &cause)]))
            }
            PublishError::TopicEmpty { pubsub } | PublishError::TopicTooLong { pubsub, .. } => {
                (Some(pubsub), metadata.clone())
            }
            PublishError::NameEmpty => (Some(String::new()), metadata.clone()),
            _ => (None, metadata.clone()),
        };
        Self { status, code, reason, message, resource, metadata }
    }

    fn accept(pubsub: &str, app_id: &str, metadata: &Metadata, error: &AcceptError) -> Self {
        let resource = Some(pubsub.to_owned());
        if let AcceptError::NotAnEvent(cause) = error {
            return Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                code: "ERR_PUBSUB_CLOUD_EVENTS_SER",
                reason: "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
                message: "cannot create cloudevent".to_owned(),
                resource,
                metadata: pairs([("appID", app_id), ("error", cause)]),
            };
        }
        Self {
            status: StatusCode::BAD_REQUEST,
            code: "ERR_PUBSUB_REQUEST_METADATA",
            reason: "DAPR_PUBSUB_METADATA_DESERIALIZATION",
            message: format!("failed deserializing metadata. Error: {error}"),
            resource,
            metadata: metadata.clone(),
        }
    }

    fn events(pubsub: &str, topic: &str, app_id: &str, error: &EventsError) -> Self {
        let (reason, message, metadata) = match error {
            EventsError::Unmarshal(cause) => (
                "DAPR_PUBSUB_UNMARSHAL_EVENTS",
                format!(
                    "error when unmarshaling the request for topic {topic} pubsub {pubsub}: {cause}"
                ),
                pairs([("appID", app_id)]),
            ),
            EventsError::Marshal(cause) => (
                "DAPR_PUBSUB_MARSHAL_EVENTS",
                format!(
                    "error marshaling events to bytes for topic {topic} pubsub {pubsub}. error: {cause}"
                ),
                pairs([("appID", app_id), ("error", cause)]),
            ),
        };
        let (status, code) = (StatusCode::BAD_REQUEST, "ERR_PUBSUB_EVENTS_SER");
        Self { status, code, reason, message, resource: Some(pubsub.to_owned()), metadata }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let resource = self.resource.map(|name| {
            json!({
                "@type": "type.googleapis.com/google.rpc.ResourceInfo",
                "resource_type": "pubsub",
                "resource_name": name,
                "description": self.message,
            })
        });
        let error = json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "domain": "dapr.io",
            "metadata": self.metadata,
            "reason": self.reason,
        });
        let details: Vec<_> = resource.into_iter().chain([error]).collect();
        let body = json!({ "errorCode": self.code, "message": self.message, "details": details });
        json_answer(self.status, &body)
    }
}

fn status_of(error: &PublishError) -> StatusCode {
    match error {
        PublishError::NotConfigured { .. } | PublishError::TopicTooLong { .. } => {
            StatusCode::BAD_REQUEST
        }
        PublishError::NotFound { .. }
        | PublishError::NameEmpty
        | PublishError::TopicEmpty { .. } => StatusCode::NOT_FOUND,
        PublishError::Forbidden { .. } => StatusCode::FORBIDDEN,
        PublishError::Failed { refusal, .. } => match refusal {
            Refusal::Full => StatusCode::INSUFFICIENT_STORAGE,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Other => StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
}

fn code_of(error: &PublishError) -> (&'static str, &'static str) {
    match error {
        PublishError::NotConfigured { .. } => {
            ("ERR_PUBSUB_NOT_CONFIGURED", "DAPR_PUBSUB_NOT_CONFIGURED")
        }
        PublishError::NotFound { .. } => ("ERR_PUBSUB_NOT_FOUND", "DAPR_PUBSUB_NOT_FOUND"),
        PublishError::NameEmpty => ("ERR_PUBSUB_EMPTY", "DAPR_PUBSUB_NAME_EMPTY"),
        PublishError::TopicEmpty { .. } => ("ERR_TOPIC_NAME_EMPTY", "DAPR_PUBSUB_TOPIC_NAME_EMPTY"),
        PublishError::TopicTooLong { .. } => {
            ("ERR_PUBSUB_PUBLISH_MESSAGE", "DAPR_PUBSUB_TOPIC_TOO_LONG")
        }
        PublishError::Forbidden { .. } => ("ERR_PUBSUB_FORBIDDEN", "DAPR_PUBSUB_FORBIDDEN"),
        PublishError::Failed { .. } => {
            ("ERR_PUBSUB_PUBLISH_MESSAGE", "DAPR_PUBSUB_PUBLISH_MESSAGE")
        }
    }
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Metadata {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests;
