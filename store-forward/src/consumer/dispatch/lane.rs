//! One stream of a consumer: the order of its messages.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::{Policy, Want};
use crate::consumer::read_ahead::ReadAheadShare;
use crate::consumer::{MESSAGE_OVERHEAD, Message};
use crate::ids::{Sequence, StreamId};
use crate::tables::Cursor;

/// Messages of one stream that are known and not sent.
const READ_AHEAD: usize = 256;
/// Bytes read at once.
const READ_BYTES: usize = 256 << 10;

/// The state of a consumer's deliveries of one stream.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) cursor: Cursor,
    /// The last message read from the store.
    read: Sequence,
    /// The stream may have more messages behind `read`.
    more: bool,
    /// Messages that are to be sent, none of which was refused since it was last handed over.
    queue: BTreeMap<Sequence, Unsent>,
    /// Since when the next batch waits for more messages.
    waits_since: Option<Duration>,
    flying: BTreeMap<Sequence, Sent>,
    batches: usize,
    refused: BTreeMap<Sequence, Refused>,
    /// Passed by the others until the remote's limits grow.
    pub(super) held: BTreeMap<Sequence, Sent>,
    /// When messages that were read expire.
    expiries: BTreeMap<Sequence, Duration>,
    /// With `by_key`: nothing in the queue can be sent until something else happens.
    blocked: bool,
    /// Payloads may be in memory.
    loaded: bool,
}

/// A message that is to be sent.
#[derive(Debug)]
enum Unsent {
    Read(Box<Payload>),
    /// To be read, perhaps anew. The key is kept if order is kept by key.
    Unread(Option<Box<str>>),
}

/// A message in memory.
#[derive(Debug)]
struct Payload {
    message: Message,
    _share: ReadAheadShare,
}

/// A message that was handed over.
#[derive(Debug)]
pub(super) struct Sent {
    /// Its key, if order is kept by key.
    key: Option<Box<str>>,
    /// The boot and the time since it when it was published.
    pub(super) at: (u32, u64),
}

/// A message that was refused, and is due again at a time.
#[derive(Debug)]
struct Refused {
    due: Duration,
    unsent: Unsent,
}

/// The next step of one lane.
pub(super) enum LaneStep {
    Read(Want),
    Send(Vec<Message>),
}

impl Unsent {
    fn key(&self) -> Option<&str> {
        match self {
            Self::Read(payload) => payload.message.key.as_deref(),
            Self::Unread(key) => key.as_deref(),
        }
    }

    fn is_read(&self) -> bool {
        matches!(self, Self::Read(_))
    }

    fn give_back(&mut self, by_key: bool) {
        if self.is_read() {
            *self = Self::Unread(self.key().filter(|_| by_key).map(Into::into));
        }
    }
}

impl Lane {
    pub(super) fn new(now: Duration, cursor: Cursor) -> Self {
        Self {
            read: cursor.done,
            cursor,
            more: true,
            queue: BTreeMap::new(),
            waits_since: Some(now),
            flying: BTreeMap::new(),
            batches: 0,
            refused: BTreeMap::new(),
            held: BTreeMap::new(),
            expiries: BTreeMap::new(),
            blocked: false,
            loaded: false,
        }
    }

    pub(super) fn skip(&mut self, cursor: &Cursor) {
        let Self { cursor: has, queue, refused, held, expiries, .. } = self;
        has.acknowledge(Sequence(1), cursor.done);
        queue.retain(|sequence, _| !has.has(*sequence));
        refused.retain(|sequence, _| !has.has(*sequence));
        held.retain(|sequence, _| !has.has(*sequence));
        expiries.retain(|sequence, _| !has.has(*sequence));
        self.read = self.read.max(cursor.done);
        self.waits_since = self.waits_since.filter(|_| !self.queue.is_empty());
        self.blocked = false;
        self.more = true;
    }

    pub(super) fn grown(&mut self, now: Duration) {
        self.waits_since.get_or_insert(now);
        self.more = true;
    }

    /// Reads what the next batch needs, or takes it.
    pub(super) fn step(
        &mut self,
        stream: StreamId,
        policy: &Policy,
        now: Duration,
        room: usize,
    ) -> Option<LaneStep> {
        if self.batches >= policy.per_stream {
            return None;
        }
        self.expire(now);
        if let Some(sequence) = self.due(policy, now) {
            return Some(match self.refused.get(&sequence).is_some_and(|it| it.unsent.is_read()) {
                true => LaneStep::Send(self.send_refused(policy, now, sequence)),
                false => LaneStep::Read(Want::new(stream, sequence.previous(), 1, 1, policy)),
            });
        }
        if self.blocked && !self.wants_more(policy) {
            return None;
        }
        let most = policy.batch.min(room);
        let next = if policy.by_key { self.free(most) } else { self.fresh(policy, now, most) };
        if self.wants_more(policy) && (!policy.by_key || next.len() < most) {
            if policy.by_key {
                // Many may have to be looked at to find a key that is free.
                self.trim(policy);
            }
            let known = if policy.by_key { next.len() } else { self.queue.len() };
            let least = policy.batch.saturating_sub(known).max(1);
            let ahead = READ_AHEAD.max(policy.batch);
            let most = ahead - self.queue.len().min(ahead - 1);
            return Some(LaneStep::Read(Want::new(stream, self.read, least, most, policy)));
        }
        if next.is_empty() {
            self.blocked = policy.by_key;
            if policy.by_key {
                self.trim(policy);
            } else {
                // A batch that waits for more, or messages behind one that was refused.
                self.give_back(false);
            }
            return None;
        }
        match next.iter().position(|sequence| !self.queue[sequence].is_read()) {
            Some(unread) => Some(LaneStep::Read(self.anew(stream, policy, &next[unread..]))),
            None => Some(LaneStep::Send(self.send(policy, now, &next))),
        }
    }

    /// When the lane has something to send, if nothing else happens until then; zero is at once.
    pub(super) fn wake_at(&self, policy: &Policy) -> Option<Duration> {
        if self.batches >= policy.per_stream {
            return None;
        }
        let is_free = policy.by_key && !self.blocked && !self.queue.is_empty();
        if is_free || self.wants_more(policy) {
            return Some(Duration::ZERO);
        }
        match self.refused.first_key_value() {
            Some((sequence, _)) if !policy.by_key && self.waits_before(*sequence) => {
                Some(Duration::ZERO)
            }
            Some((sequence, Refused { due, .. })) => {
                let until = self.expiries.get(sequence).map_or(*due, |over| (*due).min(*over));
                (policy.by_key || self.flying.is_empty()).then_some(until)
            }
            None if policy.by_key || self.queue.is_empty() => None,
            None if self.queue.len() >= policy.batch => Some(Duration::ZERO),
            None => Some(self.waits_since.map_or(Duration::ZERO, |it| it + policy.batch_wait)),
        }
    }

    /// Takes in what was read.
    pub(super) fn take_in(
        &mut self,
        now: Duration,
        want: Want,
        messages: Vec<Message>,
        more: bool,
    ) {
        let Want { after, mut share, .. } = want;
        let known = self.read;
        self.loaded |= !messages.is_empty();
        let last = messages.last().map_or(after, |message| message.sequence);
        for message in messages {
            let sequence = message.sequence;
            if sequence > self.read {
                self.read = sequence;
                if self.cursor.has(sequence) {
                    continue;
                }
                self.queue.insert(sequence, Unsent::Unread(None));
                self.waits_since.get_or_insert(now);
                self.blocked = false;
            }
            let refused = self.refused.get_mut(&sequence).map(|refused| &mut refused.unsent);
            let Some(unsent) = self.queue.get_mut(&sequence).or(refused) else { continue };
            if let Some(left) = message.expires_in_ms {
                self.expiries.insert(sequence, now + Duration::from_millis(left));
            }
            let share = share.split(message.memory_bytes());
            *unsent = Unsent::Read(Box::new(Payload { message, _share: share }));
        }
        if !more {
            self.more = false;
        } else if last > known {
            self.more = true;
        }
        self.finish_gone(after, if more { last } else { known });
        if self.queue.is_empty() && !self.more {
            self.waits_since = None;
        }
    }

    /// Returns the payloads in memory; they are read anew when they are sent.
    pub(super) fn give_back(&mut self, by_key: bool) {
        if !std::mem::take(&mut self.loaded) {
            return;
        }
        let refused = self.refused.values_mut().map(|refused| &mut refused.unsent);
        self.queue.values_mut().chain(refused).for_each(|unsent| unsent.give_back(by_key));
    }

    /// Returns payloads while the bound on them is exceeded, those first that are sent last.
    fn trim(&mut self, policy: &Policy) {
        for unsent in self.queue.values_mut().rev() {
            if !policy.read_ahead.is_exceeded() {
                return;
            }
            unsent.give_back(policy.by_key);
        }
    }

    /// Takes note that a batch has its outcomes.
    pub(super) fn landed(&mut self) {
        self.batches = self.batches.saturating_sub(1);
        self.blocked = false;
    }

    /// Takes a message that was in flight.
    pub(super) fn land(&mut self, sequence: Sequence) -> Option<Sent> {
        self.flying.remove(&sequence)
    }

    /// Queues a message anew, at its place in the order of the stream.
    pub(super) fn put_back(&mut self, sequence: Sequence, sent: Sent) {
        self.queue.insert(sequence, Unsent::Unread(sent.key));
    }

    /// Takes note that a message is due again at a time.
    pub(super) fn refuse(
        &mut self,
        policy: &Policy,
        sequence: Sequence,
        sent: Sent,
        due: Duration,
    ) {
        self.cursor.count_failure(sequence);
        self.refused.insert(sequence, Refused { due, unsent: Unsent::Unread(sent.key) });
        if !policy.by_key {
            // A refused message holds up all behind it.
            self.give_back(false);
        }
    }

    pub(super) fn retry_held(&mut self) {
        for (sequence, sent) in std::mem::take(&mut self.held) {
            self.put_back(sequence, sent);
        }
        self.blocked = false;
    }

    pub(super) fn hurry(&mut self, now: Duration) {
        self.refused.values_mut().for_each(|refused| refused.due = refused.due.min(now));
    }

    pub(super) fn finish(&mut self, sequence: Sequence) {
        self.expiries.remove(&sequence);
        self.cursor.acknowledge(sequence, sequence);
    }

    /// Returns whether the next batch depends on messages that were not read yet. With `by_key` a refused
    /// message holds up those of its key alone, else all behind it.
    fn wants_more(&self, policy: &Policy) -> bool {
        let enough = if policy.by_key { policy.batch.max(READ_AHEAD / 4) } else { policy.batch };
        self.more && self.queue.len() < enough && (policy.by_key || self.refused.is_empty())
    }

    /// The read that brings the first of these messages, and those behind it that are unread too.
    fn anew(&self, stream: StreamId, policy: &Policy, next: &[Sequence]) -> Want {
        let first = next[0];
        let unread = |sequence: &Sequence| self.queue.get(sequence).is_some_and(|it| !it.is_read());
        let mut run = std::iter::successors(Some(first), |sequence| Some(sequence.next()));
        let least = next.iter().zip(run.clone()).take_while(|(it, at)| *it == at && unread(it));
        let least = least.count();
        let most = run.by_ref().take_while(unread).take(READ_AHEAD).count();
        Want::new(stream, first.previous(), least, most.max(least), policy)
    }

    /// Removes messages up to `last` that the store has lost since they became known.
    fn finish_gone(&mut self, after: Sequence, last: Sequence) {
        if last <= after {
            return;
        }
        let range = after.next()..=last;
        let queue = self.queue.range(range.clone());
        let refused = self.refused.range(range).map(|(sequence, it)| (sequence, &it.unsent));
        let unread = queue.chain(refused).filter(|(_, unsent)| !unsent.is_read());
        let gone: Vec<Sequence> = unread.map(|(sequence, _)| *sequence).collect();
        for sequence in gone {
            self.queue.remove(&sequence);
            self.refused.remove(&sequence);
            self.finish(sequence);
            self.blocked = false;
        }
    }

    /// Forgets messages that expired since they were read: the store removes and counts them.
    fn expire(&mut self, now: Duration) {
        let over = |(sequence, at): (&Sequence, &Duration)| {
            (*at <= now && !self.flying.contains_key(sequence)).then_some(*sequence)
        };
        let over: Vec<Sequence> = self.expiries.iter().filter_map(over).collect();
        for sequence in over {
            self.queue.remove(&sequence);
            self.refused.remove(&sequence);
            self.held.remove(&sequence);
            self.finish(sequence);
            self.blocked = false;
        }
    }

    fn waits_before(&self, sequence: Sequence) -> bool {
        self.queue.first_key_value().is_some_and(|(first, _)| *first < sequence)
    }

    /// A refused message whose time has come. None is while one before it waits to be sent anew, as
    /// after a broken link. In a pipelined stream it waits until what was sent behind it has landed,
    /// so that it is not overtaken a second time.
    fn due(&self, policy: &Policy, now: Duration) -> Option<Sequence> {
        let (sequence, Refused { due, .. }) = self.refused.first_key_value()?;
        let is_next = policy.by_key || (self.flying.is_empty() && !self.waits_before(*sequence));
        (is_next && *due <= now).then_some(*sequence)
    }

    /// Messages from the head of the queue, none past the first that was refused.
    fn fresh(&self, policy: &Policy, now: Duration, most: usize) -> Vec<Sequence> {
        let waited = self.waits_since.is_none_or(|since| now >= since + policy.batch_wait);
        match self.refused.first_key_value() {
            Some((refused, _)) => {
                self.queue.range(..refused).map(|(sequence, _)| *sequence).take(most).collect()
            }
            None if self.queue.len() < policy.batch && !waited => Vec::new(),
            None => self.queue.keys().copied().take(most).collect(),
        }
    }

    /// Messages none of whose key is in flight, refused, or before them in the queue.
    fn free(&self, most: usize) -> Vec<Sequence> {
        let flying = self.flying.values().filter_map(|sent| sent.key.as_deref());
        let refused = self.refused.values().filter_map(|refused| refused.unsent.key());
        let mut taken: HashSet<&str> = flying.chain(refused).collect();
        let free = self
            .queue
            .iter()
            .filter(|(_, unsent)| unsent.key().is_none_or(|key| taken.insert(key)));
        free.map(|(sequence, _)| *sequence).take(most).collect()
    }

    fn send(&mut self, policy: &Policy, now: Duration, next: &[Sequence]) -> Vec<Message> {
        let unsent: Vec<Unsent> = next.iter().filter_map(|it| self.queue.remove(it)).collect();
        self.waits_since = (self.more || !self.queue.is_empty()).then_some(now);
        let messages = self.hand_over(policy, now, unsent);
        // Messages that were read for this batch may not have gone with it.
        self.trim(policy);
        messages
    }

    fn send_refused(&mut self, policy: &Policy, now: Duration, sequence: Sequence) -> Vec<Message> {
        let refused = self.refused.remove(&sequence).map(|refused| refused.unsent);
        self.hand_over(policy, now, refused)
    }

    fn hand_over(
        &mut self,
        policy: &Policy,
        now: Duration,
        unsent: impl IntoIterator<Item = Unsent>,
    ) -> Vec<Message> {
        let read = unsent.into_iter().filter_map(|unsent| match unsent {
            Unsent::Read(payload) => Some(payload.message),
            Unsent::Unread(_) => None,
        });
        let mut messages: Vec<Message> = read.collect();
        for message in &mut messages {
            let expiry = self.expiries.get(&message.sequence);
            message.expires_in_ms = expiry.map(|at| millis(at.saturating_sub(now)));
            let key = message.key.as_deref().filter(|_| policy.by_key).map(Into::into);
            let sent = Sent { key, at: (message.at.boot, message.at.up_ms) };
            self.flying.insert(message.sequence, sent);
        }
        self.batches += 1;
        messages
    }
}

impl Want {
    /// A read of at least `least` messages, whatever their size, and up to `most` as far as the
    /// budget reaches.
    fn new(stream: StreamId, after: Sequence, least: usize, most: usize, policy: &Policy) -> Self {
        let share = policy.read_ahead.reserve(READ_BYTES);
        let count = most.min(share.bytes() / (2 * MESSAGE_OVERHEAD));
        if count > least {
            let bytes = share.bytes() - count * MESSAGE_OVERHEAD;
            return Self { stream, after, count, bytes, share };
        }
        Self { stream, after, count: least, bytes: READ_BYTES, share }
    }
}

/// Bytes of memory that a message takes.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
