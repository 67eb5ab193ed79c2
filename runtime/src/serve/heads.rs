//! Bounds the memory of unfinished heads of all connections together.
//!
//! A client usually sends a head at once, so an unfinished one is slow or hostile. The oldest one is
//! dropped with its connection in favour of others, which never wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes of unfinished heads at most: more than 250 small ones, or 17 of the largest.
const MOST_BYTES: usize = 1 << 20;

/// Bytes that each head counts at least, for the buffer of its connection.
const LEAST_BYTES: usize = 4 << 10;

/// An unfinished head. The oldest comes first; the number of the connection breaks a tie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Head {
    /// The time of its first byte.
    pub(super) since: Instant,
    /// The connection that it arrives on.
    pub(super) connection: u64,
}

/// The error for a head that was evicted.
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
    /// Records how many bytes of a head have arrived; `is_known` means that it was recorded before. Notifies
    /// the connections that are evicted for it, and returns their number.
    ///
    /// # Errors
    /// Returns an error if the head itself was evicted since.
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
        inner.evictions.entry(head.connection).or_insert_with(|| Arc::clone(eviction));
        let evicted = inner.ledger.hold(head, bytes);
        for evicted in &evicted {
            if let Some(eviction) = inner.evictions.remove(&evicted.connection) {
                eviction.notify_one();
            }
        }
        Ok(evicted.len())
    }

    /// Removes a head that is complete or whose connection is closed.
    pub(super) fn leave(&self, head: Head) {
        let mut inner = self.lock();
        inner.ledger.leave(head);
        inner.evictions.remove(&head.connection);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of each head, the oldest first.
#[derive(Debug, Default)]
struct Ledger {
    bytes: BTreeMap<Head, usize>,
    total: usize,
}

impl Ledger {
    /// Returns the heads that are evicted, which may include `head` itself.
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

    /// Returns a function that makes heads of the same age.
    fn heads() -> impl Fn(u64) -> Head + Copy {
        let since = Instant::now();
        move |connection| Head { since, connection }
    }

    #[test]
    fn the_oldest_head_is_evicted() {
        let mut ledger = Ledger::default();
        let head = heads();
        let count = MOST_BYTES / LEAST_BYTES;
        let heads: Vec<Head> = (0..count as u64).map(head).collect();
        assert!(heads.iter().all(|head| ledger.hold(*head, 100).is_empty()));
        assert_eq!(ledger.hold(head(u64::MAX), 100), [heads[0]]);
        assert_eq!(ledger.hold(head(u64::MAX), 3 * LEAST_BYTES), heads[1..3]);
    }

    #[test]
    fn a_head_that_is_complete_makes_room() {
        let mut ledger = Ledger::default();
        let head = heads();
        assert!(ledger.hold(head(1), MOST_BYTES - LEAST_BYTES).is_empty());
        assert!(ledger.hold(head(2), 1).is_empty());
        ledger.leave(head(1));
        ledger.leave(head(1));
        assert!(ledger.hold(head(3), MOST_BYTES - LEAST_BYTES).is_empty());
        assert_eq!(ledger.hold(head(1), 1), [head(1)], "numbers break a tie");
    }
}
