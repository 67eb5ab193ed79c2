//! Order, windows, retries, and the consequences of a broken link. No clock, no input.

mod lane;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::read_ahead::{ReadAhead, ReadAheadShare};
use super::{Message, Outcome};
use crate::backoff::Backoff;
use crate::ids::{ConsumerId, Sequence, StreamId};
use crate::record::{Loss, Op};
use crate::tables::Cursor;
use lane::{Lane, LaneStep};

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
    /// The bound on what waits in memory, shared by the consumers of one app or one uplink.
    pub read_ahead: Arc<ReadAhead>,
}

/// The next thing to do with a slot.
#[derive(Debug)]
pub enum Step {
    /// Read from the store, and take in what comes with [`Dispatcher::read`].
    Read(Want),
    /// Hand this batch over.
    Send(Batch),
    /// Return the slot: there is nothing to send now.
    Rest,
}

/// A page to read from the store.
#[derive(Debug)]
pub struct Want {
    /// The stream.
    pub stream: StreamId,
    /// The message behind which the page begins.
    pub after: Sequence,
    /// Messages at most.
    pub count: usize,
    /// Bytes at most, but for the first message.
    pub bytes: usize,
    share: ReadAheadShare,
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

/// The fate of a message that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Tried again.
    Retried,
    /// Moved to the dead letter topic, or dropped.
    Rejected,
    /// Held until the remote's limits grow.
    Held,
    /// Lost, because more than [`MAX_HELD`] were held.
    Lost,
    /// Sent again, because the link failed.
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
    /// The generation of the last slot.
    generation: u64,
}

impl Dispatcher {
    /// A dispatcher with nothing to do.
    #[must_use]
    pub fn new(consumer: ConsumerId, policy: Policy) -> Self {
        Self {
            consumer,
            policy,
            lanes: BTreeMap::new(),
            in_flight: 0,
            last: StreamId(0),
            broken: false,
            generation: 0,
        }
    }

    /// Whether it follows this stream; one it doesn't needs [`Dispatcher::follow`] first.
    #[must_use]
    pub fn follows(&self, stream: StreamId) -> bool {
        self.lanes.contains_key(&stream)
    }

    /// Follows a stream from a cursor on.
    pub fn follow(&mut self, now: Duration, stream: StreamId, cursor: Cursor) {
        self.lanes.insert(stream, Lane::new(now, cursor));
    }

    /// The streams that it follows.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamId> {
        self.lanes.keys().copied().collect()
    }

    /// The consumer gave up its backlog of a stream, and `cursor` is where it stood then or later. What
    /// is in flight lands, and is not sent again. What came after the backlog may have been read.
    pub fn skip(&mut self, stream: StreamId, cursor: &Cursor) {
        if let Some(lane) = self.lanes.get_mut(&stream) {
            lane.skip(cursor);
        }
    }

    /// The stream has grown.
    pub fn grown(&mut self, now: Duration, stream: StreamId) {
        if let Some(lane) = self.lanes.get_mut(&stream) {
            lane.grown(now);
        }
    }

    /// Takes note of a granted slot, and returns whether a batch may go with it. What an earlier
    /// generation may lose is sent again before anything else is, so its outcomes come first.
    pub fn admit(&mut self, generation: u64) -> bool {
        if std::mem::replace(&mut self.generation, generation) != generation {
            self.give_back();
            self.broken |= self.in_flight > 0;
        }
        self.broken &= self.in_flight > 0;
        !self.broken
    }

    /// The next thing to do with a slot that was admitted.
    pub fn step(&mut self, now: Duration) -> Step {
        let room = self.policy.window.max(1).saturating_sub(self.in_flight);
        if room == 0 || self.broken {
            return Step::Rest;
        }
        let policy = &self.policy;
        let mut step = |(stream, lane): (&StreamId, &mut Lane)| {
            lane.step(*stream, policy, now, room).map(|step| (*stream, step))
        };
        let behind = (Bound::Excluded(self.last), Bound::Unbounded);
        let next = self.lanes.range_mut(behind).find_map(&mut step);
        match next.or_else(|| self.lanes.range_mut(..=self.last).find_map(&mut step)) {
            None => Step::Rest,
            Some((_, LaneStep::Read(want))) => Step::Read(want),
            Some((stream, LaneStep::Send(messages))) => Step::Send(self.batch(stream, messages)),
        }
    }

    fn batch(&mut self, stream: StreamId, messages: Vec<Message>) -> Batch {
        self.last = stream;
        self.in_flight += messages.len();
        let lane = &self.lanes[&stream];
        let attempt = |m: Message| (lane.cursor.failures(m.sequence) + 1, m);
        Batch { stream, messages: messages.into_iter().map(attempt).collect() }
    }

    /// Takes in the page that was read, and whether the stream has more behind it.
    pub fn read(&mut self, now: Duration, want: Want, messages: Vec<Message>, more: bool) {
        if let Some(lane) = self.lanes.get_mut(&want.stream) {
            lane.take_in(now, want, messages, more);
        }
    }

    /// Returns the payloads that were read and not sent. They are read anew, at their place.
    pub fn give_back(&mut self) {
        let by_key = self.policy.by_key;
        self.lanes.values_mut().for_each(|lane| lane.give_back(by_key));
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
        let was_broken = self.broken;
        let Some(lane) = self.lanes.get_mut(&stream) else { return settled };
        lane.landed();
        for (sequence, outcome) in outcomes {
            let Some(sent) = lane.land(sequence) else { continue };
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
                    lane.put_back(sequence, sent);
                    (Fate::Unreachable, reason)
                }
                Outcome::Retry(reason) if !last => {
                    let due = now + self.policy.backoff.delay(attempt, chance);
                    lane.refuse(&self.policy, sequence, sent, due);
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
                    lane.held.insert(sequence, sent);
                    (Fate::Held, reason)
                }
            };
            settled.refusals.push(Refusal { stream, sequence, attempt, fate, reason });
        }
        if self.broken && !was_broken {
            self.give_back();
        }
        self.give_up_oldest(&mut settled);
        settled
    }

    /// Gives up the messages that were published first while too many are held.
    fn give_up_oldest(&mut self, settled: &mut Settled) {
        for _ in MAX_HELD..self.held() {
            let held = self.lanes.iter().flat_map(|(stream, lane)| {
                lane.held.iter().map(|(sequence, sent)| (sent.at, *stream, *sequence))
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
        self.lanes.values_mut().for_each(Lane::retry_held);
    }

    /// Tries what was refused again without waiting for its time.
    pub fn hurry(&mut self, now: Duration) {
        self.lanes.values_mut().for_each(|lane| lane.hurry(now));
    }

    /// Messages handed over whose outcome is not known.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// When a slot is of use, if nothing else happens until then; zero is at once.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        let is_full = self.in_flight >= self.policy.window.max(1);
        if is_full || (self.broken && self.in_flight > 0) {
            return None;
        }
        let mut first: Option<Duration> = None;
        for at in self.lanes.values().filter_map(|lane| lane.wake_at(&self.policy)) {
            if at.is_zero() {
                return Some(at);
            }
            first = Some(first.map_or(at, |first| first.min(at)));
        }
        first
    }
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
