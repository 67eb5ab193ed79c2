//! The state building block: keys and values of an app.

use std::collections::BTreeMap;
use std::time::Duration;

use components::{EtagCondition, Item, Refusal, StateError, StateOp, StateStore};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::fault::{self, Detail, Fault, Kind, Reason};
use crate::registry::key_prefix::SEPARATOR;
use crate::registry::{PrefixedStore, Registry};

/// Maximum time to live of a row in seconds: a hundred years. More is a mistake, and times that far
/// ahead can't be written as a date.
const MAX_TTL_SECONDS: i64 = 100 * 365 * 24 * 3600;

/// A state store with an app's prefix. Callers see their own keys, in errors too.
pub struct BoundStore<'a> {
    name: &'a str,
    prefix: &'a str,
    store: &'a dyn StateStore,
}

/// An item to be written or deleted.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The value, byte for byte; a deletion has none.
    pub value: Vec<u8>,
    /// The entity tag that the key must have; none or an empty one for any.
    pub etag: Option<String>,
    /// The item's metadata: `ttlInSeconds`.
    pub metadata: fault::Metadata,
    /// The ways to write.
    pub options: WriteOptions,
}

/// Ways to write, in Dapr's words.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// `first-write` or `last-write`.
    pub concurrency: Option<String>,
    /// `strong` or `eventual`.
    pub consistency: Option<String>,
}

/// An operation of a transaction.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The effect on the key.
    pub kind: OperationKind,
    /// The item.
    pub change: Change,
}

/// The effect of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    /// Sets the key.
    Upsert,
    /// Deletes the key.
    Delete,
}

impl OperationKind {
    /// Reads `upsert` or `delete`.
    ///
    /// # Errors
    ///
    /// When it is another word.
    pub fn parse(word: &str) -> Result<Self, Fault> {
        match word {
            "upsert" => Ok(Self::Upsert),
            "delete" => Ok(Self::Delete),
            _ => {
                let message = format!("operation type {word} not supported");
                Err(Fault::new(Kind::Invalid, Reason::StateOperation, message))
            }
        }
    }
}

/// Returns the time of expiry by the wall clock (RFC 3339, whole seconds).
#[must_use]
pub fn expire_time(expires_in: Duration) -> Option<String> {
    let at = OffsetDateTime::now_utc().checked_add(expires_in.try_into().ok()?)?;
    at.replace_nanosecond(0).ok()?.format(&Rfc3339).ok()
}

/// Finds a store that the app may use.
///
/// # Errors
///
/// When the app has no store of that name.
pub fn find<'a>(registry: &'a Registry, name: &str) -> Result<BoundStore<'a>, Fault> {
    if let Some(PrefixedStore { component, prefix }) = registry.state.get(name) {
        return Ok(BoundStore { name: &component.name, prefix, store: &*component.store });
    }
    let (kind, reason, what) = if registry.state.is_empty() {
        (Kind::Internal, Reason::StateNotConfigured, "configured")
    } else {
        (Kind::Invalid, Reason::StateNotFound, "found")
    };
    let metadata = BTreeMap::from([("appID".to_owned(), registry.app_id().to_owned())]);
    Err(Fault::new(kind, reason, format!("state store {name} is not {what}"))
        .with(Detail::ErrorInfo { metadata: Some(metadata) }))
}

impl BoundStore<'_> {
    /// Reads a row; `None` when it is absent or expired.
    ///
    /// # Errors
    ///
    /// When the key or the consistency can't be used, or the store can't be read.
    pub async fn get(&self, key: &str, consistency: &str) -> Result<Option<Item>, Fault> {
        self.check_key(key)?;
        let failed = |refusal: Refusal| {
            let message = format!("fail to get {key} from state store {}: {refusal}", self.name);
            Fault::refused(Reason::StateGet, message, refusal)
        };
        check_consistency(Some(consistency)).map_err(failed)?;
        let mut rows = self.read([key]).await;
        rows.pop().unwrap_or(Ok(None)).map_err(failed)
    }

    /// Reads several rows: one result for each key, in their order.
    ///
    /// # Errors
    ///
    /// When a key can't be used.
    pub async fn get_bulk(
        &self,
        keys: &[String],
    ) -> Result<Vec<Result<Option<Item>, Refusal>>, Fault> {
        for key in keys {
            self.check_key(key)?;
        }
        Ok(self.read(keys.iter().map(String::as_str)).await)
    }

    /// Sets keys: all of them durably if the store is durable, or none. The request's metadata overrides
    /// the items' own.
    ///
    /// # Errors
    ///
    /// When an item can't be used, a condition does not hold, or the store refuses.
    pub async fn save(&self, items: Vec<Change>, metadata: &fault::Metadata) -> Result<(), Fault> {
        for item in &items {
            self.check_given_key(&item.key)?;
        }
        let failed = |error: StateError| {
            let message = format!("failed saving state in state store {}: {error}", self.name);
            write_failed(Reason::StateSave, message, error)
        };
        let ops: Result<Vec<_>, _> = items.into_iter().map(|item| upsert(item, metadata)).collect();
        let ops = ops.map_err(|refusal| failed(refusal.into()))?;
        if ops.is_empty() {
            return Ok(());
        }
        self.write(ops).await.map_err(failed)
    }

    /// Deletes a key; an absent one is no error unless an entity tag is asked for.
    ///
    /// # Errors
    ///
    /// When the key or an option can't be used, the condition does not hold, or the store refuses.
    pub async fn delete(&self, change: Change) -> Result<(), Fault> {
        self.check_key(&change.key)?;
        let key = change.key.clone();
        let failed = |error: StateError| {
            let message = format!("failed deleting state with key {key}: {error}");
            write_failed(Reason::StateDelete, message, error)
        };
        let op = deletion(change).map_err(|refusal| failed(refusal.into()))?;
        self.write(vec![op]).await.map_err(failed)
    }

    /// Carries out operations in their order, all of them or none. The request's metadata overrides the
    /// items' own.
    ///
    /// # Errors
    ///
    /// When an operation can't be used, there are too many, a condition does not hold, or the store
    /// refuses.
    pub async fn transact(
        &self,
        operations: Vec<Operation>,
        metadata: &fault::Metadata,
    ) -> Result<(), Fault> {
        let mut ops = Vec::with_capacity(operations.len());
        for Operation { kind, change } in operations {
            self.check_given_key(&change.key)?;
            let op = match kind {
                OperationKind::Upsert => upsert(change, metadata),
                OperationKind::Delete => deletion(change),
            };
            ops.push(op.map_err(|refusal| transaction_failed(refusal.into()))?);
        }
        if ops.is_empty() {
            return Ok(());
        }
        self.check_count(ops.len())?;
        self.write(ops).await.map_err(transaction_failed)
    }

    /// Queries rows by their values, which no store of this version supports.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn query(&self) -> Result<(), Fault> {
        let message = "state store does not support querying";
        let fault = Fault::new(Kind::Unsupported, Reason::StateQuery, message);
        Err(self.about(fault, None))
    }

    fn check_key(&self, key: &str) -> Result<(), Fault> {
        if !key.contains(SEPARATOR) {
            return Ok(());
        }
        let message = format!("input key/keyPrefix '{key}' can't contain '{SEPARATOR}'");
        let violation = Detail::BadRequest { field: key.to_owned(), description: message.clone() };
        let fault = Fault::new(Kind::Invalid, Reason::StateIllegalKey, message).with(violation);
        Err(self.about(fault, None))
    }

    /// Checks a key that may be missing.
    fn check_given_key(&self, key: &str) -> Result<(), Fault> {
        if key.is_empty() {
            let message = "\"key\" is a required field";
            return Err(Fault::new(Kind::Invalid, Reason::StateKeyMissing, message));
        }
        self.check_key(key)
    }

    fn check_count(&self, count: usize) -> Result<(), Fault> {
        let max = self.store.features().transaction.map_or(0, usize::from);
        if count <= max {
            return Ok(());
        }
        let message = format!(
            "the transaction contains {count} operations, which is more than what the state store supports: {max}"
        );
        let metadata = BTreeMap::from([
            ("currentOpsTransaction".to_owned(), count.to_string()),
            ("maxOpsPerTransaction".to_owned(), max.to_string()),
        ]);
        let fault = Fault::new(Kind::Invalid, Reason::StateTooManyTransactions, message);
        Err(self.about(fault, Some(metadata)))
    }

    /// Adds the details that errors about a state store have.
    fn about(&self, fault: Fault, metadata: Option<fault::Metadata>) -> Fault {
        let name = self.name.to_owned();
        let description = String::new();
        fault
            .with(Detail::ResourceInfo { block: "state", name, description })
            .with(Detail::ErrorInfo { metadata })
    }

    async fn read(
        &self,
        keys: impl IntoIterator<Item = &str>,
    ) -> Vec<Result<Option<Item>, Refusal>> {
        let prefixed = keys.into_iter().map(|key| format!("{}{key}", self.prefix));
        self.store.get(&prefixed.collect::<Vec<_>>()).await
    }

    async fn write(&self, mut ops: Vec<StateOp>) -> Result<(), StateError> {
        for op in &mut ops {
            op.key_mut().insert_str(0, self.prefix);
        }
        self.store.write(ops).await.map_err(|error| self.in_app_terms(error))
    }

    fn in_app_terms(&self, error: StateError) -> StateError {
        match error {
            StateError::EtagMismatch { op, key, expected, found } => {
                let key = key.strip_prefix(self.prefix).map(str::to_owned).unwrap_or(key);
                StateError::EtagMismatch { op, key, expected, found }
            }
            error => error,
        }
    }
}

fn upsert(change: Change, request: &fault::Metadata) -> Result<StateOp, Refusal> {
    let Change { key, value, etag, metadata, options } = change;
    let ttl = ttl(find_ttl(request).or_else(|| find_ttl(&metadata)))?;
    let condition = condition(etag, &options)?;
    Ok(StateOp::Set { key, value, condition, ttl })
}

/// Converts a deletion. `first-write` has no effect on one, since it inserts no value.
fn deletion(change: Change) -> Result<StateOp, Refusal> {
    let condition = match condition(change.etag, &change.options)? {
        EtagCondition::FirstWrite => EtagCondition::Any,
        condition => condition,
    };
    Ok(StateOp::Delete { key: change.key, condition })
}

/// Checks the word. Every read and write is strongly consistent, whatever it says.
fn check_consistency(consistency: Option<&str>) -> Result<(), Refusal> {
    match consistency.unwrap_or_default() {
        "" | "strong" | "eventual" => Ok(()),
        other => Err(Refusal::other(format!("unrecognized consistency model '{other}'"))),
    }
}

fn condition(etag: Option<String>, options: &WriteOptions) -> Result<EtagCondition, Refusal> {
    check_consistency(options.consistency.as_deref())?;
    let otherwise = match options.concurrency.as_deref().unwrap_or_default() {
        "" | "last-write" => EtagCondition::Any,
        "first-write" => EtagCondition::FirstWrite,
        other => {
            return Err(Refusal::other(format!("unrecognized concurrency model '{other}'")));
        }
    };
    Ok(etag.filter(|etag| !etag.is_empty()).map_or(otherwise, EtagCondition::Matches))
}

fn find_ttl(metadata: &fault::Metadata) -> Option<&str> {
    let mut found = metadata.iter().filter(|(name, _)| name.eq_ignore_ascii_case("ttlInSeconds"));
    found.next().map(|(_, value)| value.as_str())
}

fn ttl(seconds: Option<&str>) -> Result<Option<Duration>, Refusal> {
    let Some(text) = seconds.filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(-1 | 0) => Ok(None),
        Ok(seconds @ 1..=MAX_TTL_SECONDS) => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
        _ => Err(Refusal::other(format!(
            "incorrect value for metadata 'ttlInSeconds': {text:?} must be a whole number from -1 to {MAX_TTL_SECONDS}"
        ))),
    }
}

fn write_failed(reason: Reason, message: String, error: StateError) -> Fault {
    let kind = match &error {
        StateError::EtagMismatch { .. } => Kind::Conflict,
        StateError::EtagInvalid { .. } => Kind::Invalid,
        StateError::Refused(refusal) => refusal.kind.into(),
        _ => Kind::Internal,
    };
    Fault::new(kind, reason, message).caused_by(error)
}

fn transaction_failed(error: StateError) -> Fault {
    let message = format!("error while executing state transaction: {error}");
    write_failed(Reason::StateTransaction, message, error)
}
