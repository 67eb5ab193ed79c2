//! `state.in-memory`: state that is lost with the process.

use super::redb::StateOnStore;
use crate::context::{Building, Context};
use crate::port::state::StateStore;

/// The type's name.
pub(crate) const KIND: &str = "state.in-memory";

/// Builds one on a separate store in memory. `maxBytes` bounds it.
pub(crate) fn build(mut context: Context) -> Building<dyn StateStore> {
    Box::pin(async move {
        let store = context.open_in_memory()?;
        let Context { name, metadata, .. } = context;
        metadata.finish()?;
        Ok(StateOnStore::open(&name, store, false))
    })
}
