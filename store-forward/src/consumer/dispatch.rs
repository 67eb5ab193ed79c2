//! What is sent when: order, windows, retries, and what a broken link means. No clock, no input.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use super::{Message, Outcome};
use crate::backoff::Backoff;
use crate::ids::{ConsumerId, Sequence, StreamId};
use crate::record::{Loss, Op};
use crate::tables::Cursor;

#[cfg(test)]
mod tests;

/// Messages of one stream that are read ahead of being sent.
const READ_AHEAD: usize = 256;

/// Messages of one consumer that are held at most; then the oldest is lost.
pub const MAX_HELD: usize = 1000;

/// How a consumer delivers.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Messages in flight over all streams; at least 1.
    pub window: usize,
    /// Batches of one stream in flight: 1 is strictly one after the other, more is pipelined in order.
    pub per_stream: usize,
    /// Messages in one batch.
    pub batch: usize,
    /// How long a batch that isn't full waits for more.
    pub batch_wait: Duration,
    /// With several batches of a stream in flight: keep the order of each message key only.
    pub by_key: bool,
    /// Between attempts.
    pub backoff: Backoff,
    /// Attempts before a message is rejected; `None` tries for ever.
    pub max_attempts: Option<u32>,
}

/// A batch to hand over.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The stream.
    pub stream: StreamId,
    /// Its messages, each with the number of its attempt.
    pub messages: Vec<(u32, Message)>,
}

/// What the outcomes of a batch came to.
#[derive(Debug, Default)]
pub struct Settled {
    /// What is to be written down.
    pub ops: Vec<Op>,
    /// How many messages were acknowledged.
    pub acknowledged: u64,
    /// The others.
    pub refusals: Vec<Refusal>,
}

/// A delivery that was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stream.
    pub stream: StreamId,
    /// Which message.
    pub sequence: Sequence,
    /// How often it was tried, this time included.
    pub attempt: u32,
    /// What becomes of the message.
    pub fate: Fate,
    /// Why.
    pub reason: Box<str>,
}

/// What becomes of a message that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is tried again.
    Retried,
    /// It goes to the dead letter topic, or is dropped.
    Rejected,
    /// It is held until the far side's limits grow.
    Held,
    /// It is lost: more than [`MAX_HELD`] were held.
    Lost,
    /// The link failed: it is sent again.
    Unreachable,
}

/// The state of one consumer's deliveries.
#[derive(Debug)]
pub struct Dispatcher {
    consumer: ConsumerId,
    policy: Policy,
    /// Kept when empty: what it acknowledged may not be in the store yet.
    lanes: BTreeMap<StreamId, Lane>,
    in_flight: usize,
    /// The stream served last: the next in turn comes first, so that none starves.
    last: StreamId,
    broken: bool,
}

#[derive(Debug)]
struct Lane {
    cursor: Cursor,
    /// The last message read from the store.
    read: Sequence,
    more: bool,
    queue: VecDeque<Message>,
    waits_since: Option<Duration>,
    flying: BTreeMap<Sequence, Message>,
    batches: usize,
    /// Refused for now, and due again at that time.
    refused: BTreeMap<Sequence, (Duration, Message)>,
    /// Passed by the others until the far side's limits grow, with the boot and the time since it
    /// that each was published at. Their payloads are in the store.
    held: BTreeMap<Sequence, (u32, u64)>,
    /// No longer held, and to be read anew.
    again: BTreeSet<Sequence>,
    /// When what was read is over its time.
    expiries: BTreeMap<Sequence, Duration>,
}

impl Lane {
    fn new(cursor: Cursor) -> Self {
        Self {
            read: cursor.done,
            cursor,
            more: true,
            queue: VecDeque::new(),
            waits_since: None,
            flying: BTreeMap::new(),
            batches: 0,
            refused: BTreeMap::new(),
            held: BTreeMap::new(),
            again: BTreeSet::new(),
            expiries: BTreeMap::new(),
        }
    }
}

impl Dispatcher {
    /// A dispatcher with nothing to do.
    #[must_use]
    pub fn new(consumer: ConsumerId, policy: Policy) -> Self {
        let (lanes, last) = (BTreeMap::new(), StreamId(0));
        Self { consumer, policy, lanes, in_flight: 0, last, broken: false }
    }

    /// Whether it follows this stream; one it doesn't needs [`Dispatcher::follow`] first.
    #[must_use]
    pub fn follows(&self, stream: StreamId) -> bool {
        self.lanes.contains_key(&stream)
    }

    /// Follows a stream from a cursor on.
    pub fn follow(&mut self, stream: StreamId, cursor: Cursor) {
        self.lanes.insert(stream, Lane::new(cursor));
    }

    /// The streams that it follows.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamId> {
        self.lanes.keys().copied().collect()
    }

    /// The consumer gave up its backlog of a stream, and `cursor` is where it stood then or later. What
    /// is in flight lands, and is not sent again. What came after the backlog may have been read.
    pub fn skip(&mut self, stream: StreamId, cursor: &Cursor) {
        let Some(lane) = self.lanes.get_mut(&stream) else { return };
        let Lane { cursor: has, queue, refused, held, again, expiries, .. } = lane;
        has.acknowledge(Sequence(1), cursor.done);
        queue.retain(|message| !has.has(message.sequence));
        refused.retain(|sequence, _| !has.has(*sequence));
        held.retain(|sequence, _| !has.has(*sequence));
        again.retain(|sequence| !has.has(*sequence));
        expiries.retain(|sequence, _| !has.has(*sequence));
        lane.read = lane.read.max(cursor.done);
        lane.waits_since = lane.waits_since.filter(|_| !lane.queue.is_empty());
        lane.more = true;
    }

    /// The stream has grown.
    pub fn grown(&mut self, stream: StreamId) {
        if let Some(lane) = self.lanes.get_mut(&stream) {
            lane.more = true;
        }
    }

    /// What to read from the store next: the stream, behind which message, and how many.
    #[must_use]
    pub fn wants(&self) -> Option<(StreamId, Sequence, usize)> {
        let ahead = READ_AHEAD.max(self.policy.batch);
        let hungry = |lane: &Lane| {
            (lane.more || !lane.again.is_empty())
                && lane.queue.len() < self.policy.batch.max(ahead / 4)
        };
        let (stream, lane) = self.lanes.iter().find(|(_, lane)| hungry(lane))?;
        match lane.again.first() {
            Some(held) => Some((*stream, held.previous(), 1)),
            None => Some((*stream, lane.read, ahead - lane.queue.len().min(ahead - 1))),
        }
    }

    /// What was read, as [`Dispatcher::wants`] asked for it.
    pub fn read(&mut self, now: Duration, stream: StreamId, messages: Vec<Message>, more: bool) {
        let Some(lane) = self.lanes.get_mut(&stream) else { return };
        if let Some(held) = lane.again.pop_first() {
            return lane.read_again(now, held, messages);
        }
        lane.more = more;
        for message in messages {
            lane.read = message.sequence;
            if lane.cursor.has(message.sequence) {
                continue;
            }
            lane.note_expiry(now, &message);
            lane.queue.push_back(message);
        }
        if !lane.queue.is_empty() {
            lane.waits_since.get_or_insert(now);
        }
    }

    /// The next batch to hand over, while fewer than `window` messages are in flight.
    pub fn next(&mut self, now: Duration, window: usize) -> Option<Batch> {
        let room = self.policy.window.min(window).max(1).saturating_sub(self.in_flight);
        if room == 0 || self.broken {
            return None;
        }
        let turn = self.last;
        let after = self.lanes.range(StreamId(turn.0.saturating_add(1))..).map(|(id, _)| *id);
        let order: Vec<StreamId> =
            after.chain(self.lanes.range(..=turn).map(|(id, _)| *id)).collect();
        let policy = &self.policy;
        let (stream, messages) = order.into_iter().find_map(|stream| {
            let lane = self.lanes.get_mut(&stream)?;
            let messages = lane.next(policy, now, room)?;
            Some((stream, messages))
        })?;
        self.last = stream;
        self.in_flight += messages.len();
        let lane = &self.lanes[&stream];
        let attempt = |m: Message| (lane.cursor.failures(m.sequence) + 1, m);
        Some(Batch { stream, messages: messages.into_iter().map(attempt).collect() })
    }

    /// What became of a batch: one outcome for each message. Says what to write down.
    pub fn settle(
        &mut self,
        now: Duration,
        stream: StreamId,
        outcomes: Vec<(Sequence, Outcome)>,
        chance: f64,
    ) -> Settled {
        self.in_flight = self.in_flight.saturating_sub(outcomes.len());
        let mut settled = Settled::default();
        let Some(lane) = self.lanes.get_mut(&stream) else { return settled };
        lane.batches = lane.batches.saturating_sub(1);
        for (sequence, outcome) in outcomes {
            let Some(message) = lane.flying.remove(&sequence) else { continue };
            if lane.cursor.has(sequence) {
                // Its backlog was given up meanwhile.
                continue;
            }
            let attempt = lane.cursor.failures(sequence) + 1;
            let last = self.policy.max_attempts.is_some_and(|max| attempt >= max);
            let (consumer, ops) = (self.consumer, &mut settled.ops);
            let (fate, reason) = match outcome {
                Outcome::Ack => {
                    acknowledge(ops, consumer, stream, sequence);
                    lane.finish(sequence);
                    settled.acknowledged += 1;
                    continue;
                }
                Outcome::Unreachable(reason) => {
                    self.broken = true;
                    lane.put_back(message);
                    (Fate::Unreachable, reason)
                }
                Outcome::Retry(reason) if !last => {
                    lane.cursor.count_failure(sequence);
                    let due = now + self.policy.backoff.delay(attempt, chance);
                    lane.refused.insert(sequence, (due, message));
                    ops.push(Op::Nack { consumer, stream, sequence });
                    (Fate::Retried, reason)
                }
                Outcome::Retry(reason) | Outcome::Reject(reason) => {
                    let why = reason.to_string();
                    ops.push(Op::Reject { consumer, stream, sequence, reason: why });
                    lane.finish(sequence);
                    (Fate::Rejected, reason)
                }
                Outcome::Hold(reason) => {
                    lane.held.insert(sequence, (message.at.boot, message.at.up_ms));
                    (Fate::Held, reason)
                }
            };
            settled.refusals.push(Refusal { stream, sequence, attempt, fate, reason });
        }
        self.give_up_oldest(&mut settled);
        settled
    }

    /// Gives up the messages that were published first while too many are held.
    fn give_up_oldest(&mut self, settled: &mut Settled) {
        for _ in MAX_HELD..self.held() {
            let held = self.lanes.iter().flat_map(|(stream, lane)| {
                lane.held.iter().map(|(sequence, at)| (*at, *stream, *sequence))
            });
            let Some((_, stream, sequence)) = held.min() else { return };
            let Some(lane) = self.lanes.get_mut(&stream) else { return };
            lane.held.remove(&sequence);
            let attempt = lane.cursor.failures(sequence) + 1;
            lane.finish(sequence);
            let (consumer, loss) = (self.consumer, Loss::TooLarge);
            settled.ops.push(Op::GiveUp { consumer, stream, sequence, loss });
            let reason = format!("more than {MAX_HELD} messages were held").into();
            let fate = Fate::Lost;
            settled.refusals.push(Refusal { stream, sequence, attempt, fate, reason });
        }
    }

    /// Messages that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lanes.values().map(|lane| lane.held.len()).sum()
    }

    /// The messages that are held, by stream and sequence.
    #[must_use]
    pub fn held_places(&self) -> Vec<(StreamId, Sequence)> {
        let places = |(stream, lane): (&StreamId, &Lane)| {
            lane.held.keys().map(|sequence| (*stream, *sequence)).collect::<Vec<_>>()
        };
        self.lanes.iter().flat_map(places).collect()
    }

    /// Tries what is held again.
    pub fn retry_held(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.again.extend(std::mem::take(&mut lane.held).into_keys());
        }
    }

    /// Tries what was refused again without waiting for its time.
    pub fn hurry(&mut self, now: Duration) {
        for lane in self.lanes.values_mut() {
            lane.refused.values_mut().for_each(|(due, _)| *due = (*due).min(now));
        }
    }

    /// Whether the far side is gone: nothing is handed over until [`Dispatcher::mended`].
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The far side is back. Only once nothing is in flight: what comes later is sent first otherwise.
    pub fn mended(&mut self) {
        self.broken &= self.in_flight > 0;
    }

    /// Messages handed over whose outcome is not known.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// When [`Dispatcher::next`] has something, if nothing else happens until then.
    #[must_use]
    pub fn wake_at(&self, window: usize) -> Option<Duration> {
        if self.broken || self.in_flight >= self.policy.window.min(window).max(1) {
            return None;
        }
        self.lanes.values().filter_map(|lane| lane.wake_at(&self.policy)).min()
    }
}

impl Lane {
    fn next(&mut self, policy: &Policy, now: Duration, room: usize) -> Option<Vec<Message>> {
        if self.batches >= policy.per_stream {
            return None;
        }
        self.expire(now);
        let again = self.due(policy, now);
        let mut messages = if again.is_some() {
            again.into_iter().collect()
        } else if policy.by_key {
            self.free_by_key(policy.batch.min(room))
        } else {
            self.fresh(policy, now, policy.batch.min(room))
        };
        if messages.is_empty() {
            return None;
        }
        for message in &mut messages {
            let expiry = self.expiries.get(&message.sequence);
            message.expires_in_ms = expiry.map(|at| millis(at.saturating_sub(now)));
        }
        self.batches += 1;
        self.flying.extend(messages.iter().map(|m| (m.sequence, m.clone())));
        Some(messages)
    }

    fn wake_at(&self, policy: &Policy) -> Option<Duration> {
        if self.batches >= policy.per_stream {
            return None;
        }
        match self.refused_next(policy) {
            Some((sequence, due)) => {
                let until = self.expiries.get(&sequence).map_or(due, |over| due.min(*over));
                (policy.by_key || self.flying.is_empty()).then_some(until)
            }
            None => Some(self.waits_since? + policy.batch_wait),
        }
    }

    /// Forgets what got over its time since it was read: the store takes it, and counts it.
    fn expire(&mut self, now: Duration) {
        let over = |(sequence, at): (&Sequence, &Duration)| {
            (*at <= now && !self.flying.contains_key(sequence)).then_some(*sequence)
        };
        let over: HashSet<Sequence> = self.expiries.iter().filter_map(over).collect();
        if over.is_empty() {
            return;
        }
        self.queue.retain(|message| !over.contains(&message.sequence));
        self.refused.retain(|sequence, _| !over.contains(sequence));
        self.held.retain(|sequence, _| !over.contains(sequence));
        self.again.retain(|sequence| !over.contains(sequence));
        over.into_iter().for_each(|sequence| self.finish(sequence));
    }

    fn note_expiry(&mut self, now: Duration, message: &Message) {
        if let Some(left) = message.expires_in_ms {
            self.expiries.insert(message.sequence, now + Duration::from_millis(left));
        }
    }

    /// Takes up a message that was held, unless the store has lost it meanwhile.
    fn read_again(&mut self, now: Duration, held: Sequence, messages: Vec<Message>) {
        match messages.into_iter().next().filter(|message| message.sequence == held) {
            Some(message) => {
                self.note_expiry(now, &message);
                self.put_back(message);
            }
            None => self.finish(held),
        }
    }

    /// Queues a message at its place in the order of the stream.
    fn put_back(&mut self, message: Message) {
        let place = self.queue.partition_point(|m| m.sequence < message.sequence);
        self.queue.insert(place, message);
    }

    fn finish(&mut self, sequence: Sequence) {
        self.expiries.remove(&sequence);
        self.cursor.acknowledge(sequence, sequence);
    }

    /// The refused message that is next in order, and when it is due. None is while one before it
    /// waits to be sent anew, as after a broken link.
    fn refused_next(&self, policy: &Policy) -> Option<(Sequence, Duration)> {
        let (sequence, (due, _)) = self.refused.first_key_value()?;
        let overtakes = self.queue.front().is_some_and(|message| message.sequence < *sequence);
        (policy.by_key || !overtakes).then_some((*sequence, *due))
    }

    /// A refused message whose time has come. In a pipelined stream it waits until what was sent
    /// behind it has landed, so that it is not overtaken a second time.
    fn due(&mut self, policy: &Policy, now: Duration) -> Option<Message> {
        let (sequence, due) = self.refused_next(policy)?;
        if due > now || !(policy.by_key || self.flying.is_empty()) {
            return None;
        }
        self.refused.remove(&sequence).map(|(_, message)| message)
    }

    /// Messages from the head of the queue, none past the first that was refused.
    fn fresh(&mut self, policy: &Policy, now: Duration, most: usize) -> Vec<Message> {
        let waited = self.waits_since.is_none_or(|since| now >= since + policy.batch_wait);
        let ready = match self.refused.first_key_value() {
            Some((refused, _)) => self.queue.partition_point(|m| m.sequence < *refused),
            None if self.queue.len() < policy.batch && !waited => 0,
            None => self.queue.len(),
        };
        if ready == 0 {
            return Vec::new();
        }
        let messages = self.queue.drain(..most.min(ready)).collect();
        self.waits_since = (!self.queue.is_empty()).then_some(now);
        messages
    }

    /// Messages none of whose key is in flight, refused, or before them in the queue.
    fn free_by_key(&mut self, most: usize) -> Vec<Message> {
        let busy = self.flying.values().chain(self.refused.values().map(|(_, m)| m));
        let mut taken: HashSet<String> = busy.filter_map(|m| m.key.clone()).collect();
        let mut free = Vec::new();
        let mut at = 0;
        while at < self.queue.len() && free.len() < most {
            let key = self.queue[at].key.clone();
            if key.is_none_or(|key| taken.insert(key)) {
                free.extend(self.queue.remove(at));
            } else {
                at += 1;
            }
        }
        self.waits_since = None;
        free
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Widens the last acknowledgement where it can.
fn acknowledge(ops: &mut Vec<Op>, consumer: ConsumerId, stream: StreamId, sequence: Sequence) {
    if let Some(Op::Ack { ranges, .. }) = ops.last_mut()
        && let Some((_, to)) = ranges.last_mut()
        && to.next() == sequence
    {
        *to = sequence;
        return;
    }
    ops.push(Op::Ack { consumer, stream, ranges: vec![(sequence, sequence)] });
}
