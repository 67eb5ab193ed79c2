//! Lines on their way to standard error. Whoever logs never waits: a line that finds no room is
//! lost, and counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// Bytes of lines that wait to be written: a tenth of a second of the fastest API logging.
pub(super) const MAX_BYTES: usize = 256 << 10;
/// Bytes of a buffer that are kept after a burst.
const KEPT_BYTES: usize = 16 << 10;

/// Lines between those who log and the one thread that writes.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    drained: Condvar,
    lost: AtomicU64,
}

struct State {
    lines: Vec<u8>,
    /// Lost lines that the log doesn't tell of yet.
    untold: u64,
    /// The thread that writes, once there is one.
    writer: Option<ThreadId>,
    writer_waits: bool,
}

impl Queue {
    pub(super) const fn new() -> Self {
        let lines = Vec::new();
        Self {
            state: Mutex::new(State { lines, untold: 0, writer: None, writer_waits: false }),
            filled: Condvar::new(),
            drained: Condvar::new(),
            lost: AtomicU64::new(0),
        }
    }

    /// Queues whole lines. Returns false where there is no writer yet: nothing happened then.
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

    /// The calling thread writes from now on.
    pub(super) fn set_writer(&self) {
        self.state().writer = Some(thread::current().id());
    }

    /// Waits for lines, and moves them into `chunk`; what is in there counts as written.
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

    /// Counts lines that are lost.
    pub(super) fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        self.untell(lines);
    }

    /// Lines lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Lost lines that are to be told of now; the next call doesn't return them again.
    pub(super) fn take_untold(&self) -> u64 {
        std::mem::take(&mut self.state().untold)
    }

    /// The line that told of them was lost itself.
    pub(super) fn untell(&self, lines: u64) {
        self.state().untold += lines;
    }

    /// Waits until everything is written, or `patience` is over.
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
    /// A text that is longer than all the room goes alone; what the writer itself says of lost lines
    /// always fits.
    fn has_room_for(&self, bytes: usize) -> bool {
        self.lines.is_empty()
            || self.lines.len() + bytes <= MAX_BYTES
            || self.writer == Some(thread::current().id())
    }
}

/// Lines of a text.
pub(super) fn count(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A queue whose writer is another thread, which never takes anything.
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
    fn what_does_not_fit_is_lost_and_counted_by_lines() {
        let queue = queue();
        queue.push(&[b'x'; MAX_BYTES - 2]);
        queue.push(b"a\n");
        assert_eq!(queue.lost(), 0);
        queue.push(b"b\nc\n");
        assert_eq!((queue.lost(), queue.take_untold(), queue.take_untold()), (2, 2, 0));
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
