//! The table of component types. A new component is a file of its own and a line here.

use std::sync::Arc;

use crate::context::{BuildError, Building, Context};
use crate::port::pubsub::PubSub;
use crate::port::state::StateStore;
use crate::{pubsub, state};

/// Every component type.
pub const TYPES: &[ComponentType] = &[
    ComponentType::state(state::redb::KIND, state::redb::build),
    ComponentType::state(state::in_memory::KIND, state::in_memory::build),
    ComponentType::pubsub(pubsub::redb::KIND, pubsub::redb::build),
    ComponentType::pubsub(pubsub::in_memory::KIND, pubsub::in_memory::build),
];

/// A component type.
pub struct ComponentType {
    /// `spec.type`, for example `state.redb`.
    pub kind: &'static str,
    /// The constructor.
    pub build: Constructor,
}

impl ComponentType {
    const fn state(kind: &'static str, build: fn(Context) -> Building<dyn StateStore>) -> Self {
        Self { kind, build: Constructor::State(build) }
    }

    const fn pubsub(kind: &'static str, build: fn(Context) -> Building<dyn PubSub>) -> Self {
        Self { kind, build: Constructor::PubSub(build) }
    }
}

/// A constructor, by the building block that the component is for.
#[non_exhaustive]
pub enum Constructor {
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
        Some(Constructor::State(build)) => build(context).await.map(Built::State),
        Some(Constructor::PubSub(build)) => build(context).await.map(Built::PubSub),
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
pub fn find(kind: &str) -> Option<&'static ComponentType> {
    TYPES.iter().find(|known| known.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_named_once_and_for_its_block() {
        for (at, known) in TYPES.iter().enumerate() {
            let block = match known.build {
                Constructor::State(_) => "state.",
                Constructor::PubSub(_) => "pubsub.",
            };
            assert!(known.kind.starts_with(block), "{}", known.kind);
            assert!(TYPES[at + 1..].iter().all(|other| other.kind != known.kind));
        }
        assert!(find("state.redis").is_none());
    }
}
