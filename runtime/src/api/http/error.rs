//! Errors as Dapr words them: each knows its HTTP status, its code and its details.

use std::collections::BTreeMap;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use components::{Refusal, StateError};
use serde_json::{Value, json};

use crate::serve::Stalled;
use blocks::json_error::explain;
use blocks::state::{IllegalKey, LookupError};

/// An error of the API: `{"errorCode","message","details"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    details: Vec<Detail>,
}

/// What an error tells beside its message (google.rpc's error details).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detail {
    /// `google.rpc.ErrorInfo`, of the domain `dapr.io`.
    ErrorInfo {
        /// The reason, `DAPR_...`.
        reason: &'static str,
        /// What it is about.
        metadata: Option<BTreeMap<String, String>>,
    },
    /// `google.rpc.ResourceInfo`.
    ResourceInfo {
        /// The building block.
        kind: &'static str,
        /// The component.
        name: String,
        /// What is wrong with it; may be empty.
        description: String,
    },
    /// `google.rpc.BadRequest` with one violation.
    BadRequest {
        /// The field that is wrong.
        field: String,
        /// What is wrong with it.
        description: String,
    },
}

impl ApiError {
    /// An error without details.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: Vec::new() }
    }

    /// With one more detail.
    #[must_use]
    pub fn with(mut self, detail: Detail) -> Self {
        self.details.push(detail);
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, in words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
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

    /// No such state store for this app.
    #[must_use]
    pub fn state_store(error: LookupError, store: &str, app_id: &str) -> Self {
        let (status, code, reason, what) = match error {
            LookupError::NotConfigured => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "ERR_STATE_STORE_NOT_CONFIGURED",
                "DAPR_STATE_NOT_CONFIGURED",
                "configured",
            ),
            LookupError::NotFound => (
                StatusCode::BAD_REQUEST,
                "ERR_STATE_STORE_NOT_FOUND",
                "DAPR_STATE_NOT_FOUND",
                "found",
            ),
        };
        let metadata = BTreeMap::from([("appID".to_owned(), app_id.to_owned())]);
        Self::new(status, code, format!("state store {store} is not {what}"))
            .with(Detail::ErrorInfo { reason, metadata: Some(metadata) })
    }

    /// A key that no state store takes.
    #[must_use]
    pub fn illegal_key(error: &IllegalKey, store: &str) -> Self {
        let message = error.to_string();
        let field = error.0.clone();
        Self::malformed(message.clone())
            .with(Detail::BadRequest { field, description: message })
            .about_state(store, "DAPR_STATE_ILLEGAL_KEY", None)
    }

    /// More operations than a transaction may have.
    #[must_use]
    pub fn too_many_operations(store: &str, count: usize, max: usize) -> Self {
        let message = format!(
            "the transaction contains {count} operations, which is more than what the state store supports: {max}"
        );
        let metadata = BTreeMap::from([
            ("currentOpsTransaction".to_owned(), count.to_string()),
            ("maxOpsPerTransaction".to_owned(), max.to_string()),
        ]);
        Self::new(StatusCode::BAD_REQUEST, "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS", message)
            .about_state(store, "DAPR_STATE_TOO_MANY_TRANSACTIONS", Some(metadata))
    }

    /// A query, which the stores of this version don't have.
    #[must_use]
    pub fn no_query(store: &str) -> Self {
        let message = "state store does not support querying";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "ERR_STATE_STORE_NOT_SUPPORTED", message)
            .about_state(store, "DAPR_STATE_QUERYING_NOT_SUPPORTED", None)
    }

    /// What a state store refused, told as `message`.
    pub fn state(code: &'static str, message: impl Into<String>, error: &StateError) -> Self {
        let status = match error {
            StateError::EtagMismatch { .. } => StatusCode::CONFLICT,
            StateError::EtagInvalid { .. } => StatusCode::BAD_REQUEST,
            StateError::Refused(refusal) => status_of(refusal),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, code, message)
    }

    /// What failed in a transaction: as in Dapr, a wrong entity tag is no conflict there.
    #[must_use]
    pub fn transaction(error: &StateError) -> Self {
        let message = format!("error while executing state transaction: {error}");
        let mut failed = Self::state("ERR_STATE_TRANSACTION", message, error);
        if matches!(error, StateError::EtagMismatch { .. } | StateError::EtagInvalid { .. }) {
            failed.status = StatusCode::INTERNAL_SERVER_ERROR;
        }
        failed
    }

    fn about_state(
        self,
        store: &str,
        reason: &'static str,
        metadata: Option<BTreeMap<String, String>>,
    ) -> Self {
        let (name, description) = (store.to_owned(), String::new());
        self.with(Detail::ResourceInfo { kind: "state", name, description })
            .with(Detail::ErrorInfo { reason, metadata })
    }
}

/// The status that tells a client whether to come again.
pub(super) fn status_of(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
        Refusal::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Detail {
    fn json(self) -> Value {
        match self {
            Self::ErrorInfo { reason, metadata } => json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "domain": "dapr.io",
                "metadata": metadata,
                "reason": reason,
            }),
            Self::ResourceInfo { kind, name, description } => json!({
                "@type": "type.googleapis.com/google.rpc.ResourceInfo",
                "description": description,
                "owner": "",
                "resource_name": name,
                "resource_type": kind,
            }),
            Self::BadRequest { field, description } => json!({
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "field_violations": [{ "field": field, "description": description }],
            }),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, message, details } = self;
        if status.is_server_error() {
            tracing::debug!(%status, code, message, "a request failed");
        }
        let mut body = json!({ "errorCode": code, "message": message });
        if !details.is_empty() {
            body["details"] = details.into_iter().map(Detail::json).collect();
        }
        let json = [(header::CONTENT_TYPE, "application/json")];
        (status, json, body.to_string()).into_response()
    }
}
