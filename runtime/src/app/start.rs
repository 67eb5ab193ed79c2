//! What happens when an app comes up, and again each time it comes back: wait for its port, wait
//! for its health, ask what it subscribes to, then let messages flow.

use std::convert::Infallible;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode};
use store_forward::backoff::Backoff;

use crate::channel::http::{AppChannel, CallError};
use crate::pubsub::subscriptions::{self, Subscription};

/// Between two looks at a port that is closed: first as daprd's, then seldom enough for a battery.
const PORT_BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1), jitter: 0.0 };

/// Between two tries to ask an app that answers with an error.
const ASK_BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(30), jitter: 0.2 };

/// Who wants to know what an app subscribes to.
#[async_trait]
pub trait Subscriber: Send + Sync {
    /// The app has answered; resolves when consumers stand for what it answered.
    async fn answered(&self, subscriptions: Vec<Subscription>);

    /// Nothing more is to be delivered; resolves when nothing is in flight.
    async fn stop(&self);
}

/// Why an app's subscriptions aren't known.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the app answered GET /dapr/subscribe with status {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Parse(#[from] subscriptions::ParseError),
}

/// Starts the app each time it comes up, until it is dropped.
pub async fn run(channel: &AppChannel, subscriber: &dyn Subscriber) -> Infallible {
    let mut failures = 0;
    loop {
        channel.wait_until(|state| !state.started).await;
        wait_for_port(channel).await;
        channel.wait_until(|state| state.healthy || !state.listening).await;
        if !channel.state().listening {
            continue;
        }
        match ask(channel).await {
            Ok(subscriptions) => {
                failures = 0;
                subscriber.answered(subscriptions).await;
                channel.set_started();
                tracing::info!(app_id = channel.app_id(), "the app takes messages");
            }
            Err(AskError::Call(CallError::Unreachable(_))) => {}
            Err(error) => {
                failures += 1;
                let app_id = channel.app_id();
                tracing::warn!(app_id, %error, "the app's subscriptions are unknown, asking again");
                tokio::time::sleep(ASK_BACKOFF.delay(failures, fastrand::f64())).await;
            }
        }
    }
}

async fn wait_for_port(channel: &AppChannel) {
    if channel.state().listening {
        return;
    }
    let mut failures = 0;
    while !channel.accepts().await {
        if failures == 0 {
            let (app_id, address) = (channel.app_id(), channel.address());
            tracing::info!(app_id, address, "waiting for the app to open its port");
        }
        failures += 1;
        tokio::time::sleep(PORT_BACKOFF.delay(failures, 0.0)).await;
    }
    channel.set_listening();
}

async fn ask(channel: &AppChannel) -> Result<Vec<Subscription>, AskError> {
    let answer = channel.call(Method::GET, "/dapr/subscribe", &[], Bytes::new()).await?;
    match answer.status {
        StatusCode::NOT_FOUND => Ok(Vec::new()),
        status if status.is_success() => {
            let (subscriptions, warnings) = subscriptions::parse(&answer.body)?;
            for warning in warnings {
                let app_id = channel.app_id();
                tracing::warn!(app_id, warning, "a subscription of the app can't be used");
            }
            Ok(subscriptions)
        }
        status => Err(AskError::Status(status)),
    }
}
