//! Collects messages into batches: the sink that a component sees, and the driver behind it.
//!
//! A message gives its slot back while its batch fills, so that an app of few calls is not kept from
//! its other subscriptions. The read-ahead bounds what waits meanwhile: a message that exceeds it goes
//! out with its own slot, in the batch as it is.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use components::port::pubsub::{
    Delivery, Outcome, ReadAhead, ReadAheadShare, Sink, Slot, SlotRequest,
};
use components::stop::Stop;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::filler::Filler;

/// Returns the sink for a component that makes no batches, and the driver that hands batches to
/// `sink` while it runs.
pub(super) fn batcher(
    sink: Arc<dyn Sink<Delivery>>,
    filler: Filler<WaitingMessage>,
    read_ahead: Arc<ReadAhead>,
) -> (Batcher, BatchDriver) {
    // Bounded by the order that the component was asked for.
    let (arrived, arrivals) = mpsc::unbounded_channel();
    let takes_more = watch::Sender::new(true);
    let batcher = Batcher {
        sink: Arc::clone(&sink),
        arrived,
        takes_more: takes_more.subscribe(),
        read_ahead,
    };
    let started = Instant::now();
    let landing = FuturesUnordered::new();
    let slot = SlotRequest::new(Arc::clone(&sink));
    (batcher, BatchDriver { sink, slot, arrivals, takes_more, filler, landing, started })
}

/// The sink that a component sees.
pub(super) struct Batcher {
    sink: Arc<dyn Sink<Delivery>>,
    arrived: mpsc::UnboundedSender<Arrival>,
    takes_more: watch::Receiver<bool>,
    read_ahead: Arc<ReadAhead>,
}

struct Arrival {
    slot: Slot,
    messages: Vec<WaitingMessage>,
    /// The read-ahead is exceeded.
    crowded: bool,
}

/// A message whose outcome a component waits for.
pub(super) struct WaitingMessage {
    delivery: Delivery,
    outcome: oneshot::Sender<Outcome>,
    share: ReadAheadShare,
}

#[async_trait]
impl Sink<Delivery> for Batcher {
    async fn ready(&self) -> Slot {
        loop {
            if self.takes_more.clone().wait_for(|takes_more| *takes_more).await.is_err() {
                // The driver has ended.
                std::future::pending::<()>().await;
            }
            let slot = self.sink.ready().await;
            if *self.takes_more.borrow() {
                return slot;
            }
        }
    }

    fn deliver(
        self: Arc<Self>,
        slot: Slot,
        batch: Vec<Delivery>,
    ) -> BoxFuture<'static, Vec<Outcome>> {
        let mut messages = Vec::with_capacity(batch.len());
        let mut outcomes = Vec::with_capacity(batch.len());
        for delivery in batch {
            let share = self.read_ahead.hold(delivery.message.memory_bytes());
            let (outcome, known) = oneshot::channel();
            messages.push(WaitingMessage { delivery, outcome, share });
            outcomes.push(known);
        }
        let crowded = self.read_ahead.is_exceeded();
        // Without a driver the messages are dropped, and their outcomes with them.
        let _ = self.arrived.send(Arrival { slot, messages, crowded });
        Box::pin(async move {
            let mut known = Vec::with_capacity(outcomes.len());
            for outcome in outcomes {
                known.push(outcome.await.unwrap_or_else(|_| unreachable("the subscription ended")));
            }
            known
        })
    }

    async fn roomier(&self) {
        self.sink.roomier().await;
    }
}

/// Hands over batches.
pub(super) struct BatchDriver {
    sink: Arc<dyn Sink<Delivery>>,
    slot: SlotRequest<Delivery>,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    takes_more: watch::Sender<bool>,
    filler: Filler<WaitingMessage>,
    landing: FuturesUnordered<BoxFuture<'static, Landed>>,
    started: Instant,
}

/// The outcomes of a batch, and those who wait for them.
struct Landed {
    outcomes: Vec<Outcome>,
    waiting: Vec<oneshot::Sender<Outcome>>,
}

impl BatchDriver {
    /// Hands batches over until it is dropped. After a stop is requested, messages that were not
    /// handed over are unreachable.
    pub(super) async fn run(mut self, stop: Stop) {
        let mut stopping = false;
        loop {
            let due = self.filler.due().map(|due| self.started + due);
            if due.is_some_and(|due| due <= Instant::now()) {
                self.slot.ask();
            } else {
                self.slot.withdraw();
            }
            let sleeps = due.is_some() && !self.slot.is_waiting();
            // Branches that are ready are taken in any order, so each looks for a stop itself.
            tokio::select! {
                () = stop.requested(), if !stopping => {
                    stopping = true;
                    return_all(self.filler.give_back(), "the subscription stops");
                }
                Some(arrival) = self.arrivals.recv() => {
                    if stop.is_requested() {
                        return_all(arrival.messages, "the subscription stops");
                    } else {
                        self.arrive(arrival);
                    }
                }
                Some(landed) = self.landing.next(), if !self.landing.is_empty() => {
                    self.land(landed);
                }
                granted = self.slot.granted() => {
                    if !stop.is_requested() {
                        self.use_slot(granted);
                    }
                }
                () = sleep_until(due), if sleeps => {}
            }
            self.tell();
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn arrive(&mut self, arrival: Arrival) {
        let Arrival { slot, messages, crowded } = arrival;
        self.begin(slot.generation);
        if self.filler.is_over(slot.generation) {
            return return_all(messages, "the remote has started anew");
        }
        for message in messages {
            self.filler.add(self.now(), message.delivery.stream, message);
        }
        if crowded {
            self.filler.hurry();
        }
        self.use_slot(slot);
    }

    fn begin(&mut self, generation: u64) {
        return_all(self.filler.begin(generation), "the remote has started anew");
    }

    /// Hands over a batch if one is due, else gives the slot back.
    fn use_slot(&mut self, slot: Slot) {
        self.begin(slot.generation);
        if self.filler.is_over(slot.generation) {
            return;
        }
        let Some(batch) = self.filler.take(self.now()) else { return };
        let mut waiting = Vec::with_capacity(batch.len());
        let mut deliveries = Vec::with_capacity(batch.len());
        for WaitingMessage { delivery, outcome, share } in batch {
            deliveries.push(delivery);
            waiting.push(outcome);
            // The read-ahead doesn't include messages in flight.
            drop(share);
        }
        let outcomes = Arc::clone(&self.sink).deliver(slot, deliveries);
        self.landing.push(Box::pin(async move { Landed { outcomes: outcomes.await, waiting } }));
    }

    fn land(&mut self, landed: Landed) {
        let Landed { mut outcomes, waiting } = landed;
        self.filler.landed();
        if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Unreachable(_))) {
            // The lost messages are sent again first, so the component takes the others back too.
            return_all(self.filler.give_back(), "the link to the remote failed");
        }
        let silent = || Outcome::Retry("the remote gave no outcome".into());
        outcomes.resize_with(waiting.len(), silent);
        for (outcome, waiting) in outcomes.into_iter().zip(waiting) {
            // A component that went away needs no outcome.
            let _ = waiting.send(outcome);
        }
    }

    fn tell(&self) {
        let takes_more = self.filler.takes_more();
        self.takes_more.send_if_modified(|told| std::mem::replace(told, takes_more) != takes_more);
    }
}

/// Returns messages that were not handed over to the component.
fn return_all(messages: Vec<WaitingMessage>, reason: &str) {
    for message in messages {
        let _ = message.outcome.send(unreachable(reason));
    }
}

fn unreachable(reason: &str) -> Outcome {
    Outcome::Unreachable(reason.into())
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
