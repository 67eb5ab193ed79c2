//! The port of pub/sub components.
//!
//! A component publishes messages and runs subscriptions. Features that it lacks (batches, counted
//! attempts, dead letters, expiry) are up to its caller, which reads [`PubSub::features`].

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

pub use store_forward::consumer::{
    DeadLetter, Delivery, Message, Outcome, ReadAhead, ReadAheadShare, Sink, Slot, SlotRequest,
};
pub use store_forward::ids::{Epoch, NodeId, Sequence, StreamId};
pub use store_forward::record::{NewMessage as Outgoing, Timestamp, Topic};
pub use store_forward::store::Identity;

use super::{Component, Local};
use crate::Refusal;
use crate::stop::Stop;

/// A message broker, embedded or remote.
///
/// The smallest one, which keeps nothing and has no subscribers:
///
/// ```
/// use std::sync::Arc;
/// use components::port::Component;
/// use components::port::pubsub::{Outgoing, PubSub, PubSubFeatures, PublishError};
/// use components::port::pubsub::{SubscribeSpec, Subscription};
/// use components::Refusal;
///
/// struct Void;
///
/// impl Component for Void {}
///
/// #[async_trait::async_trait]
/// impl PubSub for Void {
///     fn features(&self) -> PubSubFeatures {
///         PubSubFeatures::default()
///     }
///
///     async fn publish(&self, _: &str, _: Vec<Outgoing>) -> Result<(), PublishError> {
///         Ok(())
///     }
///
///     async fn subscribe(&self, _: SubscribeSpec) -> Result<Arc<dyn Subscription>, Refusal> {
///         Err(Refusal::other("the void has no subscribers"))
///     }
/// }
///
/// let component: Arc<dyn PubSub> = Arc::new(Void);
/// assert!(!component.features().durable);
/// ```
#[async_trait]
pub trait PubSub: Component {
    /// Returns the abilities of the component.
    fn features(&self) -> PubSubFeatures;

    /// Publishes messages to one topic, in order. On return they are durable if the component is.
    ///
    /// # Errors
    ///
    /// [`PublishError::failed`] tells which messages were not published.
    async fn publish(&self, topic: &str, messages: Vec<Outgoing>) -> Result<(), PublishError>;

    /// Registers a subscription, or changes the one of that name. Delivery starts with
    /// [`Subscription::run`]. A durable component keeps messages for the consumer from now on.
    async fn subscribe(&self, spec: SubscribeSpec) -> Result<Arc<dyn Subscription>, Refusal>;

    /// Returns the consumers that the component keeps, if it can list them.
    fn backlog(&self) -> Option<&dyn Backlog> {
        None
    }

    /// Returns the component's place in an embedded store, if it has one.
    fn local(&self) -> Option<&Local> {
        None
    }
}

/// The abilities of a pub/sub component. A caller adds what is missing, or warns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PubSubFeatures {
    /// Messages of a topic are delivered in the order of their publishing.
    pub ordered: bool,
    /// Filters may hold MQTT's wildcards `+` and `#`.
    pub wildcards: bool,
    /// Messages with a time to live are not delivered after it.
    pub ttl: bool,
    /// Messages are handed over in batches as [`SubscribeSpec::batch`] asks for.
    pub batches: bool,
    /// Rejected messages go to [`SubscribeSpec::dead_letter`]. Without a dead letter topic, and in a
    /// component that has none of them, rejected messages are dropped.
    pub dead_letters: bool,
    /// Attempts are counted, and [`SubscribeSpec::attempts`] bounds them. A component that doesn't
    /// count hands a message over again with the stream and the sequence that it had before.
    pub attempts: bool,
    /// Messages outlive the process and the power.
    pub durable: bool,
}

/// Consumers that a component keeps while they don't run.
#[async_trait]
pub trait Backlog: Send + Sync {
    /// Lists the names of the consumers; empty when the store can't be read.
    fn consumers(&self) -> Vec<String>;

    /// Makes a consumer inactive that its app no longer names. Its messages are kept for a time in
    /// case it comes back. Returns whether it was active.
    async fn release(&self, consumer: &str) -> Result<bool, Refusal>;
}

/// A registered subscription.
pub trait Subscription: Send + Sync + 'static {
    /// Delivers messages to `sink` until a stop is requested. Then hands over nothing more, waits
    /// for the outcomes of messages in flight, stores them and returns. Dropping the future cuts
    /// that short: messages in flight are delivered again. A subscription runs once: to run it
    /// again, subscribe again.
    fn run(self: Arc<Self>, sink: Arc<dyn Sink<Delivery>>, stop: Stop) -> BoxFuture<'static, ()>;
}

/// A subscription to be registered.
#[derive(Clone, Debug)]
pub struct SubscribeSpec {
    /// The durable name: `app/<app id>/<pubsub>/<topic>`.
    pub consumer: String,
    /// Topics, or MQTT topic filters.
    pub filters: Vec<String>,
    /// The order that deliveries keep.
    pub order: Order,
    /// Messages of one delivery; `None` delivers one at a time.
    pub batch: Option<BatchPolicy>,
    /// Attempts before a message is rejected; `None` tries for ever.
    pub attempts: Option<NonZeroU32>,
    /// The topic of this component that takes rejected messages.
    pub dead_letter: Option<String>,
    /// The bound on bytes that are read ahead, which all subscriptions of an app share.
    pub read_ahead: Arc<ReadAhead>,
}

/// The order that a subscription's deliveries keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One delivery of a stream after the other.
    Stream,
    /// At most this many deliveries of a stream at once, in order among messages of one key.
    Key(usize),
    /// At most this many deliveries of a stream at once, handed over in order.
    Pipelined(usize),
}

/// The shape of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Messages in a batch at most.
    pub messages: usize,
    /// Longest wait for a batch to fill.
    pub wait: Duration,
}

/// A publish that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{refusal}")]
pub struct PublishError {
    /// The reason.
    #[source]
    pub refusal: Refusal,
    /// Indices of the messages that were not published; `None` for all of them.
    pub failed: Option<Vec<usize>>,
}

impl From<Refusal> for PublishError {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, failed: None }
    }
}
