//! What a pub/sub component can do.

use async_trait::async_trait;
use store_forward::Consumer;
use store_forward::record::{ConsumerSpec, NewMessage};
use store_forward::store::Identity;

use crate::Refusal;

/// Topics that keep messages until every subscriber has them.
#[async_trait]
pub trait PubSub: Send + Sync + 'static {
    /// Publishes all of the messages, each to its topic, or none; durable on return if the component is.
    async fn publish(&self, messages: Vec<(String, NewMessage)>) -> Result<(), Refusal>;

    /// Registers a subscriber, or changes the one of that name. It is kept over restarts, and
    /// messages wait for it.
    async fn subscribe(&self, spec: SubscribeSpec) -> Result<Consumer, Refusal>;

    /// Makes a subscriber inactive that its app no longer names: what waits for it is kept for a
    /// time, in case it comes back. Says whether it was active.
    async fn unsubscribe(&self, name: &str) -> Result<bool, Refusal>;

    /// The consumers that are registered on this component; none when its store can't be read.
    fn consumers(&self) -> Vec<ConsumerSpec>;

    /// The identity of the store that it stands on, of which event ids are made; `None` when it
    /// stands on none.
    fn identity(&self) -> Option<&Identity> {
        None
    }

    /// What the component can do, in Dapr's words.
    fn features(&self) -> &'static [&'static str] {
        &["MESSAGE_TTL", "SUBSCRIBE_WILDCARDS", "BULK_PUBSUB"]
    }
}

/// A subscription to one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeSpec {
    /// The consumer's name: `app/<app id>/<pubsub>/<topic>`.
    pub name: String,
    /// A topic, or an MQTT topic filter.
    pub topic: String,
    /// The topic of this component that takes what the subscriber can't digest.
    pub dead_letter: Option<String>,
}
