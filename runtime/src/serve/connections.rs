//! Limits the number of connections, and chooses the one that is closed for a new one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::milestone::is_milestone;
use super::pace::{Memory, Pace};

/// File descriptors for everything but client connections and calls to apps: the store, uplinks,
/// clients that are being refused. The store must never lack one.
const OTHER_FILES: u64 = 160;

/// The connections of all clients.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    open: Mutex<Open>,
    memory: Arc<Memory>,
    evicted: AtomicU64,
    refused: AtomicU64,
    slow: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    paces: HashMap<u64, Arc<Pace>>,
}

/// The number of open connections, and of those that were closed since the start, by reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Open now.
    pub open: usize,
    /// Closed while they waited for their clients, to make room.
    pub evicted: u64,
    /// Refused because all others were in use.
    pub refused: u64,
    /// Closed because their clients were too slow.
    pub slow: u64,
    /// Closed because their requests stalled while others waited for their memory.
    pub stalled: u64,
}

impl Connections {
    /// Allows `most` connections at a time, at least one.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            open: Mutex::default(),
            memory: Arc::default(),
            evicted: AtomicU64::default(),
            refused: AtomicU64::default(),
            slow: AtomicU64::default(),
        }
    }

    /// Allows `wanted` connections at a time, or as many as the process may open files for beside
    /// `calls` to apps.
    #[must_use]
    pub fn within_the_limit_of_files(wanted: usize, calls: u64) -> Self {
        let others = calls.saturating_add(OTHER_FILES);
        let files = raise_limit_of_files(others.saturating_add(wanted as u64));
        // Clients get a quarter of the files even if too few are left for the rest.
        let possible = files.saturating_sub(others).max(files / 4).max(1);
        let most = usize::try_from(possible).unwrap_or(usize::MAX).min(wanted);
        if most < wanted {
            tracing::warn!(
                wanted,
                most,
                files,
                "the limit of open files allows fewer connections: raise it (ulimit -n, LimitNOFILE)"
            );
        }
        Self::new(most)
    }

    /// Returns the current counts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            open: self.lock().paces.len(),
            evicted: self.evicted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            slow: self.slow.load(Ordering::Relaxed),
            stalled: self.memory.stalled(),
        }
    }

    /// Admits a connection. At the limit, the one that has waited longest for its client is closed; if none
    /// waits, the new one is refused with `None`.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Seat> {
        let mut open = self.lock();
        if open.paces.len() >= self.most && !self.evict(&mut open) {
            drop(open);
            if is_milestone(self.refused.fetch_add(1, Ordering::Relaxed)) {
                tracing::warn!(limit = self.most, "connection is refused, all others are in use");
            }
            return None;
        }
        let number = open.next;
        open.next += 1;
        let pace = Arc::new(Pace::new(Arc::clone(&self.memory), number));
        open.paces.insert(number, Arc::clone(&pace));
        drop(open);
        Some(Seat { connections: Arc::clone(self), number, pace })
    }

    /// Closes the connection that has waited longest for its client, if one waits.
    fn evict(&self, open: &mut Open) -> bool {
        let waiting = open.paces.iter().filter_map(|(at, pace)| Some((pace.waits_since()?, *at)));
        let Some((_, longest)) = waiting.min() else { return false };
        if let Some(pace) = open.paces.remove(&longest) {
            pace.evict();
        }
        if is_milestone(self.evicted.fetch_add(1, Ordering::Relaxed)) {
            tracing::warn!(
                limit = self.most,
                "too many connections, the one that has waited longest for its client is closed"
            );
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among all of them.
#[derive(Debug)]
pub(super) struct Seat {
    connections: Arc<Connections>,
    number: u64,
    pace: Arc<Pace>,
}

impl Seat {
    pub(super) fn pace(&self) -> &Arc<Pace> {
        &self.pace
    }

    /// Counts a client that was too slow.
    pub(super) fn count_slow(&self) {
        self.connections.slow.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.lock().paces.remove(&self.number);
    }
}

/// Raises the limit of open files towards `wanted` as far as allowed. Returns the new limit.
fn raise_limit_of_files(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let now = current.unwrap_or(u64::MAX);
    let raised = wanted.min(maximum.unwrap_or(u64::MAX));
    if raised <= now {
        return now;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
        Ok(()) => raised,
        Err(_) => now,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::pace::Phase;
    use super::*;

    #[tokio::test]
    async fn the_connection_that_has_waited_longest_makes_room() {
        let connections = Arc::new(Connections::new(2));
        let first = connections.admit().unwrap();
        let second = connections.admit().unwrap();
        first.pace().enter(Phase::Idle);
        let third = connections.admit().unwrap();
        second.pace().evicted().await;
        assert_eq!(
            connections.counts(),
            Counts { open: 2, evicted: 1, refused: 0, slow: 0, stalled: 0 }
        );
        drop((first, second, third));
        assert_eq!(connections.counts().open, 0);
    }

    #[test]
    fn a_connection_that_is_being_served_makes_no_room() {
        let connections = Arc::new(Connections::new(1));
        let first = connections.admit().unwrap();
        first.pace().enter(Phase::Serving);
        assert!(connections.admit().is_none());
        assert_eq!(
            connections.counts(),
            Counts { open: 1, evicted: 0, refused: 1, slow: 0, stalled: 0 }
        );
        drop(first);
        assert!(connections.admit().is_some());
    }
}
