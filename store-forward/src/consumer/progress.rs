//! Outcomes of a consumer's deliveries, counted for the status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::ids::{ConsumerId, Sequence, StreamId};

/// Outcomes of deliveries since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastRefusal {
    /// The topic, behind its pub/sub component: `pubsub/orders`.
    pub topic: String,
    /// The message's place in the topic.
    pub sequence: u64,
    /// The number of the attempt that was refused, from 1 on.
    pub attempt: u32,
    /// The reason, in at most 200 characters.
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

/// Observations of one consumer's deliveries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) deliveries: Deliveries,
    pub(crate) last_refusal: Option<LastRefusal>,
    /// Positions of the held messages.
    pub(crate) held: Vec<(StreamId, Sequence)>,
    pub(crate) held_reason: Option<String>,
}

impl Progress {
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the consumer to try its held messages again; returns how many there are.
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
