//! `pubsub.in-memory`: topics that are lost with the process.

use super::redb::{PubSubOnStore, limits};
use crate::context::{Building, Context};
use crate::port::pubsub::PubSub;

/// The type's name.
pub(crate) const KIND: &str = "pubsub.in-memory";

/// Builds one on a separate store in memory. `maxBytes` bounds the whole store, not one topic.
pub(crate) fn build(mut context: Context) -> Building<dyn PubSub> {
    Box::pin(async move {
        let store = context.open_in_memory()?;
        let Context { name, mut metadata, .. } = context;
        let limits = limits(&mut metadata);
        metadata.finish()?;
        PubSubOnStore::open(&name, store, limits, false).await
    })
}
