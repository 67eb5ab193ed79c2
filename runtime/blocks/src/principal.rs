//! The actor of a command.

use std::sync::Arc;

/// The actor of a command, to whom scopes and permissions apply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Principal {
    /// An app, by its id.
    App(Arc<str>),
    /// An uplink, by its name: it publishes what its broker sends.
    Uplink(Arc<str>),
    /// The runtime itself, to which no scope applies.
    Runtime,
}

impl Principal {
    /// Returns the name that errors and CloudEvents give the actor.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::App(name) | Self::Uplink(name) => name,
            Self::Runtime => "pannier",
        }
    }
}
