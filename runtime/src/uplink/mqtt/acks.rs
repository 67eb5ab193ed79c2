//! Matches packet identifiers with messages: a pure state machine.
//!
//! The client library reports a packet's identifier only when it writes the packet. It writes packets
//! in the order in which they were handed over, so messages wait for their identifiers in a queue.

use std::collections::VecDeque;

/// Messages that were handed to the client library and are not acknowledged.
#[derive(Debug)]
pub(super) struct Acks<T> {
    /// Not written yet.
    queued: VecDeque<T>,
    /// In the order of writing.
    written: VecDeque<WrittenPacket<T>>,
}

#[derive(Debug)]
struct WrittenPacket<T> {
    pkid: u16,
    /// `None` once it is acknowledged, while an older one is not.
    message: Option<T>,
}

impl<T> Acks<T> {
    pub(super) fn new() -> Self {
        Self { queued: VecDeque::new(), written: VecDeque::new() }
    }

    /// Counts the messages from the oldest that is not acknowledged to the newest. While this is below
    /// the number of packet identifiers that the client library cycles through, none is used twice.
    pub(super) fn span(&self) -> usize {
        self.queued.len() + self.written.len()
    }

    /// Takes a message that was handed over.
    pub(super) fn queue(&mut self, message: T) {
        self.queued.push_back(message);
    }

    /// Gives the next message this identifier, and returns the message. `None` if no message waits.
    pub(super) fn written(&mut self, pkid: u16) -> Option<&T> {
        let message = Some(self.queued.pop_front()?);
        self.written.push_back(WrittenPacket { pkid, message });
        self.written.back().and_then(|packet| packet.message.as_ref())
    }

    /// Counts the messages that are written and not acknowledged.
    pub(super) fn open(&self) -> usize {
        self.written.iter().filter(|packet| packet.message.is_some()).count()
    }

    /// Takes the largest of the messages that are written and not acknowledged.
    pub(super) fn take_largest(&mut self, size: impl Fn(&T) -> usize) -> Option<T> {
        let packets = self.written.iter_mut().filter(|packet| packet.message.is_some());
        packets.max_by_key(|packet| packet.message.as_ref().map(&size))?.message.take()
    }

    /// Takes the message that was acknowledged. `None` if the broker named an unknown identifier.
    pub(super) fn acknowledged(&mut self, pkid: u16) -> Option<T> {
        let is_acknowledged =
            |packet: &&mut WrittenPacket<T>| packet.pkid == pkid && packet.message.is_some();
        let message = self.written.iter_mut().find(is_acknowledged)?.message.take();
        while self.written.front().is_some_and(|packet| packet.message.is_none()) {
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

    /// Packet identifiers of the modelled client library.
    const IDS: u16 = 8;

    proptest! {
        #[test]
        fn each_acknowledgement_finds_the_message_that_a_map_of_identifiers_finds(
            steps in proptest::collection::vec(step(), 0..300),
        ) {
            let mut acks = Acks::new();
            let mut queue: VecDeque<u32> = VecDeque::new();
            let mut open: HashMap<u16, u32> = HashMap::new();
            let mut next = 0_u32;
            let mut last = 0_u16;
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
