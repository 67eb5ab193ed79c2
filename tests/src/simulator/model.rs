//! What the store ought to be: every record applied to plain maps, with no thought of speed.

mod admit;
mod expire;
mod overflow;

use std::collections::{BTreeMap, BTreeSet};

use store_forward::limits::StreamLimits;
use store_forward::record::{ConsumerSpec, Loss, NewMessage, Op, Record, Timestamp, Topic};
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
    /// What it has of each stream.
    pub(crate) has: BTreeSet<(u32, u64)>,
    pub(crate) failures: BTreeMap<(u32, u64), u32>,
    /// What was lost before it had it: an uplink is to be told of these.
    pub(crate) owed: BTreeSet<(u32, u64)>,
}

/// What a record did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) published: Vec<(u32, u64)>,
    pub(crate) registered: Option<u32>,
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
            Op::Unregister { name } => self.unregister(name),
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
            Op::Expire { unclaimed_ms, .. } => {
                effect.published.extend(self.expire(at, now_ms, *unclaimed_ms));
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

    /// Who reads a stream.
    pub(crate) fn readers(&self, stream: u32) -> Vec<u32> {
        let topic = &self.streams[&stream].topic;
        let reads = self.consumers.iter().filter(|(_, reader)| reader.spec.reads(topic));
        reads.map(|(id, _)| *id).collect()
    }

    fn register(&mut self, spec: &ConsumerSpec) -> u32 {
        let known = self.consumers.iter().find(|(_, reader)| reader.spec.name == spec.name);
        if let Some(id) = known.map(|(id, _)| *id) {
            self.consumers.get_mut(&id).expect("it was just found").spec = spec.clone();
            return id;
        }
        self.next_consumer += 1;
        let (has, failures, owed) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        let reader = Reader { spec: spec.clone(), has, failures, owed };
        self.consumers.insert(self.next_consumer, reader);
        self.next_consumer
    }

    fn unregister(&mut self, name: &str) {
        let streams: Vec<u32> = self.streams.keys().copied().collect();
        let known = self.consumers.iter().find(|(_, reader)| reader.spec.name == name);
        let Some(id) = known.map(|(id, _)| *id) else { return };
        let read: Vec<u32> =
            streams.into_iter().filter(|stream| self.readers(*stream).contains(&id)).collect();
        self.consumers.remove(&id);
        read.into_iter().for_each(|stream| self.release(stream));
    }

    fn acknowledge(&mut self, consumer: u32, stream: u32, from: u64, to: u64) {
        let Some(known) = self.streams.get(&stream) else { return };
        let to = to.min(known.next - 1);
        if let Some(reader) = self.consumers.get_mut(&consumer) {
            reader.has.extend((from..=to).map(|sequence| (stream, sequence)));
        }
        self.release(stream);
        (from..=to).for_each(|sequence| self.release_one(stream, sequence));
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
        let target = target.filter(|topic| *topic != self.streams[&stream].topic);
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

    /// What everyone has goes, up to the first that someone lacks.
    fn release(&mut self, stream: u32) {
        let readers = self.readers(stream);
        if readers.is_empty() {
            return;
        }
        while let Some(first) = self.streams[&stream].kept.keys().next().copied() {
            if readers.iter().any(|id| !self.consumers[id].has.contains(&(stream, first))) {
                return;
            }
            let stream = self.stream_mut(stream);
            stream.kept.remove(&first);
            stream.passed.insert(first);
        }
    }

    /// A message that everyone has goes, though someone lacks one before it.
    fn release_one(&mut self, stream: u32, sequence: u64) {
        let readers = self.readers(stream);
        let has = |id: &u32| self.consumers[id].has.contains(&(stream, sequence));
        if readers.is_empty() || !readers.iter().all(has) {
            return;
        }
        let stream = self.stream_mut(stream);
        if stream.kept.remove(&sequence).is_some() {
            stream.passed.insert(sequence);
        }
    }

    fn lose(&mut self, stream: u32, sequence: u64, loss: Loss) -> Kept {
        let kept = self.stream_mut(stream).kept.remove(&sequence).expect("it was just found");
        self.note_loss(stream, sequence, loss);
        kept
    }

    fn note_loss(&mut self, id: u32, sequence: u64, loss: Loss) {
        for reader in self.readers(id) {
            let reader = self.consumers.get_mut(&reader).expect("it reads");
            if !reader.has.contains(&(id, sequence)) {
                reader.owed.insert((id, sequence));
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
