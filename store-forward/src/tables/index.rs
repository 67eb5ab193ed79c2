//! What every record needs to know, kept in memory: one entry for each stream, consumer and cursor.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use redb::{ReadTransaction, ReadableTable};

use super::rows::{ConsumerRow, Cursor, FORMAT, StoreMeta, StreamRow};
use super::schema::{self, Writer, decode};
use crate::error::{Error, Holder, TablesError};
use crate::ids::{ConsumerId, Sequence, StreamId};
use crate::limits::StreamLimits;
use crate::record::{ConsumerKind, Topic};

/// The cursor of nobody, whose `done` is the highest number of a consumer that was forgotten.
const FORGOTTEN: (ConsumerId, StreamId) = (ConsumerId(0), StreamId(0));

/// A stream, and whom its messages are kept for.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) row: StreamRow,
    pub(crate) claims: Vec<Claim>,
    /// No message of that priority is kept before: spares `drop-lowest-priority` a second look.
    pub(super) lowest_from: [Sequence; 8],
}

/// A consumer's right to messages of a stream: they are kept until it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) consumer: ConsumerId,
    /// The last message that is kept for it. `None`, an open claim, is on all that is published:
    /// its filters match the topic, and it is active.
    pub(crate) until: Option<Sequence>,
}

impl Claim {
    pub(crate) fn is_open(&self) -> bool {
        self.until.is_none()
    }

    fn covers(&self, sequence: Sequence) -> bool {
        self.until.is_none_or(|until| sequence <= until)
    }
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
    pub(crate) consumers: BTreeMap<ConsumerId, ConsumerRow>,
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
            return Err(TablesError::Format { found, known: FORMAT }.into());
        }
        for row in txn.open_table(schema::LIMITS)?.iter()? {
            let (component, limits) = row?;
            let limits = decode("limits", limits.value())?;
            index.limits.insert(component.value().to_owned(), limits);
        }
        for row in txn.open_table(schema::CONSUMERS)?.iter()? {
            let (id, consumer) = row?;
            index.consumers.insert(ConsumerId(id.value()), decode("a consumer", consumer.value())?);
        }
        for row in txn.open_table(schema::STREAMS)?.iter()? {
            let (id, stream) = row?;
            index.insert_stream(StreamId(id.value()), decode("a stream", stream.value())?);
        }
        for row in txn.open_table(schema::CLAIMS)?.iter()? {
            let (key, until) = row?;
            let (consumer, stream) = key.value();
            let until = Some(Sequence(until.value()));
            if let Some(stream) = index.streams.get_mut(&StreamId(stream)) {
                stream.claims.push(Claim { consumer: ConsumerId(consumer), until });
            }
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
        self.totals.values().map(|totals| totals.bytes).sum::<u64>() + self.meta.state_bytes()
    }

    pub(crate) fn stream_of(&self, topic: &Topic) -> Option<StreamId> {
        self.by_topic.get(topic).copied()
    }

    pub(crate) fn consumer_named(&self, name: &str) -> Option<ConsumerId> {
        self.consumers.iter().find(|(_, row)| row.spec.name == name).map(|(id, _)| *id)
    }

    /// The streams that a consumer reads and has not finished.
    pub(crate) fn backlog_of(&self, consumer: ConsumerId) -> Vec<StreamId> {
        let open = Claim { consumer, until: None };
        let reads = self.streams.iter().filter(|(_, s)| s.claims.contains(&open));
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
        let collects = |(_, consumer): &(&ConsumerId, &ConsumerRow)| consumer.collects(&row.topic);
        let open = |(id, _): (&ConsumerId, &ConsumerRow)| Claim { consumer: *id, until: None };
        let claims = self.consumers.iter().filter(collects).map(open).collect();
        let totals = self.totals.entry(row.topic.component.clone()).or_default();
        totals.messages += row.messages;
        totals.bytes += row.bytes;
        self.by_topic.insert(row.topic.clone(), id);
        let lowest_from = [row.first; 8];
        self.streams.insert(id, Stream { row, claims, lowest_from });
    }

    pub(super) fn remove_consumer(&mut self, id: ConsumerId) {
        self.consumers.remove(&id);
        self.cursors.retain(|(consumer, _), _| *consumer != id);
        self.dirty_cursors.retain(|(consumer, _)| *consumer != id);
        let (nobody, nothing) = FORGOTTEN;
        let forgotten = self.cursor_mut(nobody, nothing);
        forgotten.done = forgotten.done.max(Sequence(u64::from(id.0)));
        for stream in self.streams.values_mut() {
            stream.claims.retain(|claim| claim.consumer != id);
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

    pub(super) fn drop_claim(&mut self, stream: StreamId, consumer: ConsumerId) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.claims.retain(|claim| claim.consumer != consumer);
        }
    }

    /// The claims of a consumer.
    pub(super) fn claims_of(&self, consumer: ConsumerId) -> Vec<(StreamId, Claim)> {
        let claim = |stream: &Stream| {
            stream.claims.iter().find(|claim| claim.consumer == consumer).copied()
        };
        self.streams.iter().filter_map(|(id, stream)| Some((*id, claim(stream)?))).collect()
    }

    /// The streams that may keep messages for nobody, and from which message on.
    pub(super) fn unclaimed(&self) -> Vec<(StreamId, Sequence)> {
        let kept = self.streams.iter().filter(|(_, s)| s.row.messages > 0);
        kept.filter(|(_, s)| !s.claims.iter().any(Claim::is_open))
            .map(|(id, s)| {
                let claimed = s.claims.iter().filter_map(|claim| claim.until).max();
                (*id, claimed.map_or(s.row.first, |until| s.row.first.max(until.next())))
            })
            .collect()
    }

    /// Whether a message is kept for a consumer other than this one.
    pub(super) fn is_kept_for_others(
        &self,
        id: StreamId,
        sequence: Sequence,
        consumer: ConsumerId,
    ) -> bool {
        let Some(stream) = self.streams.get(&id) else { return false };
        let mut others = stream.claims.iter().filter(|claim| claim.consumer != consumer);
        others.any(|claim| claim.covers(sequence) && !self.has(claim.consumer, id, sequence))
    }

    fn has(&self, consumer: ConsumerId, stream: StreamId, sequence: Sequence) -> bool {
        self.cursors.get(&(consumer, stream)).is_some_and(|cursor| cursor.has(sequence))
    }

    /// Where a message goes that expires before these consumers had it.
    pub(super) fn dead_letters_of(&self, id: StreamId, sequence: Sequence) -> Vec<Topic> {
        let Some(stream) = self.streams.get(&id) else { return Vec::new() };
        let missing = stream
            .claims
            .iter()
            .filter(|claim| claim.covers(sequence) && !self.has(claim.consumer, id, sequence));
        let letters = |claim: &Claim| self.consumers.get(&claim.consumer)?.spec.dead_letter.clone();
        let mut topics: Vec<Topic> = missing.filter_map(letters).collect();
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

    /// The last sequence that every consumer with a claim has; `None` without claims.
    pub(super) fn done_by_all(&self, stream: StreamId) -> Option<Sequence> {
        let claims = &self.streams.get(&stream)?.claims;
        claims.iter().map(|claim| self.done(claim.consumer, stream)).min()
    }

    /// Whether every consumer that a message is kept for has it; not if it is kept for none.
    pub(super) fn all_have(&self, stream: StreamId, sequence: Sequence) -> bool {
        let Some(known) = self.streams.get(&stream) else { return false };
        let mut claims = known.claims.iter().filter(|claim| claim.covers(sequence)).peekable();
        claims.peek().is_some() && claims.all(|claim| self.has(claim.consumer, stream, sequence))
    }

    /// Whether every consumer with a claim has something beyond this message, or claims nothing
    /// beyond it.
    pub(super) fn all_have_beyond(&self, stream: StreamId, sequence: Sequence) -> bool {
        let Some(claims) = self.streams.get(&stream).map(|stream| &stream.claims) else {
            return false;
        };
        let beyond = |claim: &Claim| {
            let cursor = self.cursors.get(&(claim.consumer, stream));
            cursor.is_some_and(|cursor| cursor.done > sequence || !cursor.ranges.is_empty())
                || !claim.covers(sequence.next())
        };
        !claims.is_empty() && claims.iter().all(beyond)
    }

    /// Whether an uplink is to be told of a gap there: then it is kept until it has passed it.
    pub(super) fn has_uplink(&self, stream: &Stream, sequence: Sequence) -> bool {
        let kind = |id| self.consumers.get(id).map(|row| row.spec.kind);
        let mut uplinks =
            stream.claims.iter().filter(|c| kind(&c.consumer) == Some(ConsumerKind::Uplink));
        uplinks.any(|claim| claim.covers(sequence))
    }

    /// About how many messages of a stream wait for a claim.
    fn waiting(&self, id: StreamId, stream: &Stream, claim: &Claim) -> u64 {
        let last = claim.until.unwrap_or(stream.row.next.previous());
        let cursor = self.cursors.get(&(claim.consumer, id));
        cursor.map_or(last.0, |cursor| cursor.missing(last)).min(stream.row.messages)
    }

    /// Who holds most of what these streams keep.
    pub(crate) fn holder(&self, of: impl Fn(&Topic) -> bool) -> Option<Holder> {
        let mut waiting: HashMap<ConsumerId, u64> = HashMap::new();
        for (id, stream) in self.streams.iter().filter(|(_, s)| of(&s.row.topic)) {
            for claim in &stream.claims {
                *waiting.entry(claim.consumer).or_default() += self.waiting(*id, stream, claim);
            }
        }
        let most = waiting.into_iter().filter(|(_, messages)| *messages > 0);
        let (id, messages) = most.max_by_key(|(id, messages)| (*messages, *id))?;
        let row = self.consumers.get(&id)?;
        let (consumer, inactive) = (row.spec.name.clone(), row.inactive.is_some());
        Some(Holder { consumer, messages, inactive })
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
