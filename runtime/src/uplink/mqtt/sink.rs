//! The consumer's view of the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use config::model::MqttVersion;
use futures_util::future::{BoxFuture, FutureExt, join_all};
use store_forward::consumer::{DeadLetter, Delivery, Outcome, Sink, Slot};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::downlink::CAME_BY;
use super::encode::Encoder;
use super::session::Outbound;
use crate::uplink::status::UplinkStatus;

/// One connection that stands: where messages go, and on what terms.
#[derive(Clone)]
pub(super) struct Lane {
    /// Counts connections, from 1.
    pub(super) generation: u64,
    /// Bounded by `slots`.
    pub(super) queue: mpsc::UnboundedSender<Pending>,
    pub(super) version: MqttVersion,
    pub(super) window: usize,
    /// As many as `window`, for all consumers of the uplink.
    pub(super) slots: Arc<Semaphore>,
    pub(super) packet_max: usize,
    pub(super) retain: bool,
}

/// A message that waits for the broker's answer. Dropped with the connection, it is unreachable.
pub(super) struct Pending {
    pub(super) packet: Outbound,
    pub(super) bytes: usize,
    pub(super) done: oneshot::Sender<Outcome>,
}

/// The sink of one consumer.
pub(super) struct UplinkSink {
    pub(super) lane: watch::Receiver<Option<Lane>>,
    /// The limit on packets that messages were last held under.
    held_under: AtomicUsize,
    encoder: Encoder,
    /// The uplink's name.
    name: String,
    status: Arc<UplinkStatus>,
}

impl UplinkSink {
    pub(super) fn new(
        name: &str,
        lane: watch::Receiver<Option<Lane>>,
        encoder: Encoder,
        status: Arc<UplinkStatus>,
    ) -> Self {
        Self { lane, held_under: AtomicUsize::new(0), encoder, name: name.into(), status }
    }

    /// Returns whether this uplink received the message: sending it up again would make a loop.
    /// Dead letters are sent all the same, as its publisher doesn't have them.
    fn brought(&self, delivery: &Delivery) -> bool {
        delivery.message.attribute(CAME_BY) == Some(self.name.as_str())
            && DeadLetter::of(&delivery.message).is_none()
    }

    /// The lane of that generation, while it is open. Nothing goes out by a newer one: the consumer
    /// has to learn first what this one lost, so that order holds.
    fn open_lane(&self, generation: u64) -> Option<Lane> {
        self.lane.borrow().clone().filter(|lane| lane.generation == generation)
    }

    fn hand_over(&self, lane: &Lane, delivery: &Delivery) -> Answer {
        let mut packet = match self.encoder.encode(delivery) {
            Ok(packet) => packet,
            Err(reason) => return Answer::Known(Outcome::Reject(reason.into())),
        };
        packet.retain &= lane.retain;
        let bytes = packet.packet_size(lane.version);
        if bytes > lane.packet_max {
            let reason = format!(
                "it makes an MQTT packet of {bytes} bytes and the broker takes {}: send smaller \
                 messages, or raise the broker's maximum packet size",
                lane.packet_max
            );
            return Answer::Known(Outcome::Hold(reason.into()));
        }
        let (done, answer) = oneshot::channel();
        match lane.queue.send(Pending { packet, bytes, done }) {
            Ok(()) => Answer::Awaited(answer),
            Err(_) => Answer::Known(unreachable()),
        }
    }
}

enum Answer {
    /// There is nothing to send.
    Passed,
    Known(Outcome),
    Awaited(oneshot::Receiver<Outcome>),
}

impl Answer {
    async fn outcome(self) -> Outcome {
        match self {
            Self::Passed => Outcome::Ack,
            Self::Known(outcome) => outcome,
            Self::Awaited(answer) => answer.await.unwrap_or_else(|_| unreachable()),
        }
    }
}

fn unreachable() -> Outcome {
    Outcome::Unreachable("the connection to the broker is down".into())
}

/// Keeps the number in flight right, also when a delivery is given up.
struct InFlight {
    status: Arc<UplinkStatus>,
    messages: usize,
    acknowledged: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.status.answered(self.messages, self.acknowledged);
    }
}

#[async_trait]
impl Sink<Delivery> for UplinkSink {
    async fn ready(&self) -> Slot {
        let mut open = self.lane.clone();
        loop {
            let found = open.wait_for(Option::is_some).await.ok();
            let Some(lane) = found.and_then(|lane| lane.clone()) else {
                // The uplink has stopped.
                return std::future::pending().await;
            };
            // The semaphore is never closed. The permits of a lane that ends come back with its
            // outcomes.
            let Ok(permit) = lane.slots.acquire_owned().await else { continue };
            if self.open_lane(lane.generation).is_some() {
                return Slot::with_permit(lane.generation, permit);
            }
        }
    }

    fn deliver(
        self: Arc<Self>,
        slot: Slot,
        batch: Vec<Delivery>,
    ) -> BoxFuture<'static, Vec<Outcome>> {
        let Some(lane) = self.open_lane(slot.generation) else {
            let outcomes = batch.iter().map(|_| unreachable()).collect();
            return std::future::ready(outcomes).boxed();
        };
        self.status.handed_over(batch.len());
        let in_flight =
            InFlight { status: Arc::clone(&self.status), messages: batch.len(), acknowledged: 0 };
        let answer = |delivery: &Delivery| match self.brought(delivery) {
            true => Answer::Passed,
            false => self.hand_over(&lane, delivery),
        };
        let answers: Vec<Answer> = batch.iter().map(answer).collect();
        let passed = answers.iter().filter(|answer| matches!(answer, Answer::Passed)).count();
        let packet_max = lane.packet_max;
        async move {
            // Move both into the future: dropping them updates the counters and frees the slot.
            let _slot = slot;
            let mut in_flight = in_flight;
            let outcomes = join_all(answers.into_iter().map(Answer::outcome)).await;
            let acknowledged = outcomes.iter().filter(|o| **o == Outcome::Ack).count();
            in_flight.acknowledged = acknowledged - passed;
            if outcomes.iter().any(|outcome| matches!(outcome, Outcome::Hold(_))) {
                self.held_under.store(packet_max, Ordering::Release);
            }
            outcomes
        }
        .boxed()
    }

    async fn roomier(&self) {
        let mut lane = self.lane.clone();
        let roomier = |lane: &Option<Lane>| {
            let held_under = self.held_under.load(Ordering::Acquire);
            lane.as_ref().is_some_and(|lane| lane.packet_max > held_under)
        };
        if lane.wait_for(roomier).await.is_err() {
            // The uplink has stopped.
            std::future::pending().await
        }
    }
}
