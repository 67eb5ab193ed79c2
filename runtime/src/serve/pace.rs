//! The phases of a connection, and the time that each may take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::heads::{Evicted, Head, Heads};
use super::milestone::is_milestone;
use super::room::{FREE_BYTES, Room, STEP_BYTES};

/// The longest time that a connection may be idle: longer than HTTP clients keep one in their pools. It
/// ends the connections of clients that vanished without closing them.
const IDLE: Duration = Duration::from_secs(600);

/// The longest time that a head may take from its first byte on.
const HEAD: Duration = Duration::from_secs(10);

/// The longest time that a body may take: enough for the largest one over a slow network. Waiting for
/// room doesn't count.
const BODY: Duration = Duration::from_secs(30);

/// The longest time that a client may take to read that its request was refused.
const REFUSAL: Duration = Duration::from_secs(1);

/// The longest time that a request which holds room may take to fill the next step of it while others
/// wait. It means 40 KiB a second, and is longer than a busy board keeps a process from running.
pub(super) const PATIENCE: Duration = Duration::from_millis(400);

/// The time after which such a request is checked again if no other waits.
const RECHECK: Duration = Duration::from_millis(100);

/// Bytes of one read at most. Hyper doubles its buffer of 8 KiB for good when a read fills it, so no read
/// may.
const READ_BYTES: usize = (8 << 10) - 1;

/// The state of a connection, by what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client's next request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The rest of a request's body.
    Body,
    /// The response. It may take any time.
    Serving,
    /// Nothing: its request was ended because others waited for its room.
    Refused,
}

impl Phase {
    /// Returns the longest time that the phase may take.
    fn limit(self) -> Option<Duration> {
        match self {
            Self::Idle => Some(IDLE),
            Self::Head => Some(HEAD),
            Self::Body => Some(BODY),
            Self::Serving => None,
            Self::Refused => Some(REFUSAL),
        }
    }
}

/// The result of checking a connection at its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Keep it.
    Wait,
    /// Close it: its client is too slow.
    Slow,
    /// Close it: its head holds room that others wait for.
    Stalled,
    /// End its body with an error, which the handler answers; see [`Phase::Refused`].
    Refused,
}

/// The memory that all connections share.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) room: Room,
    pub(super) heads: Heads,
    stalled: AtomicU64,
}

impl Memory {
    /// Returns how many requests were ended because others needed their memory.
    pub(super) fn stalled(&self) -> u64 {
        self.stalled.load(Ordering::Relaxed)
    }

    fn count_stalled(&self, count: usize) {
        for _ in 0..count {
            let before = self.stalled.fetch_add(1, Ordering::Relaxed);
            if is_milestone(before) {
                let count = before + 1;
                tracing::warn!(count, "stalled request is ended, others need its memory");
            }
        }
    }
}

/// The phase of one connection, and the room that its request holds.
#[derive(Debug)]
pub(super) struct Pace {
    now: Mutex<State>,
    evicted: Arc<Notify>,
    memory: Arc<Memory>,
    number: u64,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Bytes of the request that were read.
    read: usize,
    /// Bytes of the request that may be read.
    may_read: usize,
    /// Its head is counted among the unfinished ones.
    is_head_counted: bool,
    /// The request has asked for room.
    has_asked: bool,
    /// The start of its wait for room, if it waits.
    waits: Option<Instant>,
    /// The time of the next check for a stall, if it holds room.
    check: Instant,
}

impl Pace {
    /// Creates the pace of the connection `number`.
    pub(super) fn new(memory: Arc<Memory>, number: u64) -> Self {
        let now = Instant::now();
        let state = State {
            phase: Phase::Idle,
            since: now,
            read: 0,
            may_read: FREE_BYTES,
            is_head_counted: false,
            has_asked: false,
            waits: None,
            check: now,
        };
        Self { now: Mutex::new(state), evicted: Arc::default(), memory, number }
    }

    /// Enters a phase of the request.
    pub(super) fn enter(&self, phase: Phase) {
        let mut now = self.lock();
        if now.phase == Phase::Refused {
            return;
        }
        self.uncount_head(&mut now);
        now.begin(phase, Instant::now());
        if now.waits.take().is_some() {
            self.memory.room.stop_waiting(self.number);
        }
    }

    /// Ends the request and releases its room.
    pub(super) fn finish(&self) {
        self.enter(Phase::Idle);
        let mut now = self.lock();
        now.read = 0;
        now.may_read = FREE_BYTES;
        if std::mem::take(&mut now.has_asked) {
            self.memory.room.leave(self.number);
        }
    }

    /// Returns since when the connection waits for its client; `None` while the client waits.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        let now = self.lock();
        let is_ours = match now.phase {
            Phase::Serving => true,
            Phase::Body => now.waits.is_some(),
            Phase::Idle | Phase::Head | Phase::Refused => false,
        };
        (!is_ours).then_some(now.since)
    }

    /// Makes [`evicted`](Self::evicted) return, which closes the connection.
    pub(super) fn evict(&self) {
        self.evicted.notify_one();
    }

    /// Waits until the connection has to be closed in favour of others.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Returns whether the request was ended, so that the rest of its body is dropped.
    pub(super) fn is_refused(&self) -> bool {
        self.lock().phase == Phase::Refused
    }

    /// Returns how many bytes may be read now; pending while there is no room for any.
    pub(super) fn poll_room(&self, context: &mut Context<'_>) -> Poll<usize> {
        let mut now = self.lock();
        // Bytes that arrive now belong to the next request. Allow one read of them at most.
        if matches!(now.phase, Phase::Serving | Phase::Refused) {
            return Poll::Ready(READ_BYTES);
        }
        // Hyper reads again, so the head isn't complete.
        if now.phase == Phase::Head && !self.count_head(&mut now) {
            return Poll::Pending;
        }
        // Take the next step of room once the last one is used up.
        if now.read >= now.may_read {
            now.has_asked = true;
            if !self.memory.room.take(self.number, context.waker()) {
                now.waits.get_or_insert_with(Instant::now);
                return Poll::Pending;
            }
            now.got_room();
        }
        Poll::Ready(READ_BYTES.min(now.may_read - now.read))
    }

    /// Counts bytes that were read. The first one begins the head of a request.
    pub(super) fn bytes_came(&self, count: usize) {
        let mut now = self.lock();
        match now.phase {
            Phase::Idle => now.begin(Phase::Head, Instant::now()),
            Phase::Head | Phase::Body => {}
            Phase::Serving | Phase::Refused => return,
        }
        now.read += count;
    }

    /// Returns how many bytes of the request were read.
    pub(super) fn read(&self) -> usize {
        self.lock().read
    }

    /// Returns when it has to be checked.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let now = self.lock();
        let limit = now.limit();
        if now.may_stall() { limit.map(|limit| limit.min(now.check)) } else { limit }
    }

    /// Checks it.
    pub(super) fn look(&self, at: Instant) -> Verdict {
        let mut now = self.lock();
        if now.limit().is_some_and(|limit| at >= limit) {
            return Verdict::Slow;
        }
        // A request that holds room may stall as long as nobody waits for it.
        if !now.may_stall() || at < now.check {
            return Verdict::Wait;
        }
        if !self.memory.room.is_contended() {
            now.check = at + RECHECK;
            return Verdict::Wait;
        }
        // A body can be answered before it is complete, a head can't.
        self.memory.count_stalled(1);
        if now.phase != Phase::Body {
            return Verdict::Stalled;
        }
        now.begin(Phase::Refused, at);
        Verdict::Refused
    }

    /// Counts the head among the unfinished ones. Returns false if it was evicted, so that its connection
    /// is being closed.
    fn count_head(&self, now: &mut State) -> bool {
        let is_known = std::mem::replace(&mut now.is_head_counted, true);
        let head = Head { since: now.since, connection: self.number };
        match self.memory.heads.hold(head, is_known, now.read, &self.evicted) {
            Ok(evicted) => self.memory.count_stalled(evicted),
            Err(Evicted) => return false,
        }
        true
    }

    fn uncount_head(&self, now: &mut State) {
        if std::mem::take(&mut now.is_head_counted) {
            self.memory.heads.leave(Head { since: now.since, connection: self.number });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.uncount_head(&mut self.lock());
        self.memory.room.leave(self.number);
    }
}

impl State {
    fn begin(&mut self, phase: Phase, at: Instant) {
        self.phase = phase;
        self.since = at;
    }

    /// Adds one step of room. The time that a body waited for it doesn't count.
    fn got_room(&mut self) {
        self.may_read += STEP_BYTES;
        let now = Instant::now();
        self.check = now + PATIENCE;
        if let Some(waited) = self.waits.take().filter(|_| self.phase == Phase::Body) {
            self.since += now - waited;
        }
    }

    /// Returns when the phase is over its limit.
    fn limit(&self) -> Option<Instant> {
        if self.phase == Phase::Body && self.waits.is_some() {
            return None;
        }
        Some(self.since + self.phase.limit()?)
    }

    /// Returns whether it holds room and waits for its client.
    fn may_stall(&self) -> bool {
        let is_clients = matches!(self.phase, Phase::Head | Phase::Body) && self.waits.is_none();
        is_clients && self.may_read > FREE_BYTES
    }
}

#[cfg(test)]
mod tests;
