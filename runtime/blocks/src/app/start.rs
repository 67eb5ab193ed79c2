//! The start of an app, and each restart: wait for its port, wait for its health, ask for its
//! subscriptions, then deliver messages.

use std::convert::Infallible;
use std::time::Duration;

use async_trait::async_trait;
use components::backoff::Backoff;

use super::App;
use super::channel::{CallError, DeclaredByApp};

/// Delay between two probes of a closed port: first daprd's, then long enough to spare a battery.
const PORT_BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1), jitter: 0.0 };

/// Delay before an app that answered with an error is asked again.
const ASK_BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(30), jitter: 0.2 };

/// The part of the runtime that follows an app's subscriptions.
#[async_trait]
pub trait Subscriber: Send + Sync {
    /// Applies the app's answer; resolves once its consumers are registered.
    async fn answered(&self, declared: DeclaredByApp);

    /// Ends delivery; resolves when nothing is in flight.
    async fn stop(&self);
}

/// Starts the app each time it comes up, until the future is dropped.
pub(super) async fn run(app: &App, subscriber: &dyn Subscriber) -> Infallible {
    let mut failures = 0;
    loop {
        app.gate.wait_until(|state| !state.started).await;
        wait_for_port(app).await;
        app.gate.wait_until(|state| state.healthy || !state.listening).await;
        if !app.gate.state().listening {
            continue;
        }
        match app.subscriptions().await {
            Ok(declared) => {
                failures = 0;
                subscriber.answered(declared.unwrap_or_default()).await;
                app.gate.set_started();
                tracing::info!(app_id = app.id(), "the app takes messages");
            }
            Err(CallError::Unreachable(_)) => {}
            Err(error) => {
                failures += 1;
                let app_id = app.id();
                tracing::warn!(app_id, %error, "the app's subscriptions are unknown, asking again");
                tokio::time::sleep(ASK_BACKOFF.delay(failures, fastrand::f64())).await;
            }
        }
    }
}

async fn wait_for_port(app: &App) {
    if app.gate.state().listening {
        return;
    }
    let mut failures = 0;
    while !app.channel.accepts().await {
        if failures == 0 {
            let address = app.channel.address();
            tracing::info!(app_id = app.id(), address, "waiting for the app to open its port");
        }
        failures += 1;
        tokio::time::sleep(PORT_BACKOFF.delay(failures, 0.0)).await;
    }
    app.gate.set_listening();
}
