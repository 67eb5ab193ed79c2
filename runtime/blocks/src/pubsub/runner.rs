//! Runs the subscriptions of one app: a consumer for each, updated when the app's answer changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use components::SubscribeSpec;
use components::backoff::Backoff;
use components::port::pubsub::ReadAhead;
use components::stop::{Stop, Stopper};
use config::model::SubscriptionSpec;
use tokio::task::JoinHandle;

use super::complete;
use super::route::{RouteError, Routes};
use super::subscriber::{AppSink, specification};
use super::subscriptions::{self, SettingError, Subscription, SubscriptionSettings, consumer_name};
use crate::app::App;
use crate::app::channel::DeclaredByApp;
use crate::app::start::Subscriber;
use crate::registry::scope::TopicAccess;
use crate::registry::{Current, PubSubComponent};

/// The subscriptions of one app.
pub struct Subscriptions {
    app: Arc<App>,
    registry: Arc<Current>,
    declared: Vec<config::model::Subscription>,
    read_ahead: Arc<ReadAhead>,
    /// By the consumer's name. The lock serializes changes.
    running: tokio::sync::Mutex<BTreeMap<String, Running>>,
    active: Mutex<Vec<Subscription>>,
}

struct Running {
    subscription: Subscription,
    stopper: Stopper,
    task: JoinHandle<()>,
}

/// A subscription that can't be run.
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
    /// Creates the subscriptions of `app`; none runs until the app has answered.
    #[must_use]
    pub fn new(
        app: Arc<App>,
        registry: Arc<Current>,
        declared: Vec<config::model::Subscription>,
    ) -> Self {
        Self {
            app,
            registry,
            declared,
            read_ahead: Arc::default(),
            running: tokio::sync::Mutex::default(),
            active: Mutex::default(),
        }
    }

    /// Returns the subscriptions that run.
    #[must_use]
    pub fn active(&self) -> Vec<Subscription> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn start(&self, subscription: &Subscription) -> Result<Running, StartError> {
        let app_id = self.app.id();
        let SubscriptionSpec { pubsub, topic, .. } = &subscription.spec;
        let registry = self.registry.snapshot();
        let Some(component) = registry.pubsub(pubsub) else {
            return Err(StartError::NoComponent {
                pubsub: pubsub.clone(),
                app_id: app_id.to_owned(),
            });
        };
        if !component.topics.allows(TopicAccess::Subscribe, app_id, topic) {
            return Err(StartError::Forbidden { pubsub: pubsub.clone(), topic: topic.clone() });
        }
        let sink = self.sink(subscription, component)?;
        self.warn_of_excess(subscription, &sink.settings);
        let read_ahead = Arc::clone(&self.read_ahead);
        let spec = specification(app_id, subscription, &sink.settings, read_ahead);
        let stopper = Stopper::default();
        let task = tokio::spawn(run(Arc::clone(component), spec, sink, stopper.subscribe()));
        Ok(Running { subscription: subscription.clone(), stopper, task })
    }

    fn warn_of_excess(&self, subscription: &Subscription, settings: &SubscriptionSettings) {
        let limit = self.app.gate().max_calls();
        if settings.concurrency > limit {
            let subscription = subscription.name();
            let app_id = self.app.id();
            let concurrency = settings.concurrency;
            tracing::warn!(
                app_id,
                subscription,
                concurrency,
                limit,
                "a subscription asks for more calls at once than its app gets: lower its concurrency, or raise spec.maxConcurrency of the App or --app-max-concurrency"
            );
        }
    }

    fn sink(
        &self,
        subscription: &Subscription,
        component: &Arc<PubSubComponent>,
    ) -> Result<AppSink, StartError> {
        let SubscriptionSpec { rules, default_route, .. } = &subscription.spec;
        let routes = Routes::compile(&subscription.name(), rules, default_route.as_deref())?;
        Ok(AppSink {
            app: Arc::clone(&self.app),
            settings: subscription.settings()?,
            subscription: subscription.clone(),
            routes,
            component: Arc::clone(component),
        })
    }

    /// Stops subscriptions that are no longer wanted, and starts new ones.
    async fn change(&self, wanted: &[Subscription]) {
        let app_id = self.app.id();
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

    /// Makes consumers inactive that neither the app nor a resource names any more. One that can't run
    /// because of an error stays active.
    async fn deactivate_stale(&self, wanted: &[Subscription]) {
        let app_id = self.app.id();
        for component in self.registry.snapshot().all_pubsubs() {
            let Some(backlog) = component.component.backlog() else { continue };
            let consumers = backlog.consumers();
            for consumer in subscriptions::stale(app_id, &component.name, &consumers, wanted) {
                match backlog.release(consumer).await {
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
    async fn answered(&self, declared: DeclaredByApp) {
        let app_id = self.app.id();
        let (programmatic, warnings) = subscriptions::accept(declared);
        for warning in warnings {
            tracing::warn!(app_id, warning, "a subscription of the app can't be used");
        }
        let wanted = subscriptions::merge(app_id, &self.declared, programmatic);
        self.change(&wanted).await;
        self.deactivate_stale(&wanted).await;
    }

    async fn stop(&self) {
        let mut running = self.running.lock().await;
        stop(&mut running, |_| true).await;
        self.active.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Asks all of them to stop, then waits for their deliveries in flight.
async fn stop(running: &mut BTreeMap<String, Running>, which: impl Fn(&Running) -> bool) {
    for running in running.values().filter(|running| which(running)) {
        running.stopper.request();
    }
    for running in running.values_mut().filter(|running| running.stopper.is_requested()) {
        if let Err(error) = (&mut running.task).await {
            let subscription = running.subscription.name();
            tracing::error!(subscription, %error, "a subscription stopped unexpectedly");
        }
    }
    running.retain(|_, running| !running.stopper.is_requested());
}

/// Registers the subscription, trying again after errors, and runs it.
async fn run(component: Arc<PubSubComponent>, spec: SubscribeSpec, sink: AppSink, stop: Stop) {
    let PubSubComponent { name, component, clock, .. } = &*component;
    let mut failures = 0;
    let subscription = loop {
        match complete::subscribe(component, name, spec.clone(), clock).await {
            Ok(subscription) => break subscription,
            Err(error) => {
                failures += 1;
                let consumer = &spec.consumer;
                tracing::error!(consumer, %error, "a subscription can't be registered, trying again");
                let delay = Backoff::default().delay(failures, fastrand::f64());
                if tokio::time::timeout(delay, stop.requested()).await.is_ok() {
                    return;
                }
            }
        }
    };
    subscription.run(Arc::new(sink), stop).await;
}

#[cfg(test)]
mod tests;
