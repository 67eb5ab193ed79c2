//! What state requests look like, and what they ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use components::{EtagCondition, Refusal, StateError, StateOp};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Seconds that a row may live at most: a hundred years. More than that is a slip, and times that
/// far ahead can't be written as a date.
const MAX_TTL_SECONDS: i64 = 100 * 365 * 24 * 3600;

/// An item of a save, or the request of a transaction's operation.
#[derive(Deserialize)]
#[serde(expecting = "an object with a key and a value")]
pub(super) struct WireItem<'a> {
    pub(super) key: Option<String>,
    /// As it came: numbers stay exact.
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    etag: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
    options: Option<Options>,
}

/// How to write.
#[derive(Default, Deserialize)]
#[serde(expecting = "an object with concurrency or consistency")]
pub(super) struct Options {
    pub(super) concurrency: Option<String>,
    pub(super) consistency: Option<String>,
}

/// A bulk get. `parallelism` is read to be checked: rows come from one snapshot.
#[derive(Deserialize)]
#[serde(expecting = "an object with keys")]
pub(super) struct WireBulkGet {
    pub(super) keys: Option<Vec<String>>,
    #[serde(rename = "parallelism")]
    _parallelism: Option<i64>,
    #[serde(rename = "metadata")]
    _metadata: Option<BTreeMap<String, String>>,
}

/// A transaction.
#[derive(Deserialize)]
#[serde(expecting = "an object with operations")]
pub(super) struct WireTransaction<'a> {
    #[serde(borrow)]
    pub(super) operations: Option<Vec<WireOperation<'a>>>,
    #[serde(rename = "metadata")]
    _metadata: Option<BTreeMap<String, String>>,
}

/// An operation of a transaction.
#[derive(Deserialize)]
#[serde(expecting = "an object with an operation and a request")]
pub(super) struct WireOperation<'a> {
    pub(super) operation: Option<String>,
    #[serde(borrow)]
    pub(super) request: Option<&'a RawValue>,
}

impl WireItem<'_> {
    /// The upsert it asks for. `metadata` of the URL overrides the item's own.
    pub(super) fn upsert(self, metadata: &BTreeMap<String, String>) -> Result<StateOp, StateError> {
        let own = self.metadata.unwrap_or_default();
        let ttl = ttl(find_ttl(metadata).or_else(|| find_ttl(&own)))?;
        let condition = condition(self.etag, &self.options.unwrap_or_default())?;
        let value = self.value.map_or("null", RawValue::get).as_bytes().to_vec();
        Ok(StateOp::Set { key: self.key.unwrap_or_default(), value, condition, ttl })
    }

    /// The deletion it asks for.
    pub(super) fn delete(self) -> Result<StateOp, StateError> {
        delete(self.key.unwrap_or_default(), self.etag, &self.options.unwrap_or_default())
    }
}

/// A deletion: `first-write` means nothing there, since there is no value to insert.
pub(super) fn delete(
    key: String,
    etag: Option<String>,
    options: &Options,
) -> Result<StateOp, StateError> {
    let condition = match condition(etag, options)? {
        EtagCondition::FirstWrite => EtagCondition::Any,
        condition => condition,
    };
    Ok(StateOp::Delete { key, condition })
}

/// Every read and write is strongly consistent; the word must be known all the same.
pub(super) fn check_consistency(consistency: &str) -> Result<(), StateError> {
    match consistency {
        "" | "strong" | "eventual" => Ok(()),
        other => Err(unusable(format!("unrecognized consistency model '{other}'"))),
    }
}

fn condition(etag: Option<String>, options: &Options) -> Result<EtagCondition, StateError> {
    check_consistency(options.consistency.as_deref().unwrap_or_default())?;
    let otherwise = match options.concurrency.as_deref().unwrap_or_default() {
        "" | "last-write" => EtagCondition::Any,
        "first-write" => EtagCondition::FirstWrite,
        other => return Err(unusable(format!("unrecognized concurrency model '{other}'"))),
    };
    Ok(etag.filter(|etag| !etag.is_empty()).map_or(otherwise, EtagCondition::Matches))
}

fn find_ttl(metadata: &BTreeMap<String, String>) -> Option<&str> {
    let mut found = metadata.iter().filter(|(name, _)| name.eq_ignore_ascii_case("ttlInSeconds"));
    found.next().map(|(_, value)| value.as_str())
}

fn ttl(seconds: Option<&str>) -> Result<Option<Duration>, StateError> {
    let Some(text) = seconds.filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.parse::<i64>() {
        Ok(-1 | 0) => Ok(None),
        Ok(seconds @ 1..=MAX_TTL_SECONDS) => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
        _ => Err(unusable(format!(
            "incorrect value for metadata 'ttlInSeconds': {text:?} must be a whole number from -1 to {MAX_TTL_SECONDS}"
        ))),
    }
}

fn unusable(message: String) -> StateError {
    StateError::Refused(Refusal::Other(message))
}
