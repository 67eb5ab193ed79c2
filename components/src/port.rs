//! The ports: the traits that components implement and building blocks call.

pub mod pubsub;
pub mod state;

use std::sync::Arc;

use async_trait::async_trait;
use store_forward::Store;
use store_forward::store::Identity;

/// Behaviour that components of every kind share.
#[async_trait]
pub trait Component: Send + Sync + 'static {
    /// Releases the component's resources after the last call. The default has none.
    async fn close(&self) {}
}

/// A component's place in an embedded store.
#[derive(Clone)]
pub struct Local {
    /// The store.
    pub store: Store,
    /// The component's namespace there: its name.
    pub component: Arc<str>,
}

impl Local {
    /// Returns the identity of the store, from which event ids are made.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.store.identity()
    }
}
