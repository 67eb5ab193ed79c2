//! What goes wrong with a publish, in Dapr's words.

use std::collections::BTreeMap;

use axum::http::StatusCode;

use super::EventsError;
use crate::api::http::error::{ApiError, Detail, status_of};
use crate::pubsub::PublishError;
use crate::pubsub::cloudevent::AcceptError;

type Metadata = BTreeMap<String, String>;

/// The block refused; `metadata` is the request's.
pub(super) fn publish(error: PublishError, metadata: &Metadata) -> ApiError {
    let (status, code, reason) = kind(&error);
    let message = error.to_string();
    let failed = ApiError::new(status, code, message.clone());
    match error {
        PublishError::Forbidden { pubsub, topic, .. } => {
            let metadata = pairs([("topic", &topic), ("error", &message)]);
            about(failed, &pubsub, reason, metadata)
        }
        PublishError::Failed { pubsub, topic, cause } => {
            let metadata = pairs([("topic", &topic), ("error", &cause.to_string())]);
            about(failed, &pubsub, reason, metadata)
        }
        PublishError::TopicEmpty { pubsub } | PublishError::TopicTooLong { pubsub, .. } => {
            about(failed, &pubsub, reason, metadata.clone())
        }
        PublishError::TopicIllegal { pubsub, topic, illegal } => {
            let metadata = pairs([("topic", &topic), ("error", &illegal.to_string())]);
            about(failed, &pubsub, reason, metadata)
        }
        PublishError::NameEmpty => about(failed, "", reason, metadata.clone()),
        PublishError::NotConfigured { .. } | PublishError::NotFound { .. } => {
            failed.with(Detail::ErrorInfo { reason, metadata: Some(metadata.clone()) })
        }
    }
}

/// The message can't be taken.
pub(super) fn accept(
    pubsub: &str,
    app_id: &str,
    metadata: &Metadata,
    error: &AcceptError,
) -> ApiError {
    if let AcceptError::NotAnEvent(cause) = error {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let failed =
            ApiError::new(status, "ERR_PUBSUB_CLOUD_EVENTS_SER", "cannot create cloudevent");
        let metadata = pairs([("appID", app_id), ("error", cause)]);
        return about(failed, pubsub, "DAPR_PUBSUB_CLOUD_EVENT_CREATION", metadata);
    }
    let message = format!("failed deserializing metadata. Error: {error}");
    let failed = ApiError::new(StatusCode::BAD_REQUEST, "ERR_PUBSUB_REQUEST_METADATA", message);
    about(failed, pubsub, "DAPR_PUBSUB_METADATA_DESERIALIZATION", metadata.clone())
}

/// The entries of a bulk can't be read.
pub(super) fn events(pubsub: &str, topic: &str, app_id: &str, error: &EventsError) -> ApiError {
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
    let failed = ApiError::new(StatusCode::BAD_REQUEST, "ERR_PUBSUB_EVENTS_SER", message);
    about(failed, pubsub, reason, metadata)
}

fn about(error: ApiError, pubsub: &str, reason: &'static str, metadata: Metadata) -> ApiError {
    let (name, description) = (pubsub.to_owned(), error.message().to_owned());
    error
        .with(Detail::ResourceInfo { kind: "pubsub", name, description })
        .with(Detail::ErrorInfo { reason, metadata: Some(metadata) })
}

fn kind(error: &PublishError) -> (StatusCode, &'static str, &'static str) {
    const NOT_FOUND: StatusCode = StatusCode::NOT_FOUND;
    match error {
        PublishError::NotConfigured { .. } => {
            let code = "ERR_PUBSUB_NOT_CONFIGURED";
            (StatusCode::BAD_REQUEST, code, "DAPR_PUBSUB_NOT_CONFIGURED")
        }
        PublishError::NotFound { .. } => {
            (NOT_FOUND, "ERR_PUBSUB_NOT_FOUND", "DAPR_PUBSUB_NOT_FOUND")
        }
        PublishError::NameEmpty => (NOT_FOUND, "ERR_PUBSUB_EMPTY", "DAPR_PUBSUB_NAME_EMPTY"),
        PublishError::TopicEmpty { .. } => {
            (NOT_FOUND, "ERR_TOPIC_NAME_EMPTY", "DAPR_PUBSUB_TOPIC_NAME_EMPTY")
        }
        PublishError::TopicTooLong { .. } => {
            let code = "ERR_PUBSUB_PUBLISH_MESSAGE";
            (StatusCode::BAD_REQUEST, code, "DAPR_PUBSUB_TOPIC_TOO_LONG")
        }
        PublishError::TopicIllegal { .. } => {
            let code = "ERR_PUBSUB_PUBLISH_MESSAGE";
            (StatusCode::BAD_REQUEST, code, "DAPR_PUBSUB_TOPIC_ILLEGAL")
        }
        PublishError::Forbidden { .. } => {
            (StatusCode::FORBIDDEN, "ERR_PUBSUB_FORBIDDEN", "DAPR_PUBSUB_FORBIDDEN")
        }
        PublishError::Failed { cause, .. } => {
            (status_of(cause), "ERR_PUBSUB_PUBLISH_MESSAGE", "DAPR_PUBSUB_PUBLISH_MESSAGE")
        }
    }
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Metadata {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
