//! Reading what has been committed, from any thread, while the writer goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable};

use super::rows::{ConsumerRow, Cursor, Losses, MessageRow, Row, StreamRow};
use super::schema::{self, decode, state_row};
use crate::consumer::Message;
use crate::error::Error;
use crate::ids::{ConsumerId, Sequence, StreamId};
use crate::limits::StreamLimits;
use crate::record::Topic;

/// A handle on the committed tables.
#[derive(Clone)]
pub(crate) struct Reader {
    database: Arc<Database>,
}

/// Part of a stream.
pub(crate) struct Page {
    pub(crate) messages: Vec<Message>,
    /// Whether the stream has more behind.
    pub(crate) more: bool,
}

/// A stream as it stands.
pub(crate) struct StreamView {
    pub(crate) id: StreamId,
    pub(crate) topic: Topic,
    pub(crate) next: Sequence,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) losses: Losses,
    /// Device time of the oldest message.
    pub(crate) oldest_ms: Option<u64>,
}

impl Reader {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    pub(crate) fn state(
        &self,
        component: &str,
        key: &str,
        now_ms: u64,
    ) -> Result<Option<Row>, Error> {
        let table = self.database.begin_read()?.open_table(schema::STATE)?;
        let Some(found) = table.get((component, key))? else { return Ok(None) };
        let row = state_row(found.value())?;
        Ok(row.is_live(now_ms).then(|| Row {
            value: row.value.to_vec(),
            etag: row.etag,
            expires_in_ms: (row.expires_ms != 0).then(|| row.expires_ms - now_ms),
        }))
    }

    /// At most `max_messages` and, but for the first, `max_bytes` from behind `after`.
    pub(crate) fn page(
        &self,
        stream: StreamId,
        after: Sequence,
        max_messages: usize,
        max_bytes: usize,
        now_ms: u64,
    ) -> Result<Page, Error> {
        let table = self.database.begin_read()?.open_table(schema::MESSAGES)?;
        let mut messages = Vec::new();
        let mut bytes = 0;
        for found in table.range((stream.0, after.next().0)..=(stream.0, u64::MAX))? {
            let (key, row) = found?;
            bytes += row.value().len();
            if messages.len() == max_messages || (bytes > max_bytes && !messages.is_empty()) {
                return Ok(Page { messages, more: true });
            }
            let row: MessageRow = decode("a message", row.value())?;
            messages.push(row.into_message(Sequence(key.value().1), now_ms));
        }
        Ok(Page { messages, more: false })
    }

    /// How many of these messages are kept.
    pub(crate) fn count_kept(&self, places: &[(StreamId, Sequence)]) -> Result<u64, Error> {
        if places.is_empty() {
            return Ok(0);
        }
        let table = self.database.begin_read()?.open_table(schema::MESSAGES)?;
        let mut kept = 0;
        for (stream, sequence) in places {
            kept += u64::from(table.get((stream.0, sequence.0))?.is_some());
        }
        Ok(kept)
    }

    pub(crate) fn topic(&self, stream: StreamId) -> Result<Option<Topic>, Error> {
        let table = self.database.begin_read()?.open_table(schema::STREAMS)?;
        let Some(found) = table.get(stream.0)? else { return Ok(None) };
        Ok(Some(decode::<StreamRow>("a stream", found.value())?.topic))
    }

    pub(crate) fn cursor(&self, consumer: ConsumerId, stream: StreamId) -> Result<Cursor, Error> {
        let table = self.database.begin_read()?.open_table(schema::CURSORS)?;
        match table.get((consumer.0, stream.0))? {
            Some(found) => decode("a cursor", found.value()),
            None => Ok(Cursor::default()),
        }
    }

    pub(crate) fn limits(&self, component: &str) -> Result<Option<StreamLimits>, Error> {
        let table = self.database.begin_read()?.open_table(schema::LIMITS)?;
        let found = table.get(component)?;
        found.map(|row| decode("limits", row.value())).transpose()
    }

    pub(crate) fn consumers(&self) -> Result<Vec<(ConsumerId, ConsumerRow)>, Error> {
        let table = self.database.begin_read()?.open_table(schema::CONSUMERS)?;
        let rows = table.iter()?.map(|found| {
            let (id, row) = found?;
            Ok((ConsumerId(id.value()), decode("a consumer", row.value())?))
        });
        rows.collect()
    }

    /// The closed claims of a consumer: up to which message each stream is kept for it.
    pub(crate) fn claims(
        &self,
        consumer: ConsumerId,
    ) -> Result<BTreeMap<StreamId, Sequence>, Error> {
        let table = self.database.begin_read()?.open_table(schema::CLAIMS)?;
        let rows = table.range((consumer.0, 0)..=(consumer.0, u32::MAX))?.map(|found| {
            let (key, until) = found?;
            Ok((StreamId(key.value().1), Sequence(until.value())))
        });
        rows.collect()
    }

    /// How many messages a stream keeps behind `after`, up to and including `until`.
    pub(crate) fn count(
        &self,
        stream: StreamId,
        after: Sequence,
        until: Sequence,
    ) -> Result<u64, Error> {
        if until <= after {
            return Ok(0);
        }
        let table = self.database.begin_read()?.open_table(schema::MESSAGES)?;
        let mut count = 0;
        for found in table.range((stream.0, after.next().0)..=(stream.0, until.0))? {
            found?;
            count += 1;
        }
        Ok(count)
    }

    pub(crate) fn streams(&self) -> Result<Vec<StreamView>, Error> {
        let txn = self.database.begin_read()?;
        let messages = txn.open_table(schema::MESSAGES)?;
        let mut views = Vec::new();
        for found in txn.open_table(schema::STREAMS)?.iter()? {
            let (id, row) = found?;
            let id = StreamId(id.value());
            let row: StreamRow = decode("a stream", row.value())?;
            let mut kept = messages.range((id.0, row.first.0)..=(id.0, u64::MAX))?;
            let oldest = kept.next().transpose()?;
            let oldest_ms = oldest
                .map(|(_, row)| decode::<MessageRow>("a message", row.value()))
                .transpose()?
                .map(|row| row.born_ms);
            let StreamRow { topic, next, messages, bytes, losses, .. } = row;
            views.push(StreamView { id, topic, next, messages, bytes, losses, oldest_ms });
        }
        Ok(views)
    }

    /// The device time at which the first row or message expires.
    pub(crate) fn next_expiry(&self) -> Result<Option<u64>, Error> {
        let txn = self.database.begin_read()?;
        let state = txn.open_table(schema::STATE_EXPIRY)?.first()?.map(|row| row.0.value().0);
        let message = txn.open_table(schema::MESSAGE_EXPIRY)?.first()?.map(|row| row.0.value().0);
        Ok([state, message].into_iter().flatten().min())
    }

    /// The device time at which the oldest message was published of these streams, each from a
    /// message on.
    pub(crate) fn oldest_of(&self, streams: &[(StreamId, Sequence)]) -> Result<Option<u64>, Error> {
        let messages = self.database.begin_read()?.open_table(schema::MESSAGES)?;
        let mut oldest = None;
        for (stream, from) in streams {
            let mut kept = messages.range((stream.0, from.0)..=(stream.0, u64::MAX))?;
            let Some(first) = kept.next() else { continue };
            let row: MessageRow = decode("a message", first?.1.value())?;
            oldest = Some(oldest.map_or(row.born_ms, |ms: u64| ms.min(row.born_ms)));
        }
        Ok(oldest)
    }
}

/// What only a simulation looks at.
#[cfg(feature = "simulation")]
impl Reader {
    /// Every row of state.
    pub(crate) fn all_state(&self) -> Result<Vec<crate::engine::StateFacts>, Error> {
        let table = self.database.begin_read()?.open_table(schema::STATE)?;
        let rows = table.iter()?.map(|found| {
            let (key, row) = found?;
            let ((component, key), row) = (key.value(), state_row(row.value())?);
            Ok((component.to_owned(), key.to_owned(), row.etag, row.value.to_vec()))
        });
        rows.collect()
    }

    /// What is missing in a stream and why: inclusive ranges.
    pub(crate) fn gaps(
        &self,
        stream: StreamId,
    ) -> Result<Vec<(Sequence, Sequence, crate::record::Loss)>, Error> {
        let table = self.database.begin_read()?.open_table(schema::GAPS)?;
        let rows = table.range((stream.0, 0)..=(stream.0, u64::MAX))?.map(|found| {
            let (key, row) = found?;
            let (last, loss) = decode("a gap", row.value())?;
            Ok((Sequence(key.value().1), last, loss))
        });
        rows.collect()
    }
}
