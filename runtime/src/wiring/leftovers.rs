//! Data in the store for which the configuration has no consumer or component.

use std::collections::BTreeMap;

use store_forward::Store;

use crate::assemble::Assembly;

/// Warns of messages and keys that the store keeps for consumers and components that are not configured.
pub(super) fn warn(store: &Store, assembly: &Assembly) {
    let Ok(status) = store.status() else { return };
    for consumer in status.consumers.iter().filter(|consumer| consumer.backlog > 0) {
        let Some(inactive) = &consumer.inactive else { continue };
        tracing::warn!(
            consumer = consumer.name,
            messages = consumer.backlog,
            reason = inactive.reason,
            "consumer is not in use any more, its messages are kept until `pannier forget` or the end of their retention"
        );
    }
    let mut kept = BTreeMap::<&str, u64>::new();
    for stream in status.streams.iter().filter(|stream| stream.messages > 0) {
        *kept.entry(&stream.pubsub).or_default() += stream.messages;
    }
    for (component, messages) in kept {
        if !assembly.is_durable_pubsub(component) {
            tracing::warn!(component, messages, "component is gone and holds messages");
        }
    }
    for state in &status.state {
        if !assembly.is_durable_state(&state.component) {
            tracing::warn!(
                component = state.component,
                keys = state.keys,
                "component is gone and holds keys"
            );
        }
    }
}
