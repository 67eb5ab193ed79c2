//! Which packet identifier stands for which message: a pure state machine.
//!
//! The client library names a packet's identifier only when it writes the packet, in the order in
//! which the packets were handed to it, so the messages wait for theirs in a queue.

use std::collections::VecDeque;

/// Messages between being handed to the client library and being acknowledged.
#[derive(Debug)]
pub(super) struct Acks<T> {
    /// Handed over, not written yet.
    queued: VecDeque<T>,
    /// Written, in that order; `None` was acknowledged before an older one.
    written: VecDeque<(u16, Option<T>)>,
}

impl<T> Acks<T> {
    pub(super) fn new() -> Self {
        Self { queued: VecDeque::new(), written: VecDeque::new() }
    }

    /// The messages from the oldest that is not acknowledged to the newest. While this is below the
    /// number of packet identifiers in use, none is used twice.
    pub(super) fn span(&self) -> usize {
        self.queued.len() + self.written.len()
    }

    /// A message was handed over.
    pub(super) fn queue(&mut self, message: T) {
        self.queued.push_back(message);
    }

    /// The next packet was written under this identifier. Gives back its message, unless none waited.
    pub(super) fn written(&mut self, pkid: u16) -> Option<&T> {
        let message = self.queued.pop_front()?;
        self.written.push_back((pkid, Some(message)));
        self.written.back().and_then(|(_, message)| message.as_ref())
    }

    /// Messages that are written and not acknowledged.
    pub(super) fn open(&self) -> usize {
        self.written.iter().filter(|(_, open)| open.is_some()).count()
    }

    /// Takes the largest of the messages that are written and not acknowledged.
    pub(super) fn take_largest(&mut self, size: impl Fn(&T) -> usize) -> Option<T> {
        let open = self.written.iter_mut().filter(|(_, open)| open.is_some());
        open.max_by_key(|(_, open)| open.as_ref().map(&size))?.1.take()
    }

    /// The packet with this identifier was acknowledged. `None` when there is none: a broker's slip.
    pub(super) fn acknowledged(&mut self, pkid: u16) -> Option<T> {
        let slot = self.written.iter_mut().find(|(id, open)| *id == pkid && open.is_some())?;
        let message = slot.1.take();
        while self.written.front().is_some_and(|(_, open)| open.is_none()) {
            self.written.pop_front();
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Queue,
        Write,
        Acknowledge(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Queue),
            3 => Just(Step::Write),
            3 => (0..12_u16).prop_map(Step::Acknowledge),
        ]
    }

    /// Writes and acknowledges as a client library with `IDS` identifiers does.
    const IDS: u16 = 8;

    proptest! {
        #[test]
        fn each_acknowledgement_finds_the_message_that_a_map_of_identifiers_finds(
            steps in proptest::collection::vec(step(), 0..300),
        ) {
            let mut acks = Acks::new();
            let mut queue: VecDeque<u32> = VecDeque::new();
            let mut open: HashMap<u16, u32> = HashMap::new();
            let (mut next, mut last) = (0_u32, 0_u16);
            for step in steps {
                match step {
                    Step::Queue if acks.span() < usize::from(IDS) => {
                        acks.queue(next);
                        queue.push_back(next);
                        next += 1;
                    }
                    Step::Queue => {}
                    Step::Write => {
                        let expected = queue.pop_front();
                        if expected.is_some() {
                            last = last % IDS + 1;
                        }
                        prop_assert_eq!(acks.written(last).copied(), expected);
                        if let Some(message) = expected {
                            prop_assert!(open.insert(last, message).is_none(), "used twice");
                        }
                    }
                    Step::Acknowledge(pkid) => {
                        prop_assert_eq!(acks.acknowledged(pkid), open.remove(&pkid));
                    }
                }
                prop_assert!(acks.span() >= queue.len() + open.len());
                prop_assert!(acks.span() <= usize::from(IDS));
            }
        }
    }

    #[test]
    fn the_largest_message_is_one_that_is_written_and_not_acknowledged() {
        let mut acks = Acks::new();
        for (pkid, size) in [(1, 30), (2, 10), (3, 20)] {
            acks.queue(size);
            acks.written(pkid);
        }
        acks.queue(40);
        assert_eq!(acks.acknowledged(1), Some(30));
        assert_eq!(acks.take_largest(|size| *size), Some(20));
        assert_eq!(acks.take_largest(|size| *size), Some(10));
        assert_eq!(acks.take_largest(|size| *size), None);
    }

    #[test]
    fn a_message_acknowledged_early_counts_until_the_older_ones_are_too() {
        let mut acks = Acks::new();
        for (pkid, message) in [(1, 'a'), (2, 'b'), (3, 'c')] {
            acks.queue(message);
            acks.written(pkid);
        }
        assert_eq!(acks.acknowledged(2), Some('b'));
        assert_eq!(acks.acknowledged(2), None);
        assert_eq!(acks.span(), 3);
        assert_eq!(acks.acknowledged(1), Some('a'));
        assert_eq!(acks.span(), 1);
    }
}
