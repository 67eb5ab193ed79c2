//! The table of component types. A new component is a file of its own and a line here.

use std::sync::Arc;

use crate::context::{BuildError, Building, Context};
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
    /// The constructor.
    pub build: Build,
}

/// A constructor, by the building block that the component is for.
#[non_exhaustive]
pub enum Build {
    /// A state store.
    State(fn(Context) -> Building<dyn StateStore>),
    /// A pub/sub component.
    PubSub(fn(Context) -> Building<dyn PubSub>),
}

/// A component, ready to use.
#[non_exhaustive]
pub enum Built {
    /// A state store.
    State(Arc<dyn StateStore>),
    /// A pub/sub component.
    PubSub(Arc<dyn PubSub>),
}

/// Builds a component of the type `kind`.
///
/// # Errors
///
/// When there is no such type, its settings are wrong, or its store can't be opened.
pub async fn build(kind: &str, context: Context) -> Result<Built, BuildError> {
    match find(kind).map(|found| &found.build) {
        Some(Build::State(build)) => build(context).await.map(Built::State),
        Some(Build::PubSub(build)) => build(context).await.map(Built::PubSub),
        None => Err(BuildError::UnknownType {
            component: context.name,
            kind: kind.to_owned(),
            file: context.metadata.origin().file.clone(),
            line: context.metadata.origin().line,
            known: TYPES.iter().map(|known| known.kind).collect::<Vec<_>>().join(", "),
        }),
    }
}

/// Finds a type by its name.
#[must_use]
pub fn find(kind: &str) -> Option<&'static Type> {
    TYPES.iter().find(|known| known.kind == kind)
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
