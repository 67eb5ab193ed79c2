//! Batches that are being filled. No clock, no input.

use std::time::Duration;

use components::port::pubsub::{BatchPolicy, StreamId};

/// Fills batches with messages `T`, and says when one is to be handed over.
#[derive(Debug)]
pub(super) struct Filler<T> {
    policy: BatchPolicy,
    /// Batches in flight at most.
    parallel: usize,
    in_flight: usize,
    /// The newest life of the remote that is known.
    generation: u64,
    /// In the order of their first messages; each is of one stream.
    open: Vec<OpenBatch<T>>,
}

#[derive(Debug)]
struct OpenBatch<T> {
    stream: StreamId,
    /// When it is handed over, full or not; zero is at once.
    due: Duration,
    messages: Vec<T>,
}

impl<T> Filler<T> {
    pub(super) fn new(policy: BatchPolicy, parallel: usize) -> Self {
        Self { policy, parallel, in_flight: 0, generation: 0, open: Vec::new() }
    }

    /// Takes note of a slot's generation. Returns the messages that were taken in for an earlier life
    /// of the remote: sent to this one, they would overtake what that one lost.
    pub(super) fn begin(&mut self, generation: u64) -> Vec<T> {
        if generation <= self.generation {
            return Vec::new();
        }
        self.generation = generation;
        self.give_back()
    }

    /// Tells whether a slot is of an earlier life of the remote.
    pub(super) fn is_over(&self, generation: u64) -> bool {
        generation < self.generation
    }

    /// Takes in a message, behind those of its stream.
    pub(super) fn add(&mut self, now: Duration, stream: StreamId, message: T) {
        let most = self.policy.messages.max(1);
        let last = self.open.iter_mut().rfind(|batch| batch.stream == stream);
        match last.filter(|batch| batch.messages.len() < most) {
            Some(batch) => batch.messages.push(message),
            None => {
                let due = now.saturating_add(self.policy.wait);
                self.open.push(OpenBatch { stream, due, messages: vec![message] });
            }
        }
        let full = self.open.iter_mut().filter(|batch| batch.messages.len() >= most);
        full.for_each(|batch| batch.due = Duration::ZERO);
    }

    /// Waits no longer for batches to fill.
    pub(super) fn hurry(&mut self) {
        self.open.iter_mut().for_each(|batch| batch.due = Duration::ZERO);
    }

    /// Returns when a slot is of use, if nothing else happens until then.
    pub(super) fn due(&self) -> Option<Duration> {
        self.open.iter().map(|batch| batch.due).min().filter(|_| self.takes_more())
    }

    /// Returns the first batch that is due. It is in flight until [`Filler::landed`].
    pub(super) fn take(&mut self, now: Duration) -> Option<Vec<T>> {
        let first = self.open.iter().position(|batch| batch.due <= now);
        let batch = self.open.remove(first.filter(|_| self.takes_more())?);
        self.in_flight += 1;
        Some(batch.messages)
    }

    /// Takes note that a batch has its outcomes.
    pub(super) fn landed(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Returns all messages that were not handed over.
    pub(super) fn give_back(&mut self) -> Vec<T> {
        self.open.drain(..).flat_map(|batch| batch.messages).collect()
    }

    /// Tells whether one more batch may be in flight.
    pub(super) fn takes_more(&self) -> bool {
        self.in_flight < self.parallel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: StreamId = StreamId(1);
    const B: StreamId = StreamId(2);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn filler(messages: usize, parallel: usize) -> Filler<u32> {
        Filler::new(BatchPolicy { messages, wait: seconds(10) }, parallel)
    }

    #[test]
    fn a_batch_is_due_once_it_is_full_or_has_waited() {
        let mut filler = filler(2, 9);
        filler.add(seconds(1), A, 1);
        assert_eq!(filler.due(), Some(seconds(11)));
        assert_eq!(filler.take(seconds(10)), None);
        filler.add(seconds(10), A, 2);
        assert_eq!(filler.due(), Some(seconds(0)));
        assert_eq!(filler.take(seconds(10)), Some(vec![1, 2]));
        filler.add(seconds(11), A, 3);
        assert_eq!(filler.take(seconds(21)), Some(vec![3]));
        assert_eq!(filler.due(), None);
    }

    #[test]
    fn a_batch_is_of_one_stream_and_the_first_one_due_goes_first() {
        let mut filler = filler(2, 9);
        filler.add(seconds(1), A, 1);
        filler.add(seconds(2), B, 2);
        filler.add(seconds(3), B, 3);
        filler.add(seconds(3), B, 4);
        assert_eq!(filler.take(seconds(3)), Some(vec![2, 3]));
        assert_eq!(filler.take(seconds(3)), None);
        filler.hurry();
        assert_eq!(filler.take(seconds(3)), Some(vec![1]));
        assert_eq!(filler.take(seconds(3)), Some(vec![4]));
    }

    #[test]
    fn no_more_batches_are_in_flight_than_allowed() {
        let mut filler = filler(1, 1);
        filler.add(seconds(0), A, 1);
        filler.add(seconds(0), A, 2);
        assert_eq!(filler.take(seconds(0)), Some(vec![1]));
        assert!(!filler.takes_more());
        assert_eq!(filler.due(), None);
        assert_eq!(filler.take(seconds(99)), None);
        filler.landed();
        assert_eq!(filler.take(seconds(0)), Some(vec![2]));
    }

    #[test]
    fn a_new_life_of_the_remote_returns_what_was_taken_in_for_the_one_before() {
        let mut filler = filler(2, 9);
        assert_eq!(filler.begin(3), [0; 0]);
        filler.add(seconds(0), A, 1);
        filler.add(seconds(0), B, 2);
        assert_eq!(filler.begin(3), [0; 0]);
        assert!(!filler.is_over(3) && filler.is_over(2));
        assert_eq!(filler.begin(4), [1, 2]);
        assert_eq!(filler.due(), None);
        assert!(filler.is_over(3));
    }
}
