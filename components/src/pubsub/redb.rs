//! `pubsub.redb`: topics in the node's store. The component's name is its namespace there.

use std::sync::Arc;

use async_trait::async_trait;
use store_forward::limits::{Overflow, StreamLimits};
use store_forward::record::{ConsumerKind, ConsumerSpec, Filter, NewMessage, Op, Topic};
use store_forward::store::Identity;
use store_forward::{Consumer, Store};

use crate::Refusal;
use crate::metadata::Metadata;
use crate::port::pubsub::{PubSub, SubscribeSpec};
use crate::registry::{BuildError, BuildPubSub, Context};

/// The type's name.
pub(crate) const KIND: &str = "pubsub.redb";

/// On the node's store, with limits per topic and for the component.
pub(crate) fn build(context: Context) -> BuildPubSub {
    Box::pin(async move {
        let Context { name, mut metadata, store, .. } = context;
        let limits = limits(&mut metadata);
        metadata.finish()?;
        OnStore::open(name, store, limits).await
    })
}

/// `maxMessages`, `maxBytes` of a topic; `maxComponentMessages`, `maxComponentBytes` of all its
/// topics; `overflow`: what happens there.
pub(super) fn limits(metadata: &mut Metadata) -> StreamLimits {
    StreamLimits {
        max_messages: metadata.take_count("maxMessages").unwrap_or(0),
        max_bytes: metadata.take_bytes("maxBytes").unwrap_or(0),
        max_component_messages: metadata.take_count("maxComponentMessages").unwrap_or(0),
        max_component_bytes: metadata.take_bytes("maxComponentBytes").unwrap_or(0),
        overflow: metadata.take_choice("overflow", OVERFLOW).unwrap_or_default(),
    }
}

const OVERFLOW: &[(&str, Overflow)] = &[
    ("reject", Overflow::Reject),
    ("drop-oldest", Overflow::DropOldest),
    ("drop-new", Overflow::DropNew),
    ("drop-lowest-priority", Overflow::DropLowestPriority),
];

/// A pub/sub component on a [`Store`].
pub(super) struct OnStore {
    component: String,
    store: Store,
}

impl OnStore {
    /// The store may remember other limits from before.
    pub(super) async fn open(
        component: String,
        store: Store,
        limits: StreamLimits,
    ) -> Result<Arc<dyn PubSub>, BuildError> {
        store.configure(&component, limits).await?;
        Ok(Arc::new(Self { component, store }))
    }

    fn topic(&self, name: String) -> Topic {
        Topic { component: self.component.clone(), name }
    }
}

#[async_trait]
impl PubSub for OnStore {
    async fn publish(&self, messages: Vec<(String, NewMessage)>) -> Result<(), Refusal> {
        let publish = |(topic, message)| Op::Publish { topic: self.topic(topic), message };
        self.store.commit(messages.into_iter().map(publish).collect()).await?;
        Ok(())
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<Consumer, Refusal> {
        let SubscribeSpec { name, topic, dead_letter } = spec;
        let filters = vec![Filter { component: self.component.clone(), topic }];
        let dead_letter = dead_letter.map(|topic| self.topic(topic));
        let spec = ConsumerSpec { name, kind: ConsumerKind::App, filters, dead_letter };
        Ok(self.store.register(spec).await?)
    }

    async fn unsubscribe(&self, name: &str) -> Result<bool, Refusal> {
        Ok(self.store.unsubscribed(name).await?)
    }

    fn consumers(&self) -> Vec<ConsumerSpec> {
        let mut consumers = self.store.consumers().unwrap_or_default();
        let is_ours = |filter: &Filter| filter.component == self.component;
        consumers.retain(|consumer| consumer.filters.iter().any(is_ours));
        consumers
    }

    fn identity(&self) -> Option<&Identity> {
        Some(self.store.identity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Setting;

    fn metadata(values: &[(&str, &str)]) -> Metadata {
        let values = values.iter().map(|(name, value)| Setting::new(*name, *value, 1));
        Metadata::new("bus", &config::model::Origin::default(), values)
    }

    #[test]
    fn limits_are_read_in_plain_and_binary_units() {
        let mut metadata = metadata(&[
            ("maxMessages", "1000"),
            ("maxBytes", "16Mi"),
            ("maxComponentBytes", "1Gi"),
            ("overflow", "drop-oldest"),
        ]);
        let expected = StreamLimits {
            max_messages: 1000,
            max_bytes: 16 << 20,
            max_component_messages: 0,
            max_component_bytes: 1 << 30,
            overflow: Overflow::DropOldest,
        };
        assert_eq!(limits(&mut metadata), expected);
        assert!(metadata.finish().is_ok());
    }

    #[test]
    fn every_wrong_limit_is_named_at_once() {
        let mut metadata = metadata(&[("maxMessages", "many"), ("overflow", "explode")]);
        limits(&mut metadata);
        let text = metadata.finish().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("maxMessages") && text.contains("overflow"), "{text}");
        assert!(text.contains("drop-lowest-priority"), "{text}");
    }
}
