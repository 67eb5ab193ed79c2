//! What the deliveries of a consumer come to: counted where they are made, read by whoever asks
//! for the status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::Serialize;
use tokio::sync::Notify;

use crate::ids::{ConsumerId, Sequence, StreamId};

/// Outcomes of deliveries since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Deliveries {
    /// The remote has the message.
    pub acknowledged: u64,
    /// The remote refused the message, and it is tried again.
    pub refused: u64,
    /// The message went to the dead letter topic, or was dropped.
    pub rejected: u64,
    /// The remote can't take the message while its limits stand.
    pub held: u64,
    /// The link failed.
    pub unreachable: u64,
}

/// The last delivery that the remote refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastRefusal {
    /// The topic, behind its pub/sub component: `pubsub/orders`.
    pub topic: String,
    /// The message's place in the topic.
    pub sequence: u64,
    /// How often it had been tried, that time included.
    pub attempt: u32,
    /// Why, in at most 200 characters.
    pub reason: String,
    /// Milliseconds since 1970 by the wall clock.
    pub at: i64,
}

/// The progress of one consumer.
#[derive(Default)]
pub(crate) struct Progress {
    seen: Mutex<Seen>,
    retry: Notify,
}

/// What was seen of one consumer's deliveries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) deliveries: Deliveries,
    pub(crate) last_refusal: Option<LastRefusal>,
    /// Where the held messages are.
    pub(crate) held: Vec<(StreamId, Sequence)>,
    pub(crate) held_reason: Option<String>,
}

impl Progress {
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the consumer to try again what it holds; returns how much that is.
    pub(crate) fn retry(&self) -> usize {
        // Counted first: the consumer shows at once that it holds nothing any more.
        let held = self.seen().held.len();
        self.retry.notify_one();
        held
    }

    /// Resolves once somebody has asked for a retry.
    pub(crate) async fn retried(&self) {
        self.retry.notified().await;
    }
}

/// The progress of every consumer that has run.
#[derive(Default)]
pub(crate) struct Board(RwLock<HashMap<ConsumerId, Arc<Progress>>>);

impl Board {
    pub(crate) fn open(&self, consumer: ConsumerId) -> Arc<Progress> {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(consumer).or_default().clone()
    }

    pub(crate) fn get(&self, consumer: ConsumerId) -> Option<Arc<Progress>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&consumer).cloned()
    }
}
