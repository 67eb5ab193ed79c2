//! The one table of component types. A new component is a file of its own and a line here.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use store_forward::Store;
use store_forward::clock::Clock;
use store_forward::disk::MemoryDisk;
use store_forward::limits::Limits;
use store_forward::store::{OpenError, Options};

use crate::metadata::{Metadata, MetadataError};
use crate::port::pubsub::PubSub;
use crate::port::state::StateStore;
use crate::{pubsub, state};

/// Every component type.
pub const TYPES: &[Type] = &[
    Type { kind: state::redb::KIND, build: Build::State(state::redb::build) },
    Type { kind: state::in_memory::KIND, build: Build::State(state::in_memory::build) },
    Type { kind: pubsub::redb::KIND, build: Build::PubSub(pubsub::redb::build) },
    Type { kind: pubsub::in_memory::KIND, build: Build::PubSub(pubsub::in_memory::build) },
];

/// A component type.
pub struct Type {
    /// `spec.type`, for example `state.redb`.
    pub kind: &'static str,
    /// Its constructor.
    pub build: Build,
}

/// A constructor, by the building block that the component is for.
#[non_exhaustive]
pub enum Build {
    /// A state store.
    State(fn(Context) -> Result<Arc<dyn StateStore>, BuildError>),
    /// A pub/sub component.
    PubSub(fn(Context) -> BuildPubSub),
}

/// A pub/sub component on its way.
pub type BuildPubSub = Pin<Box<dyn Future<Output = Result<Arc<dyn PubSub>, BuildError>> + Send>>;

/// What a component is made of.
pub struct Context {
    /// `metadata.name`.
    pub name: String,
    /// Its settings, without those that its building block has taken.
    pub metadata: Metadata,
    /// The node's store.
    pub store: Store,
    /// The node's limits.
    pub limits: Limits,
    /// The node's clock.
    pub clock: Arc<dyn Clock>,
}

/// A component, ready to use.
#[non_exhaustive]
pub enum Built {
    /// A state store.
    State(Arc<dyn StateStore>),
    /// A pub/sub component.
    PubSub(Arc<dyn PubSub>),
}

/// Why a component can't be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No such type.
    #[error("{}:{line}: component {component:?}: type {kind:?} is unknown; this version has {}", file.display(), kinds())]
    UnknownType {
        /// The component's name.
        component: String,
        /// The type that was asked for.
        kind: String,
        /// Where.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Its settings are wrong.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Its store can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its store refused.
    #[error(transparent)]
    Store(#[from] store_forward::Error),
}

/// Builds a component of the type `kind`.
pub async fn build(kind: &str, context: Context) -> Result<Built, BuildError> {
    match find(kind).map(|found| &found.build) {
        Some(Build::State(build)) => build(context).map(Built::State),
        Some(Build::PubSub(build)) => build(context).await.map(Built::PubSub),
        None => Err(BuildError::UnknownType {
            component: context.name,
            kind: kind.to_owned(),
            file: context.metadata.origin().file.clone(),
            line: context.metadata.origin().line,
        }),
    }
}

/// The type of that name.
#[must_use]
pub fn find(kind: &str) -> Option<&'static Type> {
    TYPES.iter().find(|known| known.kind == kind)
}

/// Bytes of an in-memory component unless `maxBytes` says otherwise: a small device has 512 MiB.
const MEMORY_BYTES: u64 = 64 << 20;

/// Bytes of an in-memory component at least: empty tables take about half of them.
const MIN_MEMORY_BYTES: u64 = 4 << 20;

impl Context {
    /// A store in memory of at most `maxBytes`, of which nothing is left at the end.
    pub(crate) fn open_in_memory(&mut self) -> Result<Store, OpenError> {
        let at_least = |bytes: &u64| *bytes >= MIN_MEMORY_BYTES;
        let disk_bytes = self
            .metadata
            .take_parsed("maxBytes", "a number of bytes from 4Mi, for example 64Mi", |text| {
                config::units::parse_bytes(text).ok().filter(at_least)
            })
            .unwrap_or(MEMORY_BYTES);
        let limits = Limits { disk_bytes, reserve_bytes: 0, ..self.limits.clone() };
        let node = Some(self.store.identity().node.clone());
        let options = Options { node, limits, volatile: true };
        Store::open(options, Arc::new(MemoryDisk::new()), Arc::clone(&self.clock))
    }
}

fn kinds() -> String {
    TYPES.iter().map(|known| known.kind).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_named_once_and_for_its_block() {
        for (at, known) in TYPES.iter().enumerate() {
            let block = match known.build {
                Build::State(_) => "state.",
                Build::PubSub(_) => "pubsub.",
            };
            assert!(known.kind.starts_with(block), "{}", known.kind);
            assert!(TYPES[at + 1..].iter().all(|other| other.kind != known.kind));
        }
        assert!(find("state.redis").is_none());
    }
}
