//! Bounds the memory of all requests together: heads and bodies, by the bytes that have arrived.
//!
//! Each connection may hold [`FREE_BYTES`] of a request without asking. Beyond that it takes room in
//! steps as bytes arrive, so a body that is announced and never sent takes none. A connection that gets
//! no room isn't read from until others have released theirs.
//!
//! Many unfinished requests could fill the room, so that none of them could ever end. Therefore one
//! request at a time, the oldest of those that wait, is exempt from the bound. It can always end,
//! releases its room, and the next one becomes exempt.
//!
//! | requests | memory |
//! | --- | --- |
//! | all but one | [`SHARED_BYTES`] |
//! | the exempt one | the largest request: 4 MiB unless `--max-body-size` says otherwise |

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Bytes of a request that each connection may hold without asking: the size of its buffer. Small
/// requests never wait for room; the limit of connections bounds their memory.
pub(super) const FREE_BYTES: usize = 8 << 10;

/// Bytes of room that are taken at a time.
pub(super) const STEP_BYTES: usize = 16 << 10;

/// Bytes of room for all requests together, apart from the exempt one.
pub(super) const SHARED_BYTES: usize = 4 << 20;

/// Bytes of the shared room that only quick requests may take, so that they don't wait for large ones.
const RESERVED_BYTES: usize = 1 << 20;

/// Bytes of room that a quick request holds at most.
const QUICK_BYTES: usize = 64 << 10;

/// The room of all connections, and the queue of those that wait for some.
#[derive(Debug, Default)]
pub(super) struct Room(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ledger: Ledger,
    wakers: HashMap<u64, Waker>,
}

impl Room {
    /// Takes one step for a connection. Returns false if it has to wait; `waker` is woken when there is
    /// room.
    pub(super) fn take(&self, connection: u64, waker: &Waker) -> bool {
        let mut inner = self.lock();
        let granted = inner.ledger.take(connection);
        if !granted {
            inner.wakers.insert(connection, waker.clone());
        }
        granted
    }

    /// Ends a connection's wait for room. It keeps the room that it holds.
    pub(super) fn stop_waiting(&self, connection: u64) {
        let mut inner = self.lock();
        inner.wakers.remove(&connection);
        inner.ledger.waiting.retain(|waiting| waiting.connection != connection);
    }

    /// Releases all room of a connection and ends its wait.
    pub(super) fn leave(&self, connection: u64) {
        let mut inner = self.lock();
        inner.wakers.remove(&connection);
        let granted = inner.ledger.leave(connection);
        let woken: Vec<Waker> = granted.iter().filter_map(|one| inner.wakers.remove(one)).collect();
        drop(inner);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Returns whether a connection waits for room.
    pub(super) fn is_contended(&self) -> bool {
        !self.lock().ledger.waiting.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The room that each connection holds. Free room is granted to waiting connections at once, so none
/// waits while a step is free or while no connection is exempt.
#[derive(Debug)]
struct Ledger {
    free: usize,
    exempt: Option<u64>,
    holders: HashMap<u64, Holder>,
    waiting: BTreeSet<Waiting>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Holder {
    /// The order in which requests first took room.
    ticket: u64,
    /// Bytes of the shared room.
    bytes: usize,
    /// A step was granted while it waited, and the connection hasn't used it yet.
    granted: bool,
}

/// A connection that waits, in the order of grants: quick requests first, then by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    is_large: bool,
    ticket: u64,
    connection: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            free: SHARED_BYTES,
            exempt: None,
            holders: HashMap::new(),
            waiting: BTreeSet::new(),
            next_ticket: 0,
        }
    }
}

impl Ledger {
    /// Takes one step, or enters the queue. After a grant the same call succeeds.
    fn take(&mut self, connection: u64) -> bool {
        let next = self.next_ticket;
        let holder = self.holders.entry(connection).or_insert_with(|| {
            self.next_ticket += 1;
            Holder { ticket: next, bytes: 0, granted: false }
        });
        if std::mem::take(&mut holder.granted) || self.exempt == Some(connection) {
            return true;
        }
        if is_enough(self.free, holder.bytes) {
            self.free -= STEP_BYTES;
            holder.bytes += STEP_BYTES;
            return true;
        }
        if self.exempt.is_none() {
            self.exempt = Some(connection);
            return true;
        }
        let waiting =
            Waiting { is_large: holder.bytes >= QUICK_BYTES, ticket: holder.ticket, connection };
        self.waiting.insert(waiting);
        false
    }

    /// Returns the connections that were granted a step.
    fn leave(&mut self, connection: u64) -> Vec<u64> {
        let Some(holder) = self.holders.remove(&connection) else { return Vec::new() };
        self.free += holder.bytes;
        self.waiting.retain(|waiting| waiting.connection != connection);
        if self.exempt == Some(connection) {
            self.exempt = None;
        }
        std::iter::from_fn(|| self.grant()).collect()
    }

    /// Grants room to one waiting connection, if there is room or no exempt one. Returns it.
    fn grant(&mut self) -> Option<u64> {
        let first = *self.waiting.first()?;
        let held = |waiting: &Waiting| self.holders.get(&waiting.connection).map_or(0, |h| h.bytes);
        let next = if is_enough(self.free, held(&first)) {
            let holder = self.holders.get_mut(&first.connection)?;
            self.free -= STEP_BYTES;
            holder.bytes += STEP_BYTES;
            first
        } else if self.exempt.is_none() {
            let oldest = *self.waiting.iter().min_by_key(|waiting| waiting.ticket)?;
            self.exempt = Some(oldest.connection);
            oldest
        } else {
            return None;
        };
        self.waiting.remove(&next);
        self.holders.get_mut(&next.connection)?.granted = true;
        Some(next.connection)
    }
}

/// Returns whether a request that holds `held` bytes may take a step.
fn is_enough(free: usize, held: usize) -> bool {
    let reserved = if held < QUICK_BYTES { 0 } else { RESERVED_BYTES };
    free >= STEP_BYTES + reserved
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: usize = SHARED_BYTES / STEP_BYTES;

    /// Takes room until it has to wait. Returns the number of steps.
    fn fill(ledger: &mut Ledger, connection: u64) -> usize {
        (0..10 * STEPS).take_while(|_| ledger.take(connection)).count()
    }

    fn held(ledger: &Ledger) -> usize {
        ledger.holders.values().map(|holder| holder.bytes).sum()
    }

    #[test]
    fn one_request_may_be_of_any_length() {
        let mut ledger = Ledger::default();
        assert_eq!(fill(&mut ledger, 1), 10 * STEPS);
        assert!(held(&ledger) <= SHARED_BYTES);
    }

    #[test]
    fn large_requests_leave_room_for_quick_ones() {
        let mut ledger = Ledger::default();
        fill(&mut ledger, 1);
        assert!(fill(&mut ledger, 2) >= QUICK_BYTES / STEP_BYTES);
        assert!(!ledger.waiting.is_empty());
        assert!(ledger.take(3));
    }

    #[test]
    fn a_waiting_request_gets_room_as_soon_as_another_leaves() {
        let mut ledger = Ledger::default();
        let crowd = u64::try_from(STEPS).unwrap_or(u64::MAX);
        assert!((0..crowd).all(|connection| ledger.take(connection)));
        assert!(ledger.take(crowd), "it is exempt");
        assert!(!ledger.take(crowd + 1));
        assert!(!ledger.take(crowd + 1), "asking again helps nobody");
        assert_eq!(ledger.leave(7), [crowd + 1]);
        assert!(ledger.take(crowd + 1));
        assert_eq!(held(&ledger), SHARED_BYTES);
    }

    #[test]
    fn a_quick_request_gets_room_before_large_ones_that_came_earlier() {
        let mut ledger = Ledger::default();
        fill(&mut ledger, 1);
        let crowd = 2 + (RESERVED_BYTES / QUICK_BYTES) as u64;
        assert!((2..crowd).all(|large| fill(&mut ledger, large) == QUICK_BYTES / STEP_BYTES));
        assert!(!ledger.take(crowd));
        assert_eq!(ledger.leave(2), [crowd]);
    }

    #[test]
    fn the_oldest_that_waits_is_exempt_next() {
        let mut ledger = Ledger::default();
        let crowd = u64::try_from(STEPS).unwrap_or(u64::MAX);
        assert!((0..=crowd).all(|connection| ledger.take(connection)));
        assert_eq!(ledger.exempt, Some(crowd));
        for large in 0..3 {
            assert!(!ledger.take(large));
        }
        assert!(!ledger.take(crowd + 1));
        assert_eq!(ledger.leave(crowd), [0]);
        assert_eq!(ledger.exempt, Some(0));
    }

    #[test]
    fn requests_that_fill_the_room_together_all_end() {
        let mut ledger = Ledger::default();
        let size = SHARED_BYTES / STEP_BYTES;
        let mut need: HashMap<u64, usize> = (0..40).map(|connection| (connection, size)).collect();
        while !need.is_empty() {
            let mut has_moved = false;
            let mut connections: Vec<u64> = need.keys().copied().collect();
            connections.sort_unstable();
            for connection in connections {
                if ledger.take(connection) {
                    has_moved = true;
                    let left = need.entry(connection).or_default();
                    *left -= 1;
                    if *left == 0 {
                        need.remove(&connection);
                        ledger.leave(connection);
                    }
                }
                assert!(held(&ledger) <= SHARED_BYTES);
            }
            assert!(has_moved, "{} requests wait for each other", need.len());
        }
        assert_eq!((ledger.free, ledger.exempt), (SHARED_BYTES, None));
    }

    #[test]
    fn a_request_that_leaves_while_it_waits_is_removed() {
        let mut ledger = Ledger::default();
        for connection in 1..100 {
            fill(&mut ledger, connection);
        }
        for connection in (1..100).rev() {
            ledger.leave(connection);
        }
        assert!(ledger.waiting.is_empty() && ledger.holders.is_empty());
        assert_eq!((ledger.free, ledger.exempt), (SHARED_BYTES, None));
    }
}
