//! What a state store can do.

use std::time::Duration;

use async_trait::async_trait;

use crate::Refusal;

/// A key-value store with entity tags and times to live.
#[async_trait]
pub trait StateStore: Send + Sync + 'static {
    /// The row of that key; `None` when it is absent or expired.
    async fn get(&self, key: &str) -> Result<Option<Item>, StateError>;

    /// Does all of the operations in their order, or none; durable on return if the store is.
    async fn write(&self, ops: Vec<StateOp>) -> Result<(), StateError>;

    /// What the store can do, in Dapr's words (`ETAG`, `TRANSACTIONAL`, `TTL`).
    fn features(&self) -> &'static [&'static str];

    /// Operations that one [`write`](Self::write) takes at most.
    fn max_operations(&self) -> usize {
        MAX_OPERATIONS
    }
}

/// Operations of one transaction: all of them are applied under one lock, so others wait for them.
const MAX_OPERATIONS: usize = 1000;

/// A row of a state store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value, byte for byte.
    pub value: Vec<u8>,
    /// Changes with each write of the row.
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
        /// What must hold of the key before.
        condition: EtagCondition,
        /// Time to live; `None` for ever, whatever an earlier write said.
        ttl: Option<Duration>,
    },
    /// Deletes a key; an absent one is no error unless an entity tag is asked for.
    Delete {
        /// The key.
        key: String,
        /// What must hold of the key before.
        condition: EtagCondition,
    },
}

impl StateOp {
    /// The key it changes.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Set { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// The key it changes, to be replaced.
    pub fn key_mut(&mut self) -> &mut String {
        match self {
            Self::Set { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}

/// What must hold of a key before it is changed.
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

/// Why a state store refused. The first words of the entity tag errors are Dapr's: SDKs look at them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
        /// What was sent.
        etag: String,
    },
    /// It has nothing to do with entity tags.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

fn tag(etag: Option<&String>) -> String {
    etag.map_or_else(|| "no value".to_owned(), |etag| format!("etag {etag}"))
}
