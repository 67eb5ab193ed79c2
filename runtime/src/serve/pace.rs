//! What a connection waits for, and how long it may.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::connections::is_milestone;
use super::heads::{Evicted, Heads};
use super::room::{FREE_BYTES, Room, STEP_BYTES};

/// How long a client may keep a connection that it doesn't use: longer than the pools of HTTP
/// clients do, and it ends what a client left that vanished without a word.
const IDLE: Duration = Duration::from_secs(600);

/// How long the head of a request may take, from its first byte on.
const HEAD: Duration = Duration::from_secs(10);

/// How long a body may take: the largest one over a slow network. Waiting for room doesn't count.
const BODY: Duration = Duration::from_secs(30);

/// How long a client may take to hear that its request was refused.
const REFUSAL: Duration = Duration::from_secs(1);

/// How long a request that holds room may take for the next step of it while others wait: 40 KiB
/// a second, and longer than a busy board leaves a process waiting for the processor.
pub(super) const PATIENCE: Duration = Duration::from_millis(400);

/// How soon after that it is looked at again where nobody waits.
const RECHECK: Duration = Duration::from_millis(100);

/// Bytes of a read at most. Hyper doubles its buffer for good when a read fills one of 8 KiB, so
/// none may.
const READ_BYTES: usize = (8 << 10) - 1;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client's next request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The rest of a request's body.
    Body,
    /// An answer to the client: as long as it takes.
    Serving,
    /// Nothing: its request took room that others waited for.
    Refused,
}

impl Phase {
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

/// What to do about a connection whose time to be looked at has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    Wait,
    /// Close it, its client is too slow.
    Slow,
    /// Close it: its head takes room that others wait for.
    Stalled,
    /// Its handler is told that the body ends here, and answers: see [`Phase::Refused`].
    Refused,
}

/// What all connections share.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) room: Room,
    pub(super) heads: Heads,
    stalled: AtomicU64,
}

impl Memory {
    /// How many requests were ended because others needed their memory.
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

/// The phase of one connection and since when, and the room that its request takes.
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
    /// Bytes that were read of the request, and how many may be.
    read: usize,
    may_read: usize,
    /// Whether its head is counted among those that are unfinished.
    is_head_counted: bool,
    /// Whether it has asked for room, and since when it waits for some.
    has_asked: bool,
    waits: Option<Instant>,
    /// When a request that holds room is asked whether it stalls.
    check: Instant,
}

impl Pace {
    /// Of the connection `number`.
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
        (now.phase, now.since) = (phase, Instant::now());
        if now.waits.take().is_some() {
            self.memory.room.stop_waiting(self.number);
        }
    }

    /// Ends the request, and gives its room back.
    pub(super) fn finish(&self) {
        self.enter(Phase::Idle);
        let mut now = self.lock();
        now.read = 0;
        now.may_read = FREE_BYTES;
        if std::mem::take(&mut now.has_asked) {
            self.memory.room.leave(self.number);
        }
    }

    /// Since when the client is waited for; `None` while it waits for us.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        let now = self.lock();
        let is_ours = match now.phase {
            Phase::Serving => true,
            Phase::Body => now.waits.is_some(),
            Phase::Idle | Phase::Head | Phase::Refused => false,
        };
        (!is_ours).then_some(now.since)
    }

    /// Has the connection closed.
    pub(super) fn evict(&self) {
        self.evicted.notify_one();
    }

    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Whether the rest of the body isn't wanted any more.
    pub(super) fn is_refused(&self) -> bool {
        self.lock().phase == Phase::Refused
    }

    /// How many bytes may be read now; pending while there is no room for any.
    pub(super) fn poll_room(&self, context: &mut Context<'_>) -> Poll<usize> {
        let mut now = self.lock();
        // What is read meanwhile belongs to the next request: one read of it at most.
        if matches!(now.phase, Phase::Serving | Phase::Refused) {
            return Poll::Ready(READ_BYTES);
        }
        // It is read from again: its head isn't complete.
        if now.phase == Phase::Head && !self.count_head(&mut now) {
            return Poll::Pending;
        }
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

    /// A byte ends the wait for a request, and begins its head.
    pub(super) fn bytes_came(&self, count: usize) {
        let mut now = self.lock();
        match now.phase {
            Phase::Idle => (now.phase, now.since) = (Phase::Head, Instant::now()),
            Phase::Head | Phase::Body => {}
            Phase::Serving | Phase::Refused => return,
        }
        now.read += count;
    }

    /// Bytes that were read of the request so far.
    pub(super) fn read(&self) -> usize {
        self.lock().read
    }

    /// When it is to be looked at.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let now = self.lock();
        let limit = now.limit();
        if now.may_stall() { limit.map(|limit| limit.min(now.check)) } else { limit }
    }

    /// Looks at it.
    pub(super) fn look(&self, at: Instant) -> Verdict {
        let mut now = self.lock();
        if now.limit().is_some_and(|limit| at >= limit) {
            return Verdict::Slow;
        }
        if !now.may_stall() || at < now.check {
            return Verdict::Wait;
        }
        if !self.memory.room.is_contended() {
            now.check = at + RECHECK;
            return Verdict::Wait;
        }
        self.memory.count_stalled(1);
        if now.phase != Phase::Body {
            return Verdict::Stalled;
        }
        (now.phase, now.since) = (Phase::Refused, at);
        Verdict::Refused
    }

    /// False where the connection is being closed, for this head had to make way.
    fn count_head(&self, now: &mut State) -> bool {
        let is_known = std::mem::replace(&mut now.is_head_counted, true);
        let head = (now.since, self.number);
        match self.memory.heads.hold(head, is_known, now.read, &self.evicted) {
            Ok(evicted) => self.memory.count_stalled(evicted),
            Err(Evicted) => return false,
        }
        true
    }

    fn uncount_head(&self, now: &mut State) {
        if std::mem::take(&mut now.is_head_counted) {
            self.memory.heads.leave((now.since, self.number));
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
    fn got_room(&mut self) {
        self.may_read += STEP_BYTES;
        let now = Instant::now();
        self.check = now + PATIENCE;
        if let Some(waited) = self.waits.take().filter(|_| self.phase == Phase::Body) {
            self.since += now - waited;
        }
    }

    fn limit(&self) -> Option<Instant> {
        if self.phase == Phase::Body && self.waits.is_some() {
            return None;
        }
        Some(self.since + self.phase.limit()?)
    }

    /// Whether it holds room, and its client is waited for.
    fn may_stall(&self) -> bool {
        let is_clients = matches!(self.phase, Phase::Head | Phase::Body) && self.waits.is_none();
        is_clients && self.may_read > FREE_BYTES
    }
}

#[cfg(test)]
mod tests;
