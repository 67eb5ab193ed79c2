//! State requests in JSON.

use std::collections::BTreeMap;

use blocks::state::{Change, WriteOptions};
use serde::Deserialize;
use serde_json::value::RawValue;

/// An item of a save, or the request of a transaction's operation.
#[derive(Deserialize)]
#[serde(expecting = "an object with a key and a value")]
pub(super) struct WireItem<'a> {
    key: Option<String>,
    /// As it came: numbers stay exact.
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    etag: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
    options: Option<WireOptions>,
}

/// Ways to write.
#[derive(Deserialize)]
#[serde(expecting = "an object with concurrency or consistency")]
struct WireOptions {
    concurrency: Option<String>,
    consistency: Option<String>,
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
    /// Returns the change that the item asks for. A value that is left out is `null`.
    pub(super) fn into_change(self) -> Change {
        Change {
            key: self.key.unwrap_or_default(),
            value: self.value.map_or("null", RawValue::get).as_bytes().to_vec(),
            etag: self.etag,
            metadata: self.metadata.unwrap_or_default(),
            options: self.options.map(WireOptions::into_options).unwrap_or_default(),
        }
    }
}

impl WireOptions {
    fn into_options(self) -> WriteOptions {
        WriteOptions { concurrency: self.concurrency, consistency: self.consistency }
    }
}
