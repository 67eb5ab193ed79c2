//! The queue of lines for standard error. Pushing never waits: a line that doesn't fit is lost, and
//! counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// Bytes of queued lines at most: a tenth of a second of the fastest API logging.
pub(super) const MAX_BYTES: usize = 256 << 10;
/// Bytes of a buffer that are kept after a burst.
const KEPT_BYTES: usize = 16 << 10;

/// A queue between the threads that log and the one that writes.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    drained: Condvar,
    lost: AtomicU64,
}

struct State {
    lines: Vec<u8>,
    /// Lost lines that the log doesn't mention yet.
    unreported: u64,
    /// The thread that writes, once there is one.
    writer: Option<ThreadId>,
    writer_waits: bool,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                lines: Vec::new(),
                unreported: 0,
                writer: None,
                writer_waits: false,
            }),
            filled: Condvar::new(),
            drained: Condvar::new(),
            lost: AtomicU64::new(0),
        }
    }

    /// Queues whole lines. Returns false, and does nothing, if there is no writer yet.
    pub(super) fn push(&self, lines: &[u8]) -> bool {
        let mut state = self.state();
        if state.writer.is_none() {
            return false;
        }
        if !state.has_room_for(lines.len()) {
            drop(state);
            self.lose(count(lines));
            return true;
        }
        state.lines.extend_from_slice(lines);
        let waits = state.writer_waits;
        drop(state);
        if waits {
            self.filled.notify_one();
        }
        true
    }

    /// Makes the calling thread the writer.
    pub(super) fn set_writer(&self) {
        self.state().writer = Some(thread::current().id());
    }

    /// Waits for lines, and moves them into `chunk`, whose earlier content counts as written.
    pub(super) fn take(&self, chunk: &mut Vec<u8>) {
        chunk.clear();
        chunk.shrink_to(KEPT_BYTES);
        let mut state = self.state();
        while state.lines.is_empty() {
            state.writer_waits = true;
            self.drained.notify_all();
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writer_waits = false;
        std::mem::swap(&mut state.lines, chunk);
    }

    /// Counts lost lines.
    pub(super) fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        self.report_again(lines);
    }

    /// Returns how many lines were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns how many lines were lost and not reported yet, which counts them as reported.
    pub(super) fn take_unreported(&self) -> u64 {
        std::mem::take(&mut self.state().unreported)
    }

    /// Counts lost lines as unreported again, because the line that reported them was lost itself.
    pub(super) fn report_again(&self, lines: u64) {
        self.state().unreported += lines;
    }

    /// Waits until all lines are written, or `patience` is over.
    pub(super) fn drain(&self, patience: Duration) {
        let state = self.state();
        let Some(writer) = state.writer else { return };
        if writer == thread::current().id() {
            return;
        }
        let busy = |state: &mut State| !(state.writer_waits && state.lines.is_empty());
        drop(self.drained.wait_timeout_while(state, patience, busy));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether lines fit. Those that are longer than the whole queue fit into an empty one, and the
    /// writer's own report of lost lines always fits.
    fn has_room_for(&self, bytes: usize) -> bool {
        self.lines.is_empty()
            || self.lines.len() + bytes <= MAX_BYTES
            || self.writer == Some(thread::current().id())
    }
}

/// Counts the lines of a text.
pub(super) fn count(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Creates a queue whose writer is another thread, which never takes anything.
    fn queue() -> Arc<Queue> {
        let queue = Arc::new(Queue::new());
        let writer = Arc::clone(&queue);
        thread::spawn(move || writer.set_writer()).join().expect("it does not panic");
        queue
    }

    #[test]
    fn a_queue_without_a_writer_takes_nothing() {
        let queue = Queue::new();
        assert!(!queue.push(b"a\n"));
        assert_eq!(queue.lost(), 0);
    }

    #[test]
    fn lines_that_do_not_fit_are_lost_and_counted() {
        let queue = queue();
        queue.push(&[b'x'; MAX_BYTES - 2]);
        queue.push(b"a\n");
        assert_eq!(queue.lost(), 0);
        queue.push(b"b\nc\n");
        assert_eq!((queue.lost(), queue.take_unreported(), queue.take_unreported()), (2, 2, 0));
    }

    #[test]
    fn a_text_longer_than_all_the_room_goes_alone() {
        let queue = queue();
        queue.push(&vec![b'\n'; 2 * MAX_BYTES]);
        queue.push(b"a\n");
        let mut chunk = Vec::new();
        queue.take(&mut chunk);
        assert_eq!((chunk.len(), queue.lost()), (2 * MAX_BYTES, 1));
    }

    #[test]
    fn the_writer_itself_always_finds_room() {
        let queue = Queue::new();
        queue.set_writer();
        queue.push(&vec![b'\n'; MAX_BYTES]);
        queue.push(b"a\n");
        assert_eq!(queue.lost(), 0);
    }

    #[test]
    fn a_burst_does_not_stay_in_memory() {
        let queue = queue();
        let mut chunk = Vec::new();
        queue.push(&vec![b'\n'; MAX_BYTES]);
        queue.take(&mut chunk);
        queue.push(b"a\n");
        queue.take(&mut chunk);
        queue.push(b"b\n");
        queue.take(&mut chunk);
        assert_eq!(chunk, b"b\n");
        assert!(chunk.capacity() <= KEPT_BYTES);
        assert!(queue.state().lines.capacity() <= KEPT_BYTES);
    }
}
