//! Errors as Dapr words them, and the table from a block's [`Fault`] to a status.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use blocks::fault::{Detail, Fault, Kind, Reason};
use blocks::json_error::explain;
use serde_json::{Value, json};

use crate::serve::Stalled;

/// An error of the API: `{"errorCode","message","details"}`.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The reason that details name, and the details.
    details: Option<(Reason, Vec<Detail>)>,
}

impl ApiError {
    /// An error without details.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: None }
    }

    /// A request that can't be understood.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ERR_MALFORMED_REQUEST", message)
    }

    /// A body that isn't the JSON it should be.
    pub fn deserializing(error: &serde_json::Error) -> Self {
        Self::malformed(format!("failed deserializing HTTP body: {}", explain(error)))
    }

    /// A body that is too large.
    #[must_use]
    pub fn oversize(limit: usize) -> Self {
        let message = format!(
            "the request's body has more than {limit} bytes: split it, or raise --max-body-size"
        );
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "ERR_BODY_READ", message)
    }

    /// A body that its client didn't go on sending.
    #[must_use]
    pub fn stalled(stalled: Stalled) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "ERR_BODY_READ", stalled.to_string())
    }

    /// A path and method that no route has: Dapr takes it for a service invocation.
    #[must_use]
    pub fn no_route() -> Self {
        let message = "failed getting app id either from the URL path or the header dapr-app-id";
        Self::new(StatusCode::NOT_FOUND, "ERR_DIRECT_INVOKE", message)
    }
}

/// Returns the status and the error code of a fault.
#[must_use]
pub fn status_and_code(reason: Reason, kind: Kind) -> (StatusCode, &'static str) {
    use StatusCode as S;
    match reason {
        Reason::PubSubNotConfigured => (S::BAD_REQUEST, "ERR_PUBSUB_NOT_CONFIGURED"),
        Reason::PubSubNotFound => (S::NOT_FOUND, "ERR_PUBSUB_NOT_FOUND"),
        Reason::PubSubNameEmpty => (S::NOT_FOUND, "ERR_PUBSUB_EMPTY"),
        Reason::TopicNameEmpty => (S::NOT_FOUND, "ERR_TOPIC_NAME_EMPTY"),
        Reason::TopicTooLong | Reason::TopicIllegal => {
            (S::BAD_REQUEST, "ERR_PUBSUB_PUBLISH_MESSAGE")
        }
        Reason::PubSubForbidden => (S::FORBIDDEN, "ERR_PUBSUB_FORBIDDEN"),
        Reason::PublishMessage => (by_kind(kind), "ERR_PUBSUB_PUBLISH_MESSAGE"),
        Reason::CloudEventCreation => (S::INTERNAL_SERVER_ERROR, "ERR_PUBSUB_CLOUD_EVENTS_SER"),
        Reason::PublishMetadata => (S::BAD_REQUEST, "ERR_PUBSUB_REQUEST_METADATA"),
        Reason::UnmarshalEvents | Reason::MarshalEvents => {
            (S::BAD_REQUEST, "ERR_PUBSUB_EVENTS_SER")
        }
        Reason::StateNotConfigured => (S::INTERNAL_SERVER_ERROR, "ERR_STATE_STORE_NOT_CONFIGURED"),
        Reason::StateNotFound => (S::BAD_REQUEST, "ERR_STATE_STORE_NOT_FOUND"),
        Reason::StateKeyMissing | Reason::StateIllegalKey => {
            (S::BAD_REQUEST, "ERR_MALFORMED_REQUEST")
        }
        Reason::StateGet => (by_kind(kind), "ERR_STATE_GET"),
        Reason::StateSave => (by_kind(kind), "ERR_STATE_SAVE"),
        Reason::StateDelete => (by_kind(kind), "ERR_STATE_DELETE"),
        // As in Dapr, a wrong entity tag is no conflict there.
        Reason::StateTransaction if matches!(kind, Kind::Conflict | Kind::Invalid) => {
            (S::INTERNAL_SERVER_ERROR, "ERR_STATE_TRANSACTION")
        }
        Reason::StateTransaction => (by_kind(kind), "ERR_STATE_TRANSACTION"),
        Reason::StateOperation => (S::BAD_REQUEST, "ERR_NOT_SUPPORTED_STATE_OPERATION"),
        Reason::StateTooManyTransactions => {
            (S::BAD_REQUEST, "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS")
        }
        Reason::StateQuery => (S::INTERNAL_SERVER_ERROR, "ERR_STATE_STORE_NOT_SUPPORTED"),
        _ => (by_kind(kind), "ERR_INTERNAL"),
    }
}

/// Returns the status that tells a client whether to come again.
fn by_kind(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Full => StatusCode::INSUFFICIENT_STORAGE,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        let (status, code) = status_and_code(fault.reason, fault.kind);
        let Fault { reason, message, details, .. } = fault;
        let details = (!details.is_empty()).then_some((reason, details));
        Self { status, code, message, details }
    }
}

fn detail_json(reason: Reason, detail: Detail) -> Value {
    match detail {
        Detail::ErrorInfo { metadata } => json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "domain": "dapr.io",
            "metadata": metadata,
            "reason": reason.name(),
        }),
        Detail::ResourceInfo { block, name, description } => json!({
            "@type": "type.googleapis.com/google.rpc.ResourceInfo",
            "description": description,
            "owner": "",
            "resource_name": name,
            "resource_type": block,
        }),
        Detail::BadRequest { field, description } => json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "field_violations": [{ "field": field, "description": description }],
        }),
        _ => Value::Null,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, message, details } = self;
        if status.is_server_error() {
            tracing::debug!(%status, code, message, "a request failed");
        }
        let mut body = json!({ "errorCode": code, "message": message });
        if let Some((reason, details)) = details {
            let details = details.into_iter().map(|detail| detail_json(reason, detail));
            body["details"] = details.collect();
        }
        let json = [(header::CONTENT_TYPE, "application/json")];
        (status, json, body.to_string()).into_response()
    }
}
