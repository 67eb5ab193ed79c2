//! `pubsub.redb`: topics in the node's store. The component's name is its namespace there.

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use store_forward::backoff::Backoff;
use store_forward::consumer::{self, Policy};
use store_forward::limits::{Overflow, StreamLimits};
use store_forward::record::{ConsumerKind, ConsumerSpec, Filter, Op, Topic};
use store_forward::{Consumer, Store};

use crate::Refusal;
use crate::context::{BuildError, Building, Context};
use crate::metadata::Metadata;
use crate::port::pubsub::{
    Backlog, Delivery, Order, Outgoing, PubSub, PubSubFeatures, PublishError, Sink, SubscribeSpec,
    Subscription,
};
use crate::port::{Component, Local};
use crate::stop::Stop;

/// The type's name.
pub(crate) const KIND: &str = "pubsub.redb";

/// Builds one on the node's store, with limits per topic and for the component.
pub(crate) fn build(context: Context) -> Building<dyn PubSub> {
    Box::pin(async move {
        let Context { name, mut metadata, embedded, .. } = context;
        let limits = limits(&mut metadata);
        metadata.finish()?;
        let store = embedded.open().await?.clone();
        PubSubOnStore::open(&name, store, limits, true).await
    })
}

/// Reads `maxMessages` and `maxBytes` of a topic, `maxComponentMessages` and `maxComponentBytes` of all
/// its topics, and `overflow`, the policy at these limits.
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
pub(super) struct PubSubOnStore {
    local: Local,
    durable: bool,
}

impl PubSubOnStore {
    /// Creates a component on `store`, whose former limits are replaced. One that is not `durable`
    /// owns the store, and closes it.
    pub(super) async fn open(
        component: &str,
        store: Store,
        limits: StreamLimits,
        durable: bool,
    ) -> Result<Arc<dyn PubSub>, BuildError> {
        store.configure(component, limits).await?;
        Ok(Arc::new(Self { local: Local { store, component: component.into() }, durable }))
    }

    fn topic(&self, name: String) -> Topic {
        Topic { component: self.local.component.to_string(), name }
    }
}

#[async_trait]
impl Component for PubSubOnStore {
    async fn close(&self) {
        if !self.durable {
            self.local.store.close().await;
        }
    }
}

#[async_trait]
impl PubSub for PubSubOnStore {
    fn features(&self) -> PubSubFeatures {
        PubSubFeatures {
            ordered: true,
            wildcards: true,
            ttl: true,
            batches: true,
            dead_letters: true,
            attempts: true,
            durable: self.durable,
        }
    }

    async fn publish(&self, topic: &str, messages: Vec<Outgoing>) -> Result<(), PublishError> {
        let publish = |message| Op::Publish { topic: self.topic(topic.to_owned()), message };
        let ops = messages.into_iter().map(publish).collect();
        self.local.store.commit(ops).await.map_err(Refusal::from)?;
        Ok(())
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<Arc<dyn Subscription>, Refusal> {
        let policy = policy(&spec);
        let SubscribeSpec { consumer, filters, dead_letter, .. } = spec;
        let component = &self.local.component;
        let filters =
            filters.into_iter().map(|topic| Filter { component: component.to_string(), topic });
        let spec = ConsumerSpec {
            name: consumer,
            kind: ConsumerKind::App,
            filters: filters.collect(),
            dead_letter: dead_letter.map(|topic| self.topic(topic)),
        };
        let consumer = self.local.store.register(spec).await?;
        Ok(Arc::new(StoreSubscription { consumer, policy }))
    }

    fn backlog(&self) -> Option<&dyn Backlog> {
        Some(self)
    }

    fn local(&self) -> Option<&Local> {
        Some(&self.local)
    }
}

#[async_trait]
impl Backlog for PubSubOnStore {
    fn consumers(&self) -> Vec<String> {
        let consumers = self.local.store.consumers().unwrap_or_default();
        let is_ours = |filter: &Filter| *filter.component == *self.local.component;
        let ours = consumers.into_iter().filter(|spec| spec.filters.iter().any(is_ours));
        ours.map(|spec| spec.name).collect()
    }

    async fn release(&self, consumer: &str) -> Result<bool, Refusal> {
        Ok(self.local.store.unsubscribed(consumer).await?)
    }
}

/// A subscription whose consumer is registered in the store.
struct StoreSubscription {
    consumer: Consumer,
    policy: Policy,
}

impl Subscription for StoreSubscription {
    fn run(self: Arc<Self>, sink: Arc<dyn Sink<Delivery>>, stop: Stop) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let consumer = self.consumer.clone();
            consumer::run(consumer, sink, self.policy.clone(), stop.requested()).await;
        })
    }
}

/// Translates the specification of a subscription into the store's delivery policy.
fn policy(spec: &SubscribeSpec) -> Policy {
    let parallel = match spec.order {
        Order::Stream => 1,
        Order::Key(deliveries) => deliveries.max(1),
    };
    let batch = spec.batch.map_or(1, |batch| batch.messages.max(1));
    Policy {
        window: parallel.saturating_mul(batch),
        per_stream: parallel,
        batch,
        batch_wait: spec.batch.map(|batch| batch.wait).unwrap_or_default(),
        by_key: parallel > 1,
        backoff: Backoff::default(),
        max_attempts: spec.attempts.map(NonZeroU32::get),
        read_ahead: Arc::clone(&spec.read_ahead),
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
