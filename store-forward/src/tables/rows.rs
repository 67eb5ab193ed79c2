//! The rows of the tables, postcard-encoded. `docs/storage-format.md` draws them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::consumer::Message;
use crate::ids::{Epoch, Lsn, NodeId, Sequence};
use crate::record::{ConsumerSpec, InactiveReason, Loss, NewMessage, Timestamp, Topic};

/// The version of the rows and of the journal's records. Another one is refused.
pub(crate) const FORMAT: u16 = 2;

/// Who the store is and how far the tables have come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreMeta {
    /// The version of the rows.
    pub format: u16,
    /// The device.
    pub node: NodeId,
    /// This life of the store.
    pub epoch: Epoch,
    /// The last record that the tables hold.
    pub applied: Lsn,
    /// When that record was written.
    pub last: Timestamp,
    /// The boot that the store is in, counted from 1; zero before the first.
    pub boot: u32,
    /// The kernel's id of that boot.
    pub boot_id: String,
    /// Device time at that boot: elapsed milliseconds since the store was created.
    pub base_ms: u64,
    /// What each state store component keeps.
    pub state: BTreeMap<String, StateCount>,
}

/// What a state store component keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateCount {
    pub(crate) keys: u64,
    /// Bytes of keys and values.
    pub(crate) bytes: u64,
}

impl StoreMeta {
    /// Bytes of all keys and values of state.
    pub(crate) fn state_bytes(&self) -> u64 {
        self.state.values().map(|count| count.bytes).sum()
    }
}

impl Default for StoreMeta {
    fn default() -> Self {
        Self {
            format: FORMAT,
            node: NodeId(String::new()),
            epoch: Epoch(0),
            applied: Lsn(0),
            last: Timestamp::default(),
            boot: 0,
            boot_id: String::new(),
            base_ms: 0,
            state: BTreeMap::new(),
        }
    }
}

/// A state row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StateRow<'a> {
    pub(crate) etag: u64,
    /// Device time; zero never.
    pub(crate) expires_ms: u64,
    #[serde(borrow)]
    pub(crate) value: &'a [u8],
}

impl StateRow<'_> {
    pub(crate) fn is_live(&self, now_ms: u64) -> bool {
        self.expires_ms == 0 || now_ms < self.expires_ms
    }
}

/// A state row as callers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The value.
    pub value: Vec<u8>,
    /// The journal's sequence number of the write.
    pub etag: u64,
    /// Milliseconds from now until it is gone.
    pub expires_in_ms: Option<u64>,
}

/// A message row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MessageRow {
    pub(crate) at: Timestamp,
    /// Device time when it was published.
    pub(crate) born_ms: u64,
    /// Device time; zero never.
    pub(crate) expires_ms: u64,
    pub(crate) body: NewMessage,
}

impl MessageRow {
    pub(crate) fn into_message(self, sequence: Sequence, now_ms: u64) -> Message {
        Message {
            sequence,
            at: self.at,
            expires_in_ms: (self.expires_ms != 0).then(|| self.expires_ms.saturating_sub(now_ms)),
            content_type: self.body.content_type,
            attributes: self.body.attributes,
            key: self.body.key,
            priority: self.body.priority,
            data: self.body.data,
        }
    }
}

/// Messages that left without being acknowledged, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Their time to live was over.
    pub expired: u64,
    /// A limit was reached and the policy took them.
    pub overflowed: u64,
    /// A consumer refused them and no dead letter topic was set.
    pub dropped: u64,
    /// No consumer was registered in time.
    pub unclaimed: u64,
    /// Damage took them.
    pub damaged: u64,
    /// The remote of a consumer can't take messages of their size, and too many were held for it.
    pub too_large: u64,
}

impl Losses {
    pub(crate) fn count(&mut self, loss: Loss) {
        *match loss {
            Loss::Expired => &mut self.expired,
            Loss::Overflow => &mut self.overflowed,
            Loss::Dropped => &mut self.dropped,
            Loss::Unclaimed => &mut self.unclaimed,
            Loss::Damaged => &mut self.damaged,
            Loss::TooLarge => &mut self.too_large,
        } += 1;
    }
}

/// A stream's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamRow {
    pub(crate) topic: Topic,
    /// The next sequence to give out.
    pub(crate) next: Sequence,
    /// No message before this one is kept.
    pub(crate) first: Sequence,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// Messages of each priority.
    pub(crate) by_priority: [u64; 8],
    pub(crate) losses: Losses,
}

impl StreamRow {
    pub(crate) fn new(topic: Topic) -> Self {
        Self {
            topic,
            next: Sequence(1),
            first: Sequence(1),
            messages: 0,
            bytes: 0,
            by_priority: [0; 8],
            losses: Losses::default(),
        }
    }
}

/// A consumer's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConsumerRow {
    pub(crate) spec: ConsumerSpec,
    pub(crate) inactive: Option<Inactive>,
}

impl ConsumerRow {
    /// Whether messages that are published to this topic now are kept for it.
    pub(crate) fn collects(&self, topic: &Topic) -> bool {
        self.inactive.is_none_or(|inactive| inactive.collecting) && self.spec.reads(topic)
    }
}

/// Since when a consumer is inactive, in time during which the store was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inactive {
    pub(crate) reason: InactiveReason,
    /// Whether it still collects what is published.
    pub(crate) collecting: bool,
    /// Milliseconds since it became inactive, or since it stopped collecting.
    pub(crate) ran_ms: u64,
    /// Device time up to which `ran_ms` was counted.
    pub(crate) seen_ms: u64,
}

/// How far a consumer has come in a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// It has every message up to and including this one.
    pub done: Sequence,
    /// What it has beyond: inclusive ranges in order, none touching another.
    pub ranges: Vec<(Sequence, Sequence)>,
    /// Failed deliveries of messages that it has not.
    pub attempts: Vec<(Sequence, u32)>,
}

impl Cursor {
    /// Whether the consumer has this message.
    #[must_use]
    pub fn has(&self, sequence: Sequence) -> bool {
        sequence <= self.done || self.ranges.iter().any(|r| (r.0..=r.1).contains(&sequence))
    }

    /// How many sequences up to and including `last` the consumer has not.
    pub(crate) fn missing(&self, last: Sequence) -> u64 {
        let beyond = self.ranges.iter().filter(|(from, _)| *from <= last);
        let beyond: u64 = beyond.map(|(from, to)| (*to).min(last).0 - from.0 + 1).sum();
        last.0.saturating_sub(self.done.0).saturating_sub(beyond)
    }

    /// Takes note of an inclusive range; says whether anything changed.
    pub(crate) fn acknowledge(&mut self, from: Sequence, to: Sequence) -> bool {
        if to <= self.done || from > to {
            return false;
        }
        let (mut from, mut to) = (from.max(self.done.next()), to);
        self.ranges.retain(|&(low, high)| {
            let apart = high.next() < from || to.next() < low;
            if !apart {
                from = from.min(low);
                to = to.max(high);
            }
            apart
        });
        let place = self.ranges.partition_point(|&(low, _)| low < from);
        self.ranges.insert(place, (from, to));
        if self.ranges[0].0 <= self.done.next() {
            self.done = self.ranges.remove(0).1;
        }
        let Self { done, ranges, attempts } = self;
        attempts.retain(|&(s, _)| s > *done && !ranges.iter().any(|r| (r.0..=r.1).contains(&s)));
        true
    }

    /// How often delivery of this message failed.
    #[must_use]
    pub fn failures(&self, sequence: Sequence) -> u32 {
        self.attempts.iter().find(|(s, _)| *s == sequence).map_or(0, |(_, n)| *n)
    }

    pub(crate) fn count_failure(&mut self, sequence: Sequence) {
        if self.has(sequence) {
            return;
        }
        match self.attempts.iter_mut().find(|(s, _)| *s == sequence) {
            Some((_, n)) => *n = n.saturating_add(1),
            None => self.attempts.push((sequence, 1)),
        }
    }
}

#[cfg(test)]
mod tests;
