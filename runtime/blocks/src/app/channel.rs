//! The trait of the protocols by which apps are called.

use std::error::Error as StdError;
use std::time::Duration;

use async_trait::async_trait;
use components::port::pubsub::Outcome;
use config::model::SubscriptionSpec;
use serde_json::value::RawValue;

/// A protocol by which an app is called: only a codec. Permits, time-outs, health and retries are left
/// to the caller, which drops a call that takes too long.
#[async_trait]
pub trait AppChannel: Send + Sync + 'static {
    /// Returns the address at which the app listens, for logs.
    fn address(&self) -> &str;

    /// Returns whether the app's port accepts a connection.
    async fn accepts(&self) -> bool;

    /// Hands over an event.
    async fn deliver(&self, event: EventCall<'_>) -> Result<Outcome, CallError>;

    /// Hands over events in one call; one outcome for each, in their order.
    async fn deliver_batch(&self, batch: BatchCall<'_>) -> Result<Vec<Outcome>, CallError>;

    /// Asks the app for its subscriptions; `None` if it has no route for that.
    async fn subscriptions(&self) -> Result<Option<DeclaredByApp>, CallError>;

    /// Probes the app's health.
    async fn probe(&self) -> Result<(), CallError>;
}

/// An event for an app.
#[derive(Clone, Debug)]
pub struct EventCall<'a> {
    /// The path of the route.
    pub path: &'a str,
    /// The CloudEvent in JSON.
    pub event: Vec<u8>,
    /// The pub/sub component.
    pub pubsub: &'a str,
    /// The message's place in its stream.
    pub sequence: u64,
    /// Attempts so far, this one included.
    pub attempt: u32,
    /// The message's partition key.
    pub key: Option<&'a str>,
    /// The W3C `traceparent`.
    pub traceparent: Option<&'a str>,
    /// The W3C `tracestate`.
    pub tracestate: Option<&'a str>,
}

/// Events for one route of an app.
#[derive(Clone, Debug)]
pub struct BatchCall<'a> {
    /// The path of the route.
    pub path: &'a str,
    /// The pub/sub component.
    pub pubsub: &'a str,
    /// The topic or filter of the subscription.
    pub topic: &'a str,
    /// The events, in order.
    pub entries: &'a [BatchEntry<'a>],
}

/// One event of several.
#[derive(Clone, Debug)]
pub struct BatchEntry<'a> {
    /// The id under which the app returns its outcome.
    pub id: String,
    /// The CloudEvent.
    pub event: Box<RawValue>,
    /// Attempts so far, this one included.
    pub attempt: u32,
    /// The message's partition key.
    pub key: Option<&'a str>,
}

/// The subscriptions in an app's answer.
#[derive(Clone, Debug, Default)]
pub struct DeclaredByApp(pub Vec<SubscriptionSpec>);

/// A call without a usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection can be made: the app has not seen the request.
    #[error("the app can't be reached: {}", chain(&**.0))]
    Unreachable(#[source] Cause),
    /// The connection ended between the request and the end of the answer.
    #[error("the app closed the connection before it had answered: {}", chain(&**.0))]
    Broken(#[source] Cause),
    /// There was no answer in time.
    #[error("the app did not answer within {0:?}")]
    TimedOut(Duration),
    /// The answer is too long.
    #[error("the app's answer has more than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The request or the answer breaks the protocol.
    #[error("the call to the app failed: {}", chain(&**.0))]
    Protocol(#[source] Cause),
    /// The answer is an error or can't be parsed.
    #[error("{0}")]
    Answered(#[source] Cause),
}

/// The cause of a call's failure.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Joins the messages of an error and of its causes.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let errors = std::iter::successors(Some(error), |&error| error.source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
