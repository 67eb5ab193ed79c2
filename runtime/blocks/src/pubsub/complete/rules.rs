//! The rules of single messages: expiry, attempts, dead letters.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use components::clock::Clock;
use components::port::pubsub::{DeadLetter, Delivery, Outcome, PubSub, Sink, Slot};
use components::sparing::Sparing;
use futures_util::future::BoxFuture;

use super::attempts::{Attempts, MessageId};
use super::expiry;

/// The reason of an expired message's dead letter, as the embedded store gives it.
const EXPIRED: &str = "expired";

/// The rules that a component leaves to its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Messages past their time are not delivered.
    pub(super) expiry: bool,
    /// Expired messages are rejected; else they are dropped.
    pub(super) rejects_expired: bool,
    /// Attempts are counted here; else the component's count holds.
    pub(super) counts: bool,
    /// Attempts before a message is rejected.
    pub(super) attempts: Option<NonZeroU32>,
    /// The topic that rejected messages are published to; `None` leaves them to the component.
    pub(super) dead_letter: Option<String>,
}

impl Rules {
    /// Tells whether there is anything to do.
    pub(super) fn are_needed(&self) -> bool {
        let Self { expiry, counts, attempts, dead_letter, .. } = self;
        *expiry || *counts || attempts.is_some() || dead_letter.is_some()
    }

    /// Returns the topic that takes a message of `topic`, if it is rejected. One that was rejected
    /// in the dead letter topic itself would be published there for ever.
    fn dead_letter_of(&self, topic: &str) -> Option<&str> {
        self.dead_letter.as_deref().filter(|dead_letter| *dead_letter != topic)
    }

    fn is_last(&self, attempt: u32) -> bool {
        self.attempts.is_some_and(|most| attempt >= most.get())
    }
}

/// Applies the rules to what a component hands over, and to the outcomes.
pub(super) struct RuleSink {
    sink: Arc<dyn Sink<Delivery>>,
    rules: Rules,
    consumer: String,
    component: Arc<dyn PubSub>,
    clock: Arc<dyn Clock>,
    memory: Mutex<Memory>,
}

/// Counts of attempts and of log lines.
#[derive(Default)]
struct Memory {
    attempts: Attempts,
    rejected: Sparing,
    unpublished: Sparing,
    expired: Sparing,
}

/// A message that a component handed over.
enum Handed {
    /// Not delivered.
    Expired(Delivery),
    /// Delivered to the remote.
    Delivered(Delivered),
}

struct Delivered {
    id: MessageId,
    attempt: u32,
    /// A copy, if it can become a dead letter.
    copy: Option<Delivery>,
}

impl RuleSink {
    pub(super) fn new(
        sink: Arc<dyn Sink<Delivery>>,
        rules: Rules,
        consumer: String,
        component: Arc<dyn PubSub>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { sink, rules, consumer, component, clock, memory: Mutex::default() }
    }

    /// Sorts out the expired messages; the others are put into `live`.
    fn sort(&self, batch: Vec<Delivery>, live: &mut Vec<Delivery>) -> Vec<Handed> {
        let now = self.clock.read();
        let sort = |mut delivery: Delivery| {
            if self.rules.expiry {
                delivery.message.expires_in_ms = expiry::left_ms(&delivery.message, now);
                if delivery.message.expires_in_ms == Some(0) {
                    return Handed::Expired(delivery);
                }
            }
            let id = MessageId::of(&delivery);
            if self.rules.counts {
                delivery.attempt = self.memory().attempts.next(id);
            }
            let attempt = delivery.attempt;
            let dead_letter = self.rules.dead_letter_of(&delivery.topic.name);
            let copy = dead_letter.map(|_| delivery.clone());
            live.push(delivery);
            Handed::Delivered(Delivered { id, attempt, copy })
        };
        batch.into_iter().map(sort).collect()
    }

    async fn settle(&self, delivered: Delivered, outcome: Outcome) -> Outcome {
        let Delivered { id, attempt, copy } = delivered;
        let outcome = match outcome {
            Outcome::Retry(reason) if self.rules.is_last(attempt) => Outcome::Reject(reason),
            outcome => outcome,
        };
        let outcome = match (outcome, copy) {
            (Outcome::Reject(reason) | Outcome::Hold(reason), Some(copy)) => {
                self.publish_dead_letter(copy, &reason).await
            }
            (outcome, _) => outcome,
        };
        if self.rules.counts {
            let now = self.now();
            match outcome {
                Outcome::Ack | Outcome::Reject(_) => self.memory().attempts.forget(id),
                Outcome::Retry(_) => self.memory().attempts.failed(now, id),
                Outcome::Hold(_) | Outcome::Unreachable(_) => {}
            }
        }
        outcome
    }

    async fn settle_expired(&self, delivery: Delivery) -> Outcome {
        if self.rules.dead_letter_of(&delivery.topic.name).is_some() {
            return self.publish_dead_letter(delivery, EXPIRED).await;
        }
        if self.rules.rejects_expired {
            return Outcome::Reject(EXPIRED.into());
        }
        if let Some(suppressed) = self.admit(|memory| &mut memory.expired) {
            let consumer = &self.consumer;
            let topic = &delivery.topic;
            tracing::warn!(consumer, %topic, suppressed, "message expired and is dropped");
        }
        Outcome::Ack
    }

    /// Publishes a copy in the dead letter topic. The message is acknowledged once that is done, and
    /// tried again if it fails.
    async fn publish_dead_letter(&self, delivery: Delivery, reason: &str) -> Outcome {
        let Some(dead_letter) = &self.rules.dead_letter else {
            return Outcome::Reject(reason.into());
        };
        let consumer = &self.consumer;
        let topic = delivery.topic.to_string();
        let mut copy = DeadLetter::copy(delivery, reason);
        expiry::remove(&mut copy.attributes);
        match self.component.publish(dead_letter, vec![copy]).await {
            Ok(()) => {
                if let Some(suppressed) = self.admit(|memory| &mut memory.rejected) {
                    tracing::warn!(
                        consumer,
                        topic,
                        reason,
                        suppressed,
                        "message was refused, it goes to the dead letter topic"
                    );
                }
                Outcome::Ack
            }
            Err(error) => {
                if let Some(suppressed) = self.admit(|memory| &mut memory.unpublished) {
                    tracing::error!(
                        consumer,
                        topic,
                        dead_letter,
                        %error,
                        suppressed,
                        "dead letter can't be published, its message is tried again"
                    );
                }
                Outcome::Retry(format!("its dead letter can't be published: {error}").into())
            }
        }
    }

    fn admit(&self, which: impl FnOnce(&mut Memory) -> &mut Sparing) -> Option<u64> {
        let now = self.now();
        which(&mut self.memory()).admit(now)
    }

    /// Returns the time of a steady clock.
    fn now(&self) -> Duration {
        Duration::from_millis(self.clock.read().up_ms)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sink<Delivery> for RuleSink {
    async fn ready(&self) -> Slot {
        self.sink.ready().await
    }

    fn deliver(
        self: Arc<Self>,
        slot: Slot,
        batch: Vec<Delivery>,
    ) -> BoxFuture<'static, Vec<Outcome>> {
        let mut live = Vec::with_capacity(batch.len());
        let handed = self.sort(batch, &mut live);
        let landing = (!live.is_empty()).then(|| Arc::clone(&self.sink).deliver(slot, live));
        Box::pin(async move {
            let outcomes = match landing {
                Some(landing) => landing.await,
                None => Vec::new(),
            };
            let mut outcomes = outcomes.into_iter();
            let mut settled = Vec::with_capacity(handed.len());
            for handed in handed {
                settled.push(match handed {
                    Handed::Expired(delivery) => self.settle_expired(delivery).await,
                    Handed::Delivered(delivered) => {
                        let silent = || Outcome::Retry("the remote gave no outcome".into());
                        let outcome = outcomes.next().unwrap_or_else(silent);
                        self.settle(delivered, outcome).await
                    }
                });
            }
            settled
        })
    }

    async fn roomier(&self) {
        self.sink.roomier().await;
    }
}
