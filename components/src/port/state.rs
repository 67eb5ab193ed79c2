//! The port of state stores.

use std::num::NonZeroUsize;
use std::time::Duration;

use async_trait::async_trait;

use super::{Component, Local};
use crate::Refusal;

/// A key-value store with entity tags and times to live.
#[async_trait]
pub trait StateStore: Component {
    /// Returns the abilities of the store.
    fn features(&self) -> StateFeatures;

    /// Reads keys: one result for each, in their order; `None` for one that is absent or expired.
    async fn get(&self, keys: &[String]) -> Vec<Result<Option<Item>, Refusal>>;

    /// Applies all of the operations in their order, or none. On return they are durable if the
    /// store is.
    ///
    /// # Errors
    ///
    /// When a condition does not hold or the store refuses.
    async fn write(&self, ops: Vec<StateOp>) -> Result<(), StateError>;

    /// Returns the component's place in an embedded store, if it has one.
    fn local(&self) -> Option<&Local> {
        None
    }
}

/// The abilities of a state store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateFeatures {
    /// Writes may depend on entity tags.
    pub etag: bool,
    /// Rows may expire.
    pub ttl: bool,
    /// Operations of one transaction at most; `None` where there are no transactions.
    pub transaction: Option<NonZeroUsize>,
    /// Rows can be queried by their values.
    pub query: bool,
    /// Rows outlive the process and the power.
    pub durable: bool,
}

/// A row of a state store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value, byte for byte.
    pub value: Vec<u8>,
    /// The entity tag, which changes with each write of the row.
    pub etag: String,
    /// Time left to live; `None` for ever.
    pub expires_in: Option<Duration>,
}

/// A change to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateOp {
    /// Sets a key.
    Set {
        /// The key.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// The state that the key must be in before.
        condition: EtagCondition,
        /// Time to live; `None` for ever, whatever an earlier write said.
        ttl: Option<Duration>,
    },
    /// Deletes a key; an absent one is no error unless an entity tag is asked for.
    Delete {
        /// The key.
        key: String,
        /// The state that the key must be in before.
        condition: EtagCondition,
    },
}

impl StateOp {
    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Set { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// Returns the key, to be replaced.
    pub fn key_mut(&mut self) -> &mut String {
        match self {
            Self::Set { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}

/// The state that a key must be in before it is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EtagCondition {
    /// Nothing: the last write wins.
    #[default]
    Any,
    /// The key is absent or expired.
    FirstWrite,
    /// The key is there with this entity tag.
    Matches(String),
}

/// A write that a state store refused. The messages about entity tags begin with Dapr's text, which
/// SDKs compare.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A key is not in the state that was asked for.
    #[error("possible etag mismatch. error from state store: key {key:?} was expected to have {}, and has {}", tag(expected.as_ref()), tag(found.as_ref()))]
    EtagMismatch {
        /// The operation's place in the write.
        op: usize,
        /// The key.
        key: String,
        /// The entity tag that was asked for; `None` for no value.
        expected: Option<String>,
        /// The entity tag that was found; `None` for no value.
        found: Option<String>,
    },
    /// An entity tag that this store never gives.
    #[error(
        "invalid etag value: {etag:?} is not an etag of this store, which are decimal numbers; send the one that a get returned"
    )]
    EtagInvalid {
        /// The entity tag as sent.
        etag: String,
    },
    /// A refusal for another reason than entity tags.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

fn tag(etag: Option<&String>) -> String {
    etag.map_or_else(|| "no value".to_owned(), |etag| format!("etag {etag}"))
}
