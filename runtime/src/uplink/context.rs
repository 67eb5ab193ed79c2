//! The parts of the device that an uplink works with.

use std::sync::Arc;

use async_trait::async_trait;
use config::model::Uplink;
use store_forward::Store;
use store_forward::consumer::Delivery;
use store_forward::record::{NewMessage, Topic};
use store_forward::store::Identity;

use super::status::UplinkStatus;

/// The parts of the device that one uplink works with.
#[derive(Clone)]
pub struct UplinkContext {
    /// The device. A record carries the epoch of its own store instead of this one.
    pub identity: Identity,
    /// The device's pub/sub components.
    pub components: Arc<dyn UplinkComponents>,
    /// The uplink's state, which the uplink keeps up to date.
    pub status: Arc<UplinkStatus>,
}

/// The pub/sub components of the device, as an uplink uses them.
#[async_trait]
pub trait UplinkComponents: Send + Sync + 'static {
    /// Finds the store behind a component. `None` if no component of that name can have an uplink.
    fn store(&self, pubsub: &str) -> Option<Store>;

    /// Builds the CloudEvent of a delivery, as JSON. `None` if its component is unknown.
    fn envelope(&self, delivery: &Delivery) -> Option<Vec<u8>>;

    /// Publishes messages that came down, as one record: all of them durably, or none.
    async fn publish(&self, arrivals: Vec<Arrival>) -> Result<(), store_forward::Error>;
}

/// A message that came down, and its local topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// The component and the topic.
    pub topic: Topic,
    /// The message.
    pub message: NewMessage,
}

/// The reason why an uplink can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UplinkError {
    /// A route, downlink or dead letter names no component.
    #[error(
        "uplink {uplink}: there is no pub/sub component {pubsub:?}: add it, or correct the name"
    )]
    UnknownPubsub {
        /// The uplink.
        uplink: String,
        /// The unknown component.
        pubsub: String,
    },
    /// The dead letter topic is in another store than a route's component.
    #[error(
        "uplink {uplink}: deadLetter {dead_letter} is not in the store of {pubsub:?}: name a topic there"
    )]
    DeadLetterElsewhere {
        /// The uplink.
        uplink: String,
        /// The dead letter topic.
        dead_letter: Topic,
        /// The route's component.
        pubsub: String,
    },
    /// The store refused the consumer.
    #[error("uplink {uplink}: {source}")]
    Store {
        /// The uplink.
        uplink: String,
        /// The store's error.
        source: store_forward::Error,
    },
}

impl UplinkContext {
    /// Finds the store behind a component that the uplink names.
    pub(super) fn store(&self, uplink: &Uplink, pubsub: &str) -> Result<Store, UplinkError> {
        self.components.store(pubsub).ok_or_else(|| UplinkError::UnknownPubsub {
            uplink: uplink.name.clone(),
            pubsub: pubsub.into(),
        })
    }
}
