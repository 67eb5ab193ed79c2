//! The consumer's view of the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use async_trait::async_trait;
use config::model::MqttVersion;
use futures_util::future::{BoxFuture, FutureExt, join_all};
use store_forward::consumer::{DeadLetter, Delivery, Outcome, Sink};
use tokio::sync::{mpsc, oneshot, watch};

use super::downlink::CAME_BY;
use super::encode::Encoder;
use super::session::Outbound;
use crate::uplink::status::UplinkStatus;

/// One connection that stands: where messages go, and on what terms.
#[derive(Clone)]
pub(super) struct Lane {
    /// Counts connections, from 1.
    pub(super) generation: u64,
    /// Bounded by the consumers' windows.
    pub(super) queue: mpsc::UnboundedSender<Pending>,
    pub(super) version: MqttVersion,
    pub(super) window: usize,
    pub(super) packet_max: usize,
    pub(super) retain: bool,
}

/// A message that waits for the broker's answer. Dropped with the connection, it is unreachable.
pub(super) struct Pending {
    pub(super) packet: Outbound,
    pub(super) bytes: usize,
    pub(super) done: oneshot::Sender<Outcome>,
}

/// What one consumer delivers to.
pub(super) struct UplinkSink {
    pub(super) lane: watch::Receiver<Option<Lane>>,
    /// The connection that the consumer last asked for. Nothing goes out by a newer one before it
    /// asks again: by then it knows what the older one lost, so that order holds.
    asked_for: AtomicU64,
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
        let (asked_for, held_under) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self { lane, asked_for, held_under, encoder, name: name.into(), status }
    }

    /// Whether this uplink brought the message: sent up again, it would come down again, for ever.
    /// A dead letter is news to whoever sent the message.
    fn brought(&self, delivery: &Delivery) -> bool {
        delivery.message.attribute(CAME_BY) == Some(self.name.as_str())
            && DeadLetter::of(&delivery.message).is_none()
    }

    fn open_lane(&self) -> Option<Lane> {
        let asked_for = self.asked_for.load(Ordering::Acquire);
        self.lane.borrow().clone().filter(|lane| lane.generation == asked_for)
    }

    fn hand_over(&self, lane: &Lane, delivery: &Delivery) -> Answer {
        let mut packet = match self.encoder.encode(delivery) {
            Ok(packet) => packet,
            Err(reason) => return Answer::Known(Outcome::Reject(reason)),
        };
        packet.retain &= lane.retain;
        let bytes = packet.packet_size(lane.version);
        if bytes > lane.packet_max {
            return Answer::Known(Outcome::Hold(format!(
                "it makes an MQTT packet of {bytes} bytes and the broker takes {}: send smaller \
                 messages, or raise the broker's maximum packet size",
                lane.packet_max
            )));
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
impl Sink for UplinkSink {
    async fn ready(&self) {
        let mut lane = self.lane.clone();
        let found = lane.wait_for(Option::is_some).await.ok();
        let generation = found.and_then(|lane| lane.as_ref().map(|lane| lane.generation));
        match generation {
            Some(generation) => self.asked_for.store(generation, Ordering::Release),
            // The uplink has stopped.
            None => std::future::pending().await,
        }
    }

    fn deliver(self: Arc<Self>, batch: Vec<Delivery>) -> BoxFuture<'static, Vec<Outcome>> {
        let Some(lane) = self.open_lane() else {
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
            // All of it moves in: its drop is what counts.
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

    fn window(&self) -> usize {
        self.lane.borrow().as_ref().map_or(usize::MAX, |lane| lane.window)
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
