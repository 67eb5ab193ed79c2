//! The device's pub/sub components, as uplinks use them.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use store_forward::consumer::Delivery;
use store_forward::record::Op;
use store_forward::{Error, Store};

use crate::pubsub::PubSubBlock;
use crate::pubsub::cloudevent::{self, Origin};
use crate::uplink::{Arrival, UplinkComponents};

/// An uplink's access to the components.
pub(super) struct UplinkAccess {
    /// The node's store.
    pub(super) store: Store,
    /// The components in that store.
    pub(super) durable: BTreeSet<String>,
    /// All components.
    pub(super) block: Arc<PubSubBlock>,
}

#[async_trait]
impl UplinkComponents for UplinkAccess {
    fn store(&self, pubsub: &str) -> Option<Store> {
        self.durable.contains(pubsub).then(|| self.store.clone())
    }

    fn envelope(&self, delivery: &Delivery) -> Option<Vec<u8>> {
        let (_, entry) =
            self.block.entries().find(|(name, _)| *name == delivery.topic.component)?;
        let origin = Origin { identity: &entry.identity, stream: delivery.stream };
        let message = &delivery.message;
        Some(cloudevent::envelope(&delivery.topic, message, origin, message.at.wall_ms))
    }

    async fn publish(&self, arrivals: Vec<Arrival>) -> Result<(), Error> {
        let publish = |Arrival { topic, message }| Op::Publish { topic, message };
        self.store.commit(arrivals.into_iter().map(publish).collect()).await.map(drop)
    }
}
