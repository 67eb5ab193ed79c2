//! The remote of a consumer: a local app, an MQTT broker, a session. Nothing here knows the store,
//! so that a component with a loop of its own can deliver to the same sinks.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;

/// The remote of a consumer, which takes deliveries of type `D`.
#[async_trait]
pub trait Sink<D>: Send + Sync + 'static {
    /// Resolves once the remote can take one batch. May wait for ever; those that wait are served
    /// in the order of their calls. Dropping the future gives the place up.
    async fn ready(&self) -> Slot;

    /// Hands over messages of one stream, in order, and resolves to one outcome for each. Called in
    /// stream order: whatever has to happen in that order happens before the future is returned.
    ///
    /// The sink keeps the slot until the outcome is known. With a slot of an earlier generation
    /// nothing is sent, and every outcome is [`Outcome::Unreachable`].
    fn deliver(self: Arc<Self>, slot: Slot, batch: Vec<D>) -> BoxFuture<'static, Vec<Outcome>>;

    /// Resolves once the remote may take messages that it has held. May wait for ever.
    async fn roomier(&self) {
        std::future::pending().await
    }
}

/// The right to hand over one batch. Dropping it passes it on to whoever waits longest.
#[derive(Debug)]
pub struct Slot {
    /// Counts the lives of the remote: connections to a broker, starts of an app. What an earlier
    /// life lost is sent again before anything else is.
    pub generation: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// A slot of a remote that doesn't bound what is in flight.
    #[must_use]
    pub fn new(generation: u64) -> Self {
        Self { generation, _permit: None }
    }

    /// A slot that holds a permit of the remote's bound on batches in flight.
    #[must_use]
    pub fn with_permit(generation: u64, permit: OwnedSemaphorePermit) -> Self {
        Self { generation, _permit: Some(permit) }
    }
}

/// A request for a slot. It keeps its place in line while a loop waits for other events as well: a new
/// call of [`Sink::ready`] at each turn would go to the end of the line.
pub struct SlotRequest<D> {
    sink: Arc<dyn Sink<D>>,
    waiting: Option<BoxFuture<'static, Slot>>,
}

impl<D: 'static> SlotRequest<D> {
    /// Creates a request that asks for nothing yet.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink<D>>) -> Self {
        Self { sink, waiting: None }
    }

    /// Asks for a slot, unless the request waits for one already.
    pub fn ask(&mut self) {
        let sink = &self.sink;
        self.waiting.get_or_insert_with(|| {
            let sink = Arc::clone(sink);
            Box::pin(async move { sink.ready().await })
        });
    }

    /// Gives up the place in line.
    pub fn withdraw(&mut self) {
        self.waiting = None;
    }

    /// Returns whether a slot was asked for and not yet granted.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Resolves to the slot that was asked for; never, if none was. Dropping the future keeps the place
    /// in line.
    pub async fn granted(&mut self) -> Slot {
        match &mut self.waiting {
            Some(waiting) => {
                let slot = waiting.await;
                self.waiting = None;
                slot
            }
            None => std::future::pending().await,
        }
    }
}

/// The outcome of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The remote has the message.
    Ack,
    /// The remote can't take the message now, for this reason. Counts as an attempt.
    Retry(Box<str>),
    /// The remote does not want the message: it goes to the dead letter topic, or is counted as
    /// dropped.
    Reject(Box<str>),
    /// The remote can't take this message while its limits stand: it goes to the dead letter topic,
    /// or is held in its stream until the limits grow, while the others pass it.
    Hold(Box<str>),
    /// There was no connection: no attempt, and everything that is not acknowledged is sent again.
    Unreachable(Box<str>),
}
