//! Bounds the memory of heads that haven't arrived completely, all connections together.
//!
//! A client sends a head at once, so one that is waited for is slow or hostile: the head that has
//! been waited for longest makes way for others, and none of them waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes of unfinished heads at most: more than 250 small ones, or 17 of the largest.
const MOST_BYTES: usize = 1 << 20;

/// What a head counts at least: its connection has a buffer for it.
const LEAST_BYTES: usize = 4 << 10;

/// An unfinished head: since when it is waited for, and on which connection.
pub(super) type Head = (Instant, u64);

/// A head had to make way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evicted;

/// The unfinished heads of all connections.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ledger: Ledger,
    evictions: HashMap<u64, Arc<Notify>>,
}

impl Heads {
    /// Notes how many bytes of a head are there, which may be known from before. Notifies the
    /// connections that make way for it, and says how many these are.
    ///
    /// # Errors
    /// When the head itself had to make way since.
    pub(super) fn hold(
        &self,
        head: Head,
        is_known: bool,
        bytes: usize,
        eviction: &Arc<Notify>,
    ) -> Result<usize, Evicted> {
        let mut inner = self.lock();
        if is_known && !inner.ledger.bytes.contains_key(&head) {
            return Err(Evicted);
        }
        inner.evictions.entry(head.1).or_insert_with(|| Arc::clone(eviction));
        let evicted = inner.ledger.hold(head, bytes);
        for (_, connection) in &evicted {
            if let Some(eviction) = inner.evictions.remove(connection) {
                eviction.notify_one();
            }
        }
        Ok(evicted.len())
    }

    /// Forgets a head, which is complete or gone.
    pub(super) fn leave(&self, head: Head) {
        let mut inner = self.lock();
        inner.ledger.leave(head);
        inner.evictions.remove(&head.1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of each head, the one that has been waited for longest first.
#[derive(Debug, Default)]
struct Ledger {
    bytes: BTreeMap<Head, usize>,
    total: usize,
}

impl Ledger {
    /// Returns the heads that make way, if need be `head` too.
    fn hold(&mut self, head: Head, bytes: usize) -> Vec<Head> {
        let bytes = bytes.max(LEAST_BYTES);
        self.total += bytes;
        self.total -= self.bytes.insert(head, bytes).unwrap_or_default();
        let mut evicted = Vec::new();
        while self.total > MOST_BYTES {
            let Some((oldest, bytes)) = self.bytes.pop_first() else { break };
            self.total -= bytes;
            evicted.push(oldest);
        }
        evicted
    }

    fn leave(&mut self, head: Head) {
        self.total -= self.bytes.remove(&head).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_that_has_been_waited_for_longest_makes_way() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        let count = MOST_BYTES / LEAST_BYTES;
        let heads: Vec<Head> = (0..count as u64).map(|number| (now, number)).collect();
        assert!(heads.iter().all(|head| ledger.hold(*head, 100).is_empty()));
        assert_eq!(ledger.hold((now, u64::MAX), 100), [heads[0]]);
        assert_eq!(ledger.hold((now, u64::MAX), 3 * LEAST_BYTES), heads[1..3]);
    }

    #[test]
    fn a_head_that_is_complete_makes_room() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        assert!(ledger.hold((now, 1), MOST_BYTES - LEAST_BYTES).is_empty());
        assert!(ledger.hold((now, 2), 1).is_empty());
        ledger.leave((now, 1));
        ledger.leave((now, 1));
        assert!(ledger.hold((now, 3), MOST_BYTES - LEAST_BYTES).is_empty());
        assert_eq!(ledger.hold((now, 1), 1), [(now, 1)], "numbers break a tie");
    }
}
