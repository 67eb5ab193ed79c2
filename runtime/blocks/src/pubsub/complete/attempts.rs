//! Failed attempts, counted for components that don't. No clock, no input.

use std::collections::HashMap;
use std::time::Duration;

use components::port::pubsub::{Delivery, Sequence, StreamId};

/// Messages whose failures are counted at once: some 40 kB.
const MAX_COUNTED: usize = 1000;

/// A count that didn't change for so long is given up when the place is needed: the message may have
/// gone to another device, and never come back.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// A message of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct MessageId {
    stream: StreamId,
    sequence: Sequence,
}

impl MessageId {
    pub(super) fn of(delivery: &Delivery) -> Self {
        Self { stream: delivery.stream, sequence: delivery.message.sequence }
    }
}

/// Counts the failed attempts of a subscription's messages.
///
/// A message that finds the table full isn't counted, and is tried more often than was asked for. The
/// others reach their bound meanwhile and leave; replacing their counts instead could keep each of
/// many poisoned messages from its bound for ever.
#[derive(Debug, Default)]
pub(super) struct Attempts(HashMap<MessageId, Failures>);

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Duration,
}

impl Attempts {
    /// Returns the number of the next attempt, from 1.
    pub(super) fn next(&self, message: MessageId) -> u32 {
        self.0.get(&message).map_or(0, |failures| failures.count).saturating_add(1)
    }

    /// Counts a failed attempt. `now` is a steady clock's.
    pub(super) fn failed(&mut self, now: Duration, message: MessageId) {
        if self.0.len() >= MAX_COUNTED && !self.0.contains_key(&message) {
            self.0.retain(|_, failures| now.saturating_sub(failures.last) < FORGOTTEN_AFTER);
            if self.0.len() >= MAX_COUNTED {
                return;
            }
        }
        let failures = self.0.entry(message).or_insert(Failures { count: 0, last: now });
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }

    /// Forgets a message that doesn't come again.
    pub(super) fn forget(&mut self, message: MessageId) {
        self.0.remove(&message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(5);

    fn message(sequence: u64) -> MessageId {
        MessageId { stream: StreamId(1), sequence: Sequence(sequence) }
    }

    #[test]
    fn attempts_are_numbered_from_one_and_anew_once_a_message_is_forgotten() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.next(message(1)), 1);
        attempts.failed(NOW, message(1));
        attempts.failed(NOW, message(1));
        assert_eq!(attempts.next(message(1)), 3);
        assert_eq!(attempts.next(message(2)), 1);
        attempts.forget(message(1));
        assert_eq!(attempts.next(message(1)), 1);
    }

    #[test]
    fn a_full_table_keeps_its_counts_until_they_are_old() {
        let mut attempts = Attempts::default();
        let counted = u64::try_from(MAX_COUNTED).expect("it is small");
        for sequence in 0..=counted {
            attempts.failed(NOW, message(sequence));
        }
        assert_eq!(attempts.next(message(0)), 2);
        assert_eq!(attempts.next(message(counted)), 1, "there was no place for it");
        attempts.failed(NOW + FORGOTTEN_AFTER, message(counted));
        assert_eq!(attempts.next(message(counted)), 2);
        assert_eq!(attempts.0.len(), 1);
    }
}
