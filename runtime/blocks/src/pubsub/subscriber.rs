//! Delivery of messages to an app: the sink of a subscription's consumer.

use std::num::NonZeroU32;
use std::sync::Arc;

use async_trait::async_trait;
use components::SubscribeSpec;
use components::port::pubsub::{BatchPolicy, Delivery, Order, Outcome, ReadAhead, Sink, Slot};
use futures_util::future::BoxFuture;

use super::cloudevent::{CloudEvent, EventSource};
use super::route::Routes;
use super::subscriptions::{Subscription, SubscriptionSettings, consumer_name};
use crate::app::App;
use crate::app::channel::{BatchCall, BatchEntry, EventCall};
use crate::registry::PubSubComponent;

/// The sink of one subscription of an app.
pub struct AppSink {
    /// The app.
    pub app: Arc<App>,
    /// The subscription.
    pub subscription: Subscription,
    /// The settings in its metadata.
    pub settings: SubscriptionSettings,
    /// Its routes.
    pub routes: Routes,
    /// The component that the messages come from.
    pub component: Arc<PubSubComponent>,
}

/// Returns the specification by which a subscription is registered.
#[must_use]
pub fn specification(
    app_id: &str,
    subscription: &Subscription,
    settings: &SubscriptionSettings,
    read_ahead: Arc<ReadAhead>,
) -> SubscribeSpec {
    let spec = &subscription.spec;
    SubscribeSpec {
        consumer: consumer_name(app_id, &spec.pubsub, &spec.topic),
        filters: vec![spec.topic.clone()],
        order: match settings.concurrency {
            0 | 1 => Order::Stream,
            calls => Order::Key(calls),
        },
        batch: spec
            .bulk
            .map(|bulk| BatchPolicy { messages: bulk.max_messages.max(1), wait: bulk.max_await }),
        attempts: settings.max_attempts.and_then(NonZeroU32::new),
        dead_letter: spec.dead_letter_topic.clone(),
        read_ahead,
    }
}

#[async_trait]
impl Sink<Delivery> for AppSink {
    async fn ready(&self) -> Slot {
        self.app.gate().open().await
    }

    fn deliver(
        self: Arc<Self>,
        slot: Slot,
        batch: Vec<Delivery>,
    ) -> BoxFuture<'static, Vec<Outcome>> {
        Box::pin(async move {
            if !self.app.gate().admits(&slot) {
                let gone = Outcome::Unreachable("the app is not ready".into());
                return vec![gone; batch.len()];
            }
            let outcomes = if self.subscription.spec.bulk.is_some() {
                self.deliver_bulk(&batch).await
            } else {
                self.deliver_each(&batch).await
            };
            // The slot covers all calls of the batch, so release it after the last one.
            drop(slot);
            outcomes
        })
    }
}

impl AppSink {
    async fn deliver_each(&self, batch: &[Delivery]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for delivery in batch {
            outcomes.push(self.deliver_one(delivery).await);
        }
        outcomes
    }

    async fn deliver_one(&self, delivery: &Delivery) -> Outcome {
        let event = self.event(delivery);
        let Some(path) = self.routes.route(&event) else { return no_route() };
        let message = &delivery.message;
        let call = EventCall {
            path,
            event: event.to_json(),
            pubsub: &delivery.topic.component,
            sequence: message.sequence.0,
            attempt: delivery.attempt,
            key: message.key.as_deref(),
            traceparent: message.attribute("traceparent"),
            tracestate: message.attribute("tracestate"),
        };
        self.app.deliver(call).await
    }

    /// Makes one call for each run of messages with the same path, which keeps the order.
    async fn deliver_bulk(&self, batch: &[Delivery]) -> Vec<Outcome> {
        let mut paths = Vec::with_capacity(batch.len());
        let mut entries = Vec::with_capacity(batch.len());
        for delivery in batch {
            let event = self.event(delivery);
            paths.push(self.routes.route(&event));
            entries.push(entry(delivery, &event));
        }
        let mut outcomes = Vec::with_capacity(batch.len());
        for run in paths.chunk_by(|one, other| one == other) {
            let first = outcomes.len();
            let entries = &entries[first..first + run.len()];
            match run[0] {
                None => outcomes.extend(entries.iter().map(|_| no_route())),
                Some(path) => outcomes.extend(self.call_bulk(path, entries).await),
            }
        }
        outcomes
    }

    async fn call_bulk(&self, path: &str, entries: &[BatchEntry<'_>]) -> Vec<Outcome> {
        let spec = &self.subscription.spec;
        let batch = BatchCall { path, pubsub: &spec.pubsub, topic: &spec.topic, entries };
        self.app.deliver_batch(batch).await
    }

    fn event<'a>(&self, delivery: &'a Delivery) -> CloudEvent<'a> {
        let PubSubComponent { identity, clock, .. } = &*self.component;
        let origin = EventSource { identity, stream: delivery.stream };
        let make = if self.settings.raw { CloudEvent::raw } else { CloudEvent::of };
        make(&delivery.topic, &delivery.message, origin, clock.read().wall_ms)
    }
}

fn entry<'a>(delivery: &'a Delivery, event: &CloudEvent<'_>) -> BatchEntry<'a> {
    BatchEntry {
        id: format!("{}-{}", delivery.stream, delivery.message.sequence),
        event: event.to_raw(),
        attempt: delivery.attempt,
        key: delivery.message.key.as_deref(),
    }
}

fn no_route() -> Outcome {
    Outcome::Reject("no routing rule matched".into())
}

#[cfg(test)]
mod tests;
