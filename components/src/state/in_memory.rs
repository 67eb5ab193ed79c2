//! `state.in-memory`: state that is gone with the process.

use std::sync::Arc;

use super::redb::OnStore;
use crate::port::state::StateStore;
use crate::registry::{BuildError, Context};

/// The type's name.
pub(crate) const KIND: &str = "state.in-memory";

/// On a store of its own in memory. `maxBytes` bounds it.
pub(crate) fn build(mut context: Context) -> Result<Arc<dyn StateStore>, BuildError> {
    let store = context.open_in_memory()?;
    let Context { name, metadata, .. } = context;
    metadata.finish()?;
    Ok(Arc::new(OnStore::new(name, store)))
}
