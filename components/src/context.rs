//! The context that a component is built in, and the errors of building.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use store_forward::Store;
use store_forward::limits::Limits;
use store_forward::store::OpenError;

use crate::embedded::Embedded;
use crate::metadata::{Metadata, MetadataError};

/// A component under construction.
pub type Building<T> = Pin<Box<dyn Future<Output = Result<Arc<T>, BuildError>> + Send>>;

/// The context that a component is built in.
pub struct Context {
    /// `metadata.name`.
    pub name: String,
    /// The component's settings, without those that its building block has taken.
    pub metadata: Metadata,
    /// The node's store, which the first component that needs it opens.
    pub embedded: Embedded,
    /// The node's limits.
    pub limits: Limits,
}

/// A component that can't be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The type is unknown.
    #[error("{}:{line}: component {component:?}: type {kind:?} is unknown; this version has {known}", file.display())]
    UnknownType {
        /// The component's name.
        component: String,
        /// The type as written.
        kind: String,
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The known types.
        known: String,
    },
    /// Wrong settings.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A store that can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A store that refused.
    #[error(transparent)]
    Store(#[from] store_forward::Error),
}

/// Bytes of an in-memory component unless `maxBytes` says otherwise: a small device has 512 MiB.
const MEMORY_BYTES: u64 = 64 << 20;

/// The least bytes of an in-memory component: empty tables take about half of them.
const MIN_MEMORY_BYTES: u64 = 4 << 20;

impl Context {
    /// Opens a store in memory of at most `maxBytes` bytes, which is lost with the process.
    pub(crate) fn open_in_memory(&mut self) -> Result<Store, OpenError> {
        let at_least = |bytes: &u64| *bytes >= MIN_MEMORY_BYTES;
        let disk_bytes = self
            .metadata
            .take_parsed("maxBytes", "a number of bytes from 4Mi, for example 64Mi", |text| {
                config::units::parse_bytes(text).ok().filter(at_least)
            })
            .unwrap_or(MEMORY_BYTES);
        let limits = Limits { disk_bytes, reserve_bytes: 0, ..self.limits.clone() };
        self.embedded.open_volatile(limits)
    }
}
