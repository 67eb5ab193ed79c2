//! Apps: the gate before them, their health, and their start.

pub mod channel;
mod gate;
mod health;
pub mod start;

use std::sync::Arc;
use std::time::Duration;

use components::port::pubsub::Outcome;
use components::stop::Stop;
use config::model::HealthCheck;

use self::channel::{AppChannel, BatchCall, CallError, DeclaredByApp, EventCall};
use self::gate::Gate;
use self::start::Subscriber;

pub use self::gate::{AppState, DEFAULT_MAX_CALLS};

/// Time that an app has for an answer unless it is configured otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// An app on this device.
///
/// Owns the gate and the time-out, which don't depend on the protocol by which the app is called. The
/// protocol is the [`AppChannel`].
pub struct App {
    id: Arc<str>,
    gate: Gate,
    channel: Box<dyn AppChannel>,
    timeout: Duration,
    check: Option<HealthCheck>,
}

/// The settings of an app.
#[derive(Clone, Debug)]
pub struct AppOptions {
    /// The app's id.
    pub id: Arc<str>,
    /// Time that it has for an answer.
    pub timeout: Duration,
    /// Calls in flight at most.
    pub max_calls: usize,
    /// The probe of its health. A probed app counts as unhealthy until the first success.
    pub check: Option<HealthCheck>,
}

impl App {
    /// Creates an app that is called by `channel`; calls nothing yet.
    #[must_use]
    pub fn new(options: AppOptions, channel: Box<dyn AppChannel>) -> Self {
        let AppOptions { id, timeout, max_calls, check } = options;
        let gate = Gate::new(max_calls, check.is_none());
        Self { id, gate, channel, timeout, check }
    }

    /// Returns the app's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the gate, through which events and other calls pass.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Hands over an event. The caller holds a slot of the gate.
    pub async fn deliver(&self, event: EventCall<'_>) -> Outcome {
        match self.in_time(self.timeout, self.channel.deliver(event)).await {
            Ok(outcome) => outcome,
            Err(error) => undelivered(&error),
        }
    }

    /// Hands over events in one call; returns one outcome for each. The caller holds a slot of the
    /// gate.
    pub async fn deliver_batch(&self, batch: BatchCall<'_>) -> Vec<Outcome> {
        let events = batch.entries.len();
        match self.in_time(self.timeout, self.channel.deliver_batch(batch)).await {
            Ok(outcomes) => outcomes,
            Err(error) => vec![undelivered(&error); events],
        }
    }

    async fn subscriptions(&self) -> Result<Option<DeclaredByApp>, CallError> {
        self.in_time(self.timeout, self.channel.subscriptions()).await
    }

    async fn probe(&self, timeout: Duration) -> Result<(), CallError> {
        self.in_time(timeout, self.channel.probe()).await
    }

    /// Bounds a call by `timeout`. After [`CallError::Unreachable`] the app counts as not listening; a
    /// connection that breaks doesn't mean that its port is closed.
    async fn in_time<T>(
        &self,
        timeout: Duration,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let answer = tokio::time::timeout(timeout, call).await;
        let answer = answer.unwrap_or(Err(CallError::TimedOut(timeout)));
        if let Err(CallError::Unreachable(error)) = &answer {
            self.gate.lost();
            tracing::debug!(app_id = &*self.id, %error, "the link to the app failed");
        }
        answer
    }

    /// Runs the app until a stop is requested: probes it if so configured, and starts it each time it
    /// comes up. Then stops its subscriptions and waits for deliveries in flight.
    pub async fn run(&self, subscriber: &dyn Subscriber, stop: &Stop) {
        let probe = async {
            match &self.check {
                Some(check) => health::probe(self, check).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.requested() => {}
            never = probe => match never {},
            never = start::run(self, subscriber) => match never {},
        }
        subscriber.stop().await;
    }
}

fn undelivered(error: &CallError) -> Outcome {
    let reason = error.to_string().into();
    match error {
        CallError::Unreachable(_) => Outcome::Unreachable(reason),
        _ => Outcome::Retry(reason),
    }
}

#[cfg(test)]
pub(crate) mod tests;
