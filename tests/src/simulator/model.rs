//! What the store ought to be: every record applied to plain maps, with no thought of speed.

mod admit;
mod consumers;
mod expire;
mod overflow;

use std::collections::{BTreeMap, BTreeSet};

use store_forward::limits::StreamLimits;
use store_forward::record::{
    ConsumerSpec, InactiveReason, Loss, NewMessage, Op, Record, Timestamp, Topic,
};
use store_forward::store::Losses;

pub(crate) use admit::{Refusal, grows, refusal};

/// The whole store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) lsn: u64,
    pub(crate) last: Timestamp,
    pub(crate) created: bool,
    pub(crate) boot: u32,
    pub(crate) boot_id: String,
    pub(crate) base_ms: u64,
    pub(crate) state: BTreeMap<(String, String), Value>,
    /// By number.
    pub(crate) streams: BTreeMap<u32, Stream>,
    pub(crate) consumers: BTreeMap<u32, Reader>,
    next_consumer: u32,
    pub(crate) limits: BTreeMap<String, StreamLimits>,
}

/// A value of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) etag: u64,
    /// Device time; zero never.
    pub(crate) expires_ms: u64,
    pub(crate) value: Vec<u8>,
}

/// A stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) topic: Topic,
    pub(crate) next: u64,
    pub(crate) kept: BTreeMap<u64, Kept>,
    pub(crate) losses: Losses,
    /// Why a sequence is missing.
    pub(crate) lost: BTreeMap<u64, Loss>,
    /// What is gone because every reader had it.
    pub(crate) passed: BTreeSet<u64>,
}

/// A message that is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub(crate) at: Timestamp,
    pub(crate) born_ms: u64,
    pub(crate) expires_ms: u64,
    pub(crate) body: NewMessage,
    /// Bytes of its row.
    pub(crate) bytes: u64,
}

/// A registered consumer.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) spec: ConsumerSpec,
    pub(crate) idle: Option<Idle>,
    /// What was ever kept for it.
    pub(crate) wants: BTreeSet<(u32, u64)>,
    /// What it has of each stream.
    pub(crate) has: BTreeSet<(u32, u64)>,
    pub(crate) failures: BTreeMap<(u32, u64), u32>,
    /// What was lost before it had it: an uplink is to be told of these.
    pub(crate) owed: BTreeSet<(u32, u64)>,
}

/// A consumer that nobody names any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    pub(crate) reason: InactiveReason,
    pub(crate) collecting: bool,
    /// Time in this stage while the store was open, and up to when it was counted.
    pub(crate) ran_ms: u64,
    pub(crate) seen_ms: u64,
}

/// What a record did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) published: Vec<(u32, u64)>,
    pub(crate) registered: Option<u32>,
    /// Messages that were deleted with a backlog, and those that stay for others.
    pub(crate) forgotten: Option<(u64, u64)>,
}

impl Model {
    /// Device time of a moment of this boot.
    pub(crate) fn device_ms(&self, up_ms: u64) -> u64 {
        self.base_ms + up_ms
    }

    /// Applies the record after the last one.
    pub(crate) fn apply(&mut self, record: &Record) -> Effect {
        self.lsn += 1;
        self.last = record.at;
        let mut effect = Effect::default();
        for op in &record.ops {
            self.apply_op(record.at, op, &mut effect);
        }
        effect
    }

    fn apply_op(&mut self, at: Timestamp, op: &Op, effect: &mut Effect) {
        let now_ms = self.device_ms(at.up_ms);
        match op {
            Op::Create { .. } => self.created = true,
            Op::Boot { id, base_ms } => {
                self.boot += 1;
                self.boot_id.clone_from(id);
                self.base_ms = *base_ms;
            }
            Op::Set { component, key, value, ttl_ms, .. } => {
                let expires_ms = ttl_ms.map_or(0, |ttl| now_ms + ttl);
                let value = Value { etag: self.lsn, expires_ms, value: value.clone() };
                self.state.insert((component.clone(), key.clone()), value);
            }
            Op::Delete { component, key, .. } => {
                self.state.remove(&(component.clone(), key.clone()));
            }
            Op::Publish { topic, message } => {
                effect.published.push(self.publish(at, topic, message, false));
            }
            Op::Register(spec) => effect.registered = Some(self.register(spec)),
            Op::Unregister { name } => effect.forgotten = self.forget(name),
            Op::Skip { name } => effect.forgotten = self.skip(name),
            Op::Deactivate { name, reason } => self.deactivate(name, *reason, now_ms),
            Op::Resume => self.resume(now_ms),
            Op::Ack { consumer, stream, ranges } => {
                for (from, to) in ranges {
                    self.acknowledge(consumer.0, stream.0, from.0, to.0);
                }
            }
            Op::Nack { consumer, stream, sequence } => {
                self.fail(consumer.0, stream.0, sequence.0);
            }
            Op::Reject { consumer, stream, sequence, reason } => {
                let letter = self.reject(at, (consumer.0, stream.0, sequence.0), reason);
                effect.published.extend(letter);
            }
            Op::Configure { component, limits } => {
                self.limits.insert(component.clone(), *limits);
            }
            Op::Expire { retention, .. } => {
                effect.published.extend(self.expire(at, now_ms, retention.unclaimed_ms));
                self.age(retention, now_ms);
            }
            Op::GiveUp { consumer, stream, sequence, loss } => {
                self.give_up((consumer.0, stream.0, sequence.0), *loss);
            }
            _ => unreachable!("the simulator makes no other operation"),
        }
    }

    fn publish(
        &mut self,
        at: Timestamp,
        topic: &Topic,
        message: &NewMessage,
        letter: bool,
    ) -> (u32, u64) {
        let id = self.stream_of(topic).unwrap_or_else(|| self.add_stream(topic));
        let keep = self.make_room(id, message, letter);
        let born_ms = self.device_ms(at.up_ms);
        let expires_ms = message.ttl_ms.map_or(0, |ttl| born_ms + ttl);
        let stream = self.stream_mut(id);
        let sequence = stream.next;
        stream.next += 1;
        if keep {
            let row = postcard::to_stdvec(&(at, born_ms, expires_ms, message));
            let bytes = row.expect("a message can be encoded").len() as u64;
            let kept = Kept { at, born_ms, expires_ms, body: message.clone(), bytes };
            stream.kept.insert(sequence, kept);
            for reader in self.readers(id) {
                self.reader_mut(reader).wants.insert((id, sequence));
            }
        } else {
            self.note_loss(id, sequence, Loss::Overflow);
        }
        (id, sequence)
    }

    pub(crate) fn stream_of(&self, topic: &Topic) -> Option<u32> {
        self.streams.iter().find(|(_, stream)| stream.topic == *topic).map(|(id, _)| *id)
    }

    fn add_stream(&mut self, topic: &Topic) -> u32 {
        let id = u32::try_from(self.streams.len()).expect("there are few streams") + 1;
        let (kept, losses, lost) = (BTreeMap::new(), Losses::default(), BTreeMap::new());
        let (topic, passed) = (topic.clone(), BTreeSet::new());
        self.streams.insert(id, Stream { topic, next: 1, kept, losses, lost, passed });
        id
    }

    fn stream_mut(&mut self, id: u32) -> &mut Stream {
        self.streams.get_mut(&id).expect("a stream is never forgotten")
    }

    fn acknowledge(&mut self, consumer: u32, stream: u32, from: u64, to: u64) {
        let Some(known) = self.streams.get(&stream) else { return };
        let to = to.min(known.next - 1);
        if let Some(reader) = self.consumers.get_mut(&consumer) {
            reader.has.extend((from..=to).map(|sequence| (stream, sequence)));
        }
        self.release(stream);
    }

    /// Counts a message as lost, and lets its reader pass it.
    fn give_up(&mut self, (consumer, stream, sequence): (u32, u32, u64), loss: Loss) {
        if self.streams.get(&stream).is_some_and(|known| known.kept.contains_key(&sequence)) {
            count(&mut self.stream_mut(stream).losses, loss);
        }
        self.acknowledge(consumer, stream, sequence, sequence);
    }

    fn fail(&mut self, consumer: u32, stream: u32, sequence: u64) {
        if let Some(reader) = self.consumers.get_mut(&consumer)
            && !reader.has.contains(&(stream, sequence))
        {
            *reader.failures.entry((stream, sequence)).or_default() += 1;
        }
    }

    fn reject(
        &mut self,
        at: Timestamp,
        (consumer, stream, sequence): (u32, u32, u64),
        reason: &str,
    ) -> Option<(u32, u64)> {
        let kept = self.streams.get(&stream)?.kept.get(&sequence).cloned();
        let target = self.consumers.get(&consumer).and_then(|r| r.spec.dead_letter.clone());
        let origin = kept.as_ref().and_then(|kept| {
            let mut attributes = kept.body.attributes.iter();
            attributes.find(|(name, _)| name == "deadletterstream")?.1.parse::<u32>().ok()
        });
        // A dead letter does not go round.
        let target = target.filter(|topic| {
            let known = self.stream_of(topic);
            known != Some(stream) && (known.is_none() || known != origin)
        });
        let letter = match (kept, target) {
            (Some(kept), Some(topic)) => {
                Some(self.dead_letter(at, (stream, sequence, &kept), &topic, reason))
            }
            (Some(_), None) => {
                self.give_up((consumer, stream, sequence), Loss::Dropped);
                return None;
            }
            (None, _) => None,
        };
        self.acknowledge(consumer, stream, sequence, sequence);
        letter
    }

    fn dead_letter(
        &mut self,
        at: Timestamp,
        (stream, sequence, kept): (u32, u64, &Kept),
        topic: &Topic,
        reason: &str,
    ) -> (u32, u64) {
        let mut message = NewMessage { ttl_ms: None, ..kept.body.clone() };
        let from = self.streams[&stream].topic.name.clone();
        let origin = [
            ("deadletterreason", reason.to_owned()),
            ("deadlettertopic", from),
            ("deadletterstream", stream.to_string()),
            ("deadlettersequence", sequence.to_string()),
            ("deadlettertime", kept.at.wall_ms.to_string()),
        ];
        // A copy of a copy tells of the first one, and the last reason.
        let copied = !message.attributes.is_empty();
        message.attributes.retain(|(name, _)| name != "deadletterreason");
        let marks = origin.into_iter().take(if copied { 1 } else { 5 });
        message.attributes.extend(marks.map(|(name, value)| (name.to_owned(), value)));
        self.publish(at, topic, &message, true)
    }

    /// What everyone has whom it was kept for goes.
    fn release(&mut self, stream: u32) {
        let is_had = |sequence: &u64| {
            let place = (stream, *sequence);
            let mut wanted =
                self.consumers.values().filter(|r| r.wants.contains(&place)).peekable();
            wanted.peek().is_some() && wanted.all(|reader| reader.has.contains(&place))
        };
        let had: Vec<u64> = self.streams[&stream].kept.keys().copied().filter(is_had).collect();
        for sequence in had {
            let stream = self.stream_mut(stream);
            stream.kept.remove(&sequence);
            stream.passed.insert(sequence);
        }
    }

    fn lose(&mut self, stream: u32, sequence: u64, loss: Loss) -> Kept {
        let kept = self.stream_mut(stream).kept.remove(&sequence).expect("it was just found");
        self.note_loss(stream, sequence, loss);
        kept
    }

    fn note_loss(&mut self, id: u32, sequence: u64, loss: Loss) {
        let collecting = self.readers(id);
        for (number, reader) in &mut self.consumers {
            let place = (id, sequence);
            let is_for_it = collecting.contains(number) || reader.wants.contains(&place);
            if is_for_it && !reader.has.contains(&place) {
                reader.owed.insert(place);
            }
        }
        let stream = self.stream_mut(id);
        count(&mut stream.losses, loss);
        stream.lost.insert(sequence, loss);
    }
}

fn count(losses: &mut Losses, loss: Loss) {
    *match loss {
        Loss::Expired => &mut losses.expired,
        Loss::Overflow => &mut losses.overflowed,
        Loss::Dropped => &mut losses.dropped,
        Loss::Unclaimed => &mut losses.unclaimed,
        Loss::TooLarge => &mut losses.too_large,
        _ => &mut losses.damaged,
    } += 1;
}
