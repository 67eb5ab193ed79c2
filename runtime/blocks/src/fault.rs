//! The one error type that building blocks return, independent of any protocol.

use std::collections::BTreeMap;
use std::error::Error as StdError;

use components::{Refusal, RefusalKind};

/// Metadata of a request, or names and values that explain an error.
pub type Metadata = BTreeMap<String, String>;

/// The failure of a command.
///
/// Each API translates [`kind`](Self::kind) and [`reason`](Self::reason) into its own status by one
/// table.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The class of the error, which tells callers whether to try again.
    pub kind: Kind,
    /// The operation that failed, or the condition that it failed for.
    pub reason: Reason,
    /// A message that names the thing, the limit and the remedy.
    pub message: String,
    /// Structured details, in the order of the answer.
    pub details: Vec<Detail>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Classes of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The command is invalid.
    Invalid,
    /// The component doesn't exist, or not for this caller.
    NotFound,
    /// The caller may not do this.
    Forbidden,
    /// A key is not in the state that the caller expects.
    Conflict,
    /// The component doesn't support it.
    Unsupported,
    /// There is no room; trying again later may succeed.
    Full,
    /// Something is too large; trying again fails too.
    TooLarge,
    /// Nothing can be written until a restart.
    Unavailable,
    /// Anything else.
    Internal,
}

/// Operations and conditions that errors tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names say it")]
pub enum Reason {
    PubSubNotConfigured,
    PubSubNotFound,
    PubSubNameEmpty,
    TopicNameEmpty,
    TopicTooLong,
    TopicIllegal,
    PubSubForbidden,
    PublishMessage,
    CloudEventCreation,
    PublishMetadata,
    UnmarshalEvents,
    MarshalEvents,
    StateNotConfigured,
    StateNotFound,
    StateKeyMissing,
    StateIllegalKey,
    StateGet,
    StateSave,
    StateDelete,
    StateTransaction,
    StateOperation,
    StateTooManyTransactions,
    StateQuery,
}

impl Reason {
    /// Returns the name that Dapr's SDKs know (`google.rpc.ErrorInfo.reason`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PubSubNotConfigured => "DAPR_PUBSUB_NOT_CONFIGURED",
            Self::PubSubNotFound => "DAPR_PUBSUB_NOT_FOUND",
            Self::PubSubNameEmpty => "DAPR_PUBSUB_NAME_EMPTY",
            Self::TopicNameEmpty => "DAPR_PUBSUB_TOPIC_NAME_EMPTY",
            Self::TopicTooLong => "DAPR_PUBSUB_TOPIC_TOO_LONG",
            Self::TopicIllegal => "DAPR_PUBSUB_TOPIC_ILLEGAL",
            Self::PubSubForbidden => "DAPR_PUBSUB_FORBIDDEN",
            Self::PublishMessage => "DAPR_PUBSUB_PUBLISH_MESSAGE",
            Self::CloudEventCreation => "DAPR_PUBSUB_CLOUD_EVENT_CREATION",
            Self::PublishMetadata => "DAPR_PUBSUB_METADATA_DESERIALIZATION",
            Self::UnmarshalEvents => "DAPR_PUBSUB_UNMARSHAL_EVENTS",
            Self::MarshalEvents => "DAPR_PUBSUB_MARSHAL_EVENTS",
            Self::StateNotConfigured => "DAPR_STATE_NOT_CONFIGURED",
            Self::StateNotFound => "DAPR_STATE_NOT_FOUND",
            Self::StateKeyMissing | Self::StateIllegalKey => "DAPR_STATE_ILLEGAL_KEY",
            Self::StateGet => "DAPR_STATE_GET",
            Self::StateSave => "DAPR_STATE_SAVE",
            Self::StateDelete => "DAPR_STATE_DELETE",
            Self::StateTransaction => "DAPR_STATE_TRANSACTION",
            Self::StateOperation => "DAPR_STATE_OPERATION_NOT_SUPPORTED",
            Self::StateTooManyTransactions => "DAPR_STATE_TOO_MANY_TRANSACTIONS",
            Self::StateQuery => "DAPR_STATE_QUERYING_NOT_SUPPORTED",
        }
    }
}

/// A structured detail of an error (google.rpc's error details).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detail {
    /// `google.rpc.ErrorInfo`, of the domain `dapr.io`; its reason is [`Reason::name`].
    ErrorInfo {
        /// Names and values that explain the error; `None` until the request's own are known.
        metadata: Option<Metadata>,
    },
    /// `google.rpc.ResourceInfo`.
    ResourceInfo {
        /// The building block.
        block: &'static str,
        /// The component.
        name: String,
        /// A description, which may be empty.
        description: String,
    },
    /// `google.rpc.BadRequest` with one violation.
    BadRequest {
        /// The field that is wrong.
        field: String,
        /// A description.
        description: String,
    },
}

impl Fault {
    /// Creates an error without details or cause.
    pub fn new(kind: Kind, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, reason, message: message.into(), details: Vec::new(), source: None }
    }

    /// Creates the error for a refusal of a component.
    pub fn refused(reason: Reason, message: impl Into<String>, refusal: Refusal) -> Self {
        Self::new(refusal.kind.into(), reason, message).caused_by(refusal)
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, detail: Detail) -> Self {
        self.details.push(detail);
        self
    }

    /// Adds the request's metadata to an [`Detail::ErrorInfo`] that has none.
    #[must_use]
    pub fn with_request(mut self, request: &Metadata) -> Self {
        for detail in &mut self.details {
            if let Detail::ErrorInfo { metadata: metadata @ None } = detail {
                *metadata = Some(request.clone());
            }
        }
        self
    }
}

impl From<RefusalKind> for Kind {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Full => Self::Full,
            RefusalKind::TooLarge => Self::TooLarge,
            RefusalKind::Unavailable => Self::Unavailable,
            _ => Self::Internal,
        }
    }
}
