//! Adds to a pub/sub component what it can't do itself, driven by its [`PubSubFeatures`].
//!
//! | module | one sentence |
//! | --- | --- |
//! | `attempts` | counts failed attempts |
//! | `batcher` | collects messages into batches, and hands them over |
//! | `expiry` | carries the time to live in an attribute |
//! | `filler` | decides when a batch is complete |
//! | `rules` | expiry, attempts and dead letters of single messages |

mod attempts;
mod batcher;
mod expiry;
mod filler;
mod rules;

use std::sync::Arc;

use components::Refusal;
use components::clock::Clock;
use components::port::pubsub::{
    BatchPolicy, Delivery, Order, Outgoing, PubSub, PubSubFeatures, PublishError, ReadAhead, Sink,
    SubscribeSpec, Subscription,
};
use components::stop::Stop;
use futures_util::future::BoxFuture;

use batcher::batcher;
use filler::Filler;
use rules::{RuleSink, Rules};

/// Publishes messages to one topic, in order. A component without times to live gets them as an
/// attribute, from which [`subscribe`] reads them.
///
/// # Errors
///
/// When the component refuses.
pub async fn publish(
    component: &dyn PubSub,
    topic: &str,
    mut messages: Vec<Outgoing>,
    clock: &dyn Clock,
) -> Result<(), PublishError> {
    let expires = messages.iter().any(|message| message.ttl_ms.is_some());
    if expires && !component.features().ttl {
        expiry::stamp(&mut messages, clock.read());
    }
    component.publish(topic, messages).await
}

/// Registers a subscription at the component called `name`. The component is asked only for what it
/// can do; the subscription that is returned does the rest. Where nothing is missing it is the
/// component's own.
///
/// # Errors
///
/// When the component refuses.
pub async fn subscribe(
    component: &Arc<dyn PubSub>,
    name: &str,
    spec: SubscribeSpec,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Subscription>, Refusal> {
    let features = component.features();
    let consumer = spec.consumer.clone();
    let loses_order = spec.order == Order::Stream && !features.ordered;
    let Plan { asked, batches, rules } = Plan::new(features, spec);
    let subscription = component.subscribe(asked).await?;
    if loses_order {
        tracing::warn!(
            pubsub = name,
            consumer,
            "pub/sub component doesn't keep the order of messages, a subscription gets them in any order"
        );
    }
    if batches.is_none() && rules.is_none() {
        return Ok(subscription);
    }
    Ok(Arc::new(CompletedSubscription {
        subscription,
        batches,
        rules,
        consumer,
        component: Arc::clone(component),
        clock: Arc::clone(clock),
    }))
}

/// The division of a subscription's work between the component and its caller.
struct Plan {
    /// The part that the component can do.
    asked: SubscribeSpec,
    /// Batches, if the caller has to make them.
    batches: Option<Batches>,
    /// The rules that the caller has to apply to each message.
    rules: Option<Rules>,
}

/// The batches that a caller makes.
#[derive(Clone)]
struct Batches {
    policy: BatchPolicy,
    /// Batches in flight at most.
    in_flight: usize,
    read_ahead: Arc<ReadAhead>,
}

impl Plan {
    fn new(features: PubSubFeatures, spec: SubscribeSpec) -> Self {
        let rejects_here = !features.dead_letters && spec.dead_letter.is_some();
        // A component that gives up a message by itself would drop it instead.
        let bounds_here = !features.attempts || rejects_here;
        let rules = Rules {
            expiry: !features.ttl,
            rejects_expired: spec.dead_letter.is_some(),
            counts: !features.attempts,
            attempts: spec.attempts.filter(|_| bounds_here),
            dead_letter: spec.dead_letter.clone().filter(|_| rejects_here),
        };
        let batches = spec.batch.filter(|_| !features.batches).map(|policy| Batches {
            policy,
            in_flight: deliveries(spec.order),
            read_ahead: Arc::clone(&spec.read_ahead),
        });
        let asked = SubscribeSpec {
            order: batches
                .as_ref()
                .map_or(spec.order, |it| of_single_messages(spec.order, it.policy.messages)),
            batch: spec.batch.filter(|_| features.batches),
            attempts: spec.attempts.filter(|_| !bounds_here),
            dead_letter: spec.dead_letter.filter(|_| features.dead_letters),
            ..spec
        };
        Self { asked, batches, rules: Some(rules).filter(Rules::are_needed) }
    }
}

/// Returns the number of deliveries of a stream at once.
fn deliveries(order: Order) -> usize {
    match order {
        Order::Stream => 1,
        Order::Key(deliveries) | Order::Pipelined(deliveries) => deliveries.max(1),
    }
}

/// Returns the order in which a component hands over single messages, from which batches of
/// `messages` are made that keep `order`.
fn of_single_messages(order: Order, messages: usize) -> Order {
    let unanswered = deliveries(order).saturating_mul(messages.max(1));
    match order {
        Order::Stream | Order::Pipelined(_) => Order::Pipelined(unanswered),
        Order::Key(_) => Order::Key(unanswered),
    }
}

/// A component's subscription, and the work that the component leaves to its caller.
struct CompletedSubscription {
    subscription: Arc<dyn Subscription>,
    batches: Option<Batches>,
    rules: Option<Rules>,
    consumer: String,
    component: Arc<dyn PubSub>,
    clock: Arc<dyn Clock>,
}

impl Subscription for CompletedSubscription {
    fn run(self: Arc<Self>, sink: Arc<dyn Sink<Delivery>>, stop: Stop) -> BoxFuture<'static, ()> {
        let sink = self.apply_rules(sink);
        let subscription = Arc::clone(&self.subscription);
        let Some(Batches { policy, in_flight, read_ahead }) = self.batches.clone() else {
            return subscription.run(sink, stop);
        };
        let (sink, driver) = batcher(sink, Filler::new(policy, in_flight), read_ahead);
        Box::pin(async move {
            let driven = driver.run(stop.clone());
            // The subscription ends once it has all outcomes: nothing is left to drive then.
            tokio::select! {
                () = subscription.run(Arc::new(sink), stop) => {}
                () = driven => {}
            }
        })
    }
}

impl CompletedSubscription {
    fn apply_rules(&self, sink: Arc<dyn Sink<Delivery>>) -> Arc<dyn Sink<Delivery>> {
        let Some(rules) = &self.rules else { return sink };
        let component = Arc::clone(&self.component);
        let clock = Arc::clone(&self.clock);
        Arc::new(RuleSink::new(sink, rules.clone(), self.consumer.clone(), component, clock))
    }
}

#[cfg(test)]
mod tests;
