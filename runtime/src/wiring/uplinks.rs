//! The device's uplinks, and their access to its pub/sub components.

use std::sync::Arc;

use async_trait::async_trait;
use blocks::pubsub::cloudevent::{self, EventSource};
use blocks::registry::Components;
use store_forward::consumer::Delivery;
use store_forward::record::Op;
use store_forward::{Error, Store};

use super::{Device, Tasks};
use crate::uplink::{self, Arrival, UplinkComponents, UplinkContext, UplinkStatus};

/// Starts the uplinks; `statuses` has one entry for each, in the same order.
pub(super) fn start(
    device: &Device,
    store: &Store,
    statuses: &[Arc<UplinkStatus>],
    tasks: &mut Tasks,
) {
    for (spec, status) in device.settings.resources.uplinks.iter().zip(statuses) {
        let components =
            UplinkAccess { store: store.clone(), components: device.assembly.components.clone() };
        let context = UplinkContext {
            identity: store.identity().clone(),
            components: Arc::new(components),
            status: Arc::clone(status),
        };
        let spec = spec.clone();
        let stop = device.stop();
        tasks.inbound.spawn(async move {
            let name = spec.name.clone();
            if let Err(error) = uplink::run(spec, context, stop.requested()).await {
                tracing::error!(uplink = name, %error, "uplink does not run");
            }
        });
    }
}

/// An uplink's access to the components.
struct UplinkAccess {
    /// The node's store. Messages of a downlink are committed to it in one record.
    store: Store,
    components: Components,
}

#[async_trait]
impl UplinkComponents for UplinkAccess {
    fn store(&self, pubsub: &str) -> Option<Store> {
        let component = &self.components.pubsub.get(pubsub)?.component;
        let is_durable = component.features().durable;
        component.local().filter(|_| is_durable).map(|local| local.store.clone())
    }

    fn envelope(&self, delivery: &Delivery) -> Option<Vec<u8>> {
        let component = self.components.pubsub.get(&delivery.topic.component)?;
        let origin = EventSource { identity: &component.identity, stream: delivery.stream };
        let message = &delivery.message;
        Some(cloudevent::envelope(&delivery.topic, message, origin, message.at.wall_ms))
    }

    async fn publish(&self, arrivals: Vec<Arrival>) -> Result<(), Error> {
        let publish = |Arrival { topic, message }| Op::Publish { topic, message };
        self.store.commit(arrivals.into_iter().map(publish).collect()).await.map(drop)
    }
}
