//! What every record needs to know, kept in memory: one entry for each stream, consumer and cursor.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use redb::{ReadTransaction, ReadableTable};

use super::rows::{Cursor, FORMAT, StoreMeta, StreamRow};
use super::schema::{self, Writer, decode};
use crate::error::Error;
use crate::ids::{ConsumerId, Sequence, StreamId};
use crate::limits::StreamLimits;
use crate::record::{ConsumerKind, ConsumerSpec, Topic};

/// The cursor of nobody, whose `done` is the highest number of a consumer that was forgotten.
const FORGOTTEN: (ConsumerId, StreamId) = (ConsumerId(0), StreamId(0));

/// A stream, and who reads it.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) row: StreamRow,
    pub(crate) consumers: Vec<ConsumerId>,
    /// No message of that priority is kept before: spares `drop-lowest-priority` a second look.
    pub(super) lowest_from: [Sequence; 8],
}

/// Messages and bytes kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Messages.
    pub(super) messages: u64,
    /// Bytes of their rows.
    pub(super) bytes: u64,
}

/// The index. What changed in it is written to the tables by [`Index::flush`].
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) meta: StoreMeta,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    pub(crate) consumers: BTreeMap<ConsumerId, ConsumerSpec>,
    pub(super) by_topic: HashMap<Topic, StreamId>,
    pub(super) cursors: HashMap<(ConsumerId, StreamId), Cursor>,
    pub(super) limits: HashMap<String, StreamLimits>,
    pub(super) totals: HashMap<String, Totals>,
    dirty_streams: BTreeSet<StreamId>,
    dirty_cursors: BTreeSet<(ConsumerId, StreamId)>,
}

impl Index {
    pub(super) fn load(txn: &ReadTransaction) -> Result<Self, Error> {
        let mut index = Self::default();
        if let Some(row) = txn.open_table(schema::META)?.get(schema::META_KEY)? {
            index.meta = decode("the store's row", row.value())?;
        }
        if index.meta.format != FORMAT {
            let found = index.meta.format;
            return Err(Error::Tables(format!(
                "format {found} is not the one this version reads ({FORMAT}): use the version that wrote it"
            )));
        }
        for row in txn.open_table(schema::LIMITS)?.iter()? {
            let (component, limits) = row?;
            let limits = decode("limits", limits.value())?;
            index.limits.insert(component.value().to_owned(), limits);
        }
        for row in txn.open_table(schema::CONSUMERS)?.iter()? {
            let (id, spec) = row?;
            index.consumers.insert(ConsumerId(id.value()), decode("a consumer", spec.value())?);
        }
        for row in txn.open_table(schema::STREAMS)?.iter()? {
            let (id, stream) = row?;
            index.insert_stream(StreamId(id.value()), decode("a stream", stream.value())?);
        }
        for row in txn.open_table(schema::CURSORS)?.iter()? {
            let (key, cursor) = row?;
            let (consumer, stream) = key.value();
            let cursor = decode("a cursor", cursor.value())?;
            index.cursors.insert((ConsumerId(consumer), StreamId(stream)), cursor);
        }
        Ok(index)
    }

    /// Device time of a moment of this boot.
    pub(crate) fn device_ms(&self, up_ms: u64) -> u64 {
        self.meta.base_ms.saturating_add(up_ms)
    }

    /// Bytes of messages and state that are kept.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.totals.values().map(|totals| totals.bytes).sum::<u64>() + self.meta.state_bytes
    }

    pub(crate) fn stream_of(&self, topic: &Topic) -> Option<StreamId> {
        self.by_topic.get(topic).copied()
    }

    pub(crate) fn consumer_named(&self, name: &str) -> Option<ConsumerId> {
        self.consumers.iter().find(|(_, spec)| spec.name == name).map(|(id, _)| *id)
    }

    /// The streams that a consumer reads and has not finished.
    pub(crate) fn backlog_of(&self, consumer: ConsumerId) -> Vec<StreamId> {
        let reads = self.streams.iter().filter(|(_, s)| s.consumers.contains(&consumer));
        reads
            .filter(|(id, s)| self.done(consumer, **id).next() < s.row.next && s.row.messages > 0)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn add_stream(&mut self, topic: Topic) -> StreamId {
        let id = self.streams.last_key_value().map_or(StreamId(1), |(id, _)| StreamId(id.0 + 1));
        self.insert_stream(id, StreamRow::new(topic));
        self.dirty_streams.insert(id);
        id
    }

    fn insert_stream(&mut self, id: StreamId, row: StreamRow) {
        let matches =
            |(id, spec): (&ConsumerId, &ConsumerSpec)| spec.reads(&row.topic).then_some(*id);
        let consumers = self.consumers.iter().filter_map(matches).collect();
        let totals = self.totals.entry(row.topic.component.clone()).or_default();
        totals.messages += row.messages;
        totals.bytes += row.bytes;
        self.by_topic.insert(row.topic.clone(), id);
        let lowest_from = [row.first; 8];
        self.streams.insert(id, Stream { row, consumers, lowest_from });
    }

    pub(super) fn set_consumer(&mut self, id: ConsumerId, spec: ConsumerSpec) {
        for stream in self.streams.values_mut() {
            stream.consumers.retain(|other| *other != id);
            if spec.reads(&stream.row.topic) {
                stream.consumers.push(id);
            }
        }
        self.consumers.insert(id, spec);
    }

    pub(super) fn remove_consumer(&mut self, id: ConsumerId) {
        self.consumers.remove(&id);
        self.cursors.retain(|(consumer, _), _| *consumer != id);
        self.dirty_cursors.retain(|(consumer, _)| *consumer != id);
        let (nobody, nothing) = FORGOTTEN;
        let forgotten = self.cursor_mut(nobody, nothing);
        forgotten.done = forgotten.done.max(Sequence(u64::from(id.0)));
        for stream in self.streams.values_mut() {
            stream.consumers.retain(|other| *other != id);
        }
    }

    /// A number that no consumer had before: acknowledgements of one that was forgotten may be on
    /// their way.
    pub(super) fn new_consumer(&self) -> ConsumerId {
        let (nobody, nothing) = FORGOTTEN;
        let forgotten = u32::try_from(self.done(nobody, nothing).0).unwrap_or(u32::MAX);
        let last = self.consumers.last_key_value().map_or(0, |(id, _)| id.0);
        ConsumerId(last.max(forgotten).saturating_add(1))
    }

    /// The streams that a consumer reads.
    pub(super) fn read_by(&self, consumer: ConsumerId) -> Vec<StreamId> {
        let reads = self.streams.iter().filter(|(_, s)| s.consumers.contains(&consumer));
        reads.map(|(id, _)| *id).collect()
    }

    /// The streams that keep messages for nobody.
    pub(super) fn unclaimed(&self) -> Vec<StreamId> {
        let kept = self.streams.iter().filter(|(_, s)| s.consumers.is_empty());
        kept.filter(|(_, s)| s.row.messages > 0).map(|(id, _)| *id).collect()
    }

    /// Where a message goes that expires before these consumers had it.
    pub(super) fn dead_letters_of(&self, id: StreamId, sequence: Sequence) -> Vec<Topic> {
        let Some(stream) = self.streams.get(&id) else { return Vec::new() };
        let missing = stream.consumers.iter().filter(|consumer| {
            !self.cursors.get(&(**consumer, id)).is_some_and(|cursor| cursor.has(sequence))
        });
        let mut topics: Vec<Topic> =
            missing.filter_map(|id| self.consumers.get(id)?.dead_letter.clone()).collect();
        topics.retain(|topic| *topic != stream.row.topic);
        topics.sort();
        topics.dedup();
        topics
    }

    /// The stream's row, to be changed.
    pub(super) fn stream_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        let stream = self.streams.get_mut(&id)?;
        self.dirty_streams.insert(id);
        Some(stream)
    }

    pub(super) fn totals_mut(&mut self, component: &str) -> &mut Totals {
        if !self.totals.contains_key(component) {
            self.totals.insert(component.to_owned(), Totals::default());
        }
        self.totals.get_mut(component).expect("inserted above")
    }

    pub(super) fn cursor_mut(&mut self, consumer: ConsumerId, stream: StreamId) -> &mut Cursor {
        self.dirty_cursors.insert((consumer, stream));
        self.cursors.entry((consumer, stream)).or_default()
    }

    pub(super) fn done(&self, consumer: ConsumerId, stream: StreamId) -> Sequence {
        self.cursors.get(&(consumer, stream)).map_or(Sequence(0), |cursor| cursor.done)
    }

    /// The last sequence that every consumer has; `None` without consumers.
    pub(super) fn done_by_all(&self, stream: StreamId) -> Option<Sequence> {
        let consumers = &self.streams.get(&stream)?.consumers;
        consumers.iter().map(|consumer| self.done(*consumer, stream)).min()
    }

    /// Whether every consumer has this message; not without consumers.
    pub(super) fn all_have(&self, stream: StreamId, sequence: Sequence) -> bool {
        let Some(consumers) = self.streams.get(&stream).map(|stream| &stream.consumers) else {
            return false;
        };
        let has = |id: &ConsumerId| {
            self.cursors.get(&(*id, stream)).is_some_and(|cursor| cursor.has(sequence))
        };
        !consumers.is_empty() && consumers.iter().all(has)
    }

    /// Whether every consumer has something beyond this message.
    pub(super) fn all_have_beyond(&self, stream: StreamId, sequence: Sequence) -> bool {
        let Some(consumers) = self.streams.get(&stream).map(|stream| &stream.consumers) else {
            return false;
        };
        let beyond = |id| {
            let cursor = self.cursors.get(&(id, stream));
            cursor.is_some_and(|cursor| cursor.done > sequence || !cursor.ranges.is_empty())
        };
        !consumers.is_empty() && consumers.iter().all(|id| beyond(*id))
    }

    /// Whether an uplink reads the stream: then its gaps are kept until it has passed them.
    pub(super) fn has_uplink(&self, stream: &Stream) -> bool {
        let kind = |id| self.consumers.get(id).map(|spec| spec.kind);
        stream.consumers.iter().any(|id| kind(id) == Some(ConsumerKind::Uplink))
    }

    /// Writes what changed.
    pub(super) fn flush(&mut self, writer: &mut Writer<'_>) -> Result<(), Error> {
        for id in std::mem::take(&mut self.dirty_streams) {
            if let Some(stream) = self.streams.get(&id) {
                writer.put_stream(id, &stream.row)?;
            }
        }
        for key in std::mem::take(&mut self.dirty_cursors) {
            if let Some(cursor) = self.cursors.get(&key) {
                writer.put_cursor(key.0, key.1, cursor)?;
            }
        }
        Ok(())
    }
}
