//! Runs the subscriptions of one app: a consumer for each, changed as the app's answer changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use components::pubsub::SubscribeSpec;
use config::model::SubscriptionSpec;
use store_forward::backoff::Backoff;
use store_forward::clock::Clock;
use store_forward::consumer::{self, Policy, ReadAhead};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::deliver::{self, AppSink};
use super::route::{RouteError, Routes};
use super::scope::Operation;
use super::subscriptions::{self, SettingError, Subscription, consumer_name};
use super::{Entry, PubSubBlock};
use crate::app::AppChannel;
use crate::app::start::Subscriber;

/// The subscriptions of one app.
pub struct Subscriptions {
    channel: Arc<AppChannel>,
    block: Arc<PubSubBlock>,
    declared: Vec<config::model::Subscription>,
    clock: Arc<dyn Clock>,
    permits: Option<Arc<Semaphore>>,
    read_ahead: Arc<ReadAhead>,
    /// By the consumer's name. Held while the list changes, so that changes don't mix.
    running: tokio::sync::Mutex<BTreeMap<String, Running>>,
    active: Mutex<Vec<Subscription>>,
}

struct Running {
    subscription: Subscription,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Why a subscription can't be run.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("there is no pub/sub component {pubsub:?} for app {app_id}: add it, or its scopes")]
    NoComponent { pubsub: String, app_id: String },
    #[error(
        "subscription to topic '{topic}' on pubsub '{pubsub}' is not allowed: see the component's subscriptionScopes, allowedTopics and protectedTopics"
    )]
    Forbidden { pubsub: String, topic: String },
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(transparent)]
    Setting(#[from] SettingError),
}

impl Subscriptions {
    /// Nothing runs until the app has answered. `max_concurrency` bounds the app's calls in flight
    /// over all its subscriptions.
    #[must_use]
    pub fn new(
        channel: Arc<AppChannel>,
        block: Arc<PubSubBlock>,
        declared: Vec<config::model::Subscription>,
        clock: Arc<dyn Clock>,
        max_concurrency: Option<usize>,
    ) -> Self {
        let permits = max_concurrency
            .map(|permits| Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS))));
        Self {
            channel,
            block,
            declared,
            clock,
            permits,
            read_ahead: Arc::default(),
            running: tokio::sync::Mutex::default(),
            active: Mutex::default(),
        }
    }

    /// What runs now.
    #[must_use]
    pub fn active(&self) -> Vec<Subscription> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn start(&self, subscription: &Subscription) -> Result<Running, StartError> {
        let app_id = self.channel.app_id();
        let SubscriptionSpec { pubsub, topic, dead_letter_topic, .. } = &subscription.spec;
        let Some(entry) = self.block.entry(app_id, pubsub) else {
            let (pubsub, app_id) = (pubsub.clone(), app_id.to_owned());
            return Err(StartError::NoComponent { pubsub, app_id });
        };
        if !entry.topics.allows(Operation::Subscribe, app_id, topic) {
            return Err(StartError::Forbidden { pubsub: pubsub.clone(), topic: topic.clone() });
        }
        let sink = self.sink(subscription, entry)?;
        let policy = deliver::policy(subscription, &sink.settings, Arc::clone(&self.read_ahead));
        let spec = SubscribeSpec {
            name: consumer_name(app_id, pubsub, topic),
            topic: topic.clone(),
            dead_letter: dead_letter_topic.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(entry.clone(), spec, sink, policy, stopped));
        Ok(Running { subscription: subscription.clone(), stop: Some(stop), task })
    }

    fn sink(&self, subscription: &Subscription, entry: &Entry) -> Result<AppSink, StartError> {
        let SubscriptionSpec { rules, default_route, .. } = &subscription.spec;
        let routes = Routes::compile(&subscription.name(), rules, default_route.as_deref())?;
        Ok(AppSink {
            channel: self.channel.clone(),
            settings: subscription.settings()?,
            subscription: subscription.clone(),
            routes,
            identity: entry.identity.clone(),
            clock: self.clock.clone(),
            permits: self.permits.clone(),
        })
    }

    /// Stops what is no longer wanted, starts what is new.
    async fn change(&self, wanted: &[Subscription]) {
        let app_id = self.channel.app_id();
        let mut running = self.running.lock().await;
        stop(&mut running, |running| !wanted.contains(&running.subscription)).await;
        for subscription in wanted {
            let SubscriptionSpec { pubsub, topic, .. } = &subscription.spec;
            let name = consumer_name(app_id, pubsub, topic);
            if running.contains_key(&name) {
                continue;
            }
            match self.start(subscription) {
                Ok(started) => {
                    running.insert(name, started);
                }
                Err(error) => {
                    let subscription = subscription.name();
                    tracing::error!(app_id, subscription, %error, "a subscription can't be used");
                }
            }
        }
        let active = running.values().map(|running| running.subscription.clone()).collect();
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = active;
    }

    /// Consumers that neither the app nor a resource names any more become inactive. One that can't
    /// be run for an error in it stays as it is.
    async fn deactivate_stale(&self, wanted: &[Subscription]) {
        let app_id = self.channel.app_id();
        for (pubsub, entry) in self.block.entries() {
            let consumers = entry.component.consumers();
            for consumer in subscriptions::stale(app_id, pubsub, &consumers, wanted) {
                match entry.component.unsubscribe(consumer).await {
                    Ok(true) => tracing::warn!(
                        app_id,
                        consumer,
                        "app no longer subscribes, its messages are kept in case it does again"
                    ),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(
                        app_id,
                        consumer,
                        %error,
                        "failed to make a former subscription inactive"
                    ),
                }
            }
        }
    }
}

#[async_trait]
impl Subscriber for Subscriptions {
    async fn answered(&self, programmatic: Vec<Subscription>) {
        let wanted = subscriptions::merge(self.channel.app_id(), &self.declared, programmatic);
        self.change(&wanted).await;
        self.deactivate_stale(&wanted).await;
    }

    async fn stop(&self) {
        let mut running = self.running.lock().await;
        stop(&mut running, |_| true).await;
        self.active.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Asks all of them to stop, then waits for what they have in flight.
async fn stop(running: &mut BTreeMap<String, Running>, which: impl Fn(&Running) -> bool) {
    for running in running.values_mut().filter(|running| which(running)) {
        running.stop.take();
    }
    for running in running.values_mut().filter(|running| running.stop.is_none()) {
        if let Err(error) = (&mut running.task).await {
            let subscription = running.subscription.name();
            tracing::error!(subscription, %error, "a subscription stopped unexpectedly");
        }
    }
    running.retain(|_, running| running.stop.is_some());
}

async fn run(
    entry: Entry,
    spec: SubscribeSpec,
    sink: AppSink,
    policy: Policy,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut failures = 0;
    let consumer = loop {
        match entry.component.subscribe(spec.clone()).await {
            Ok(consumer) => break consumer,
            Err(error) => {
                failures += 1;
                let consumer = &spec.name;
                tracing::error!(consumer, %error, "a subscription can't be registered, trying again");
                let delay = Backoff::default().delay(failures, fastrand::f64());
                if tokio::time::timeout(delay, &mut stopped).await.is_ok() {
                    return;
                }
            }
        }
    };
    let stopped = async {
        // Dropping the sender is the signal.
        let _ = stopped.await;
    };
    consumer::run(consumer, Arc::new(sink), policy, stopped).await;
}

#[cfg(test)]
mod tests;
