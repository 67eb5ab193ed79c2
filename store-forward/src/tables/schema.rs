//! The tables' names and types, and typed access to them within one transaction.

use redb::{Database, ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::rows::{ConsumerRow, Cursor, MessageRow, StateRow, StoreMeta, StreamRow};
use crate::error::{Error, TablesError};
use crate::ids::{ConsumerId, Lsn, Sequence, StreamId};
use crate::limits::StreamLimits;
use crate::record::Loss;

type Bytes = &'static [u8];
type StateKey = (&'static str, &'static str);

pub(super) const META: TableDefinition<'_, &str, Bytes> = TableDefinition::new("meta");
pub(super) const STATE: TableDefinition<'_, StateKey, Bytes> = TableDefinition::new("state");
pub(super) const STATE_EXPIRY: TableDefinition<'_, (u64, &str, &str), ()> =
    TableDefinition::new("state_expiry");
pub(super) const STREAMS: TableDefinition<'_, u32, Bytes> = TableDefinition::new("streams");
pub(super) const MESSAGES: TableDefinition<'_, (u32, u64), Bytes> =
    TableDefinition::new("messages");
pub(super) const MESSAGE_EXPIRY: TableDefinition<'_, (u64, u32, u64), ()> =
    TableDefinition::new("message_expiry");
pub(super) const CONSUMERS: TableDefinition<'_, u32, Bytes> = TableDefinition::new("consumers");
pub(super) const CURSORS: TableDefinition<'_, (u32, u32), Bytes> = TableDefinition::new("cursors");
/// The last message that is kept for a consumer in a stream that it no longer reads.
pub(super) const CLAIMS: TableDefinition<'_, (u32, u32), u64> = TableDefinition::new("claims");
pub(super) const GAPS: TableDefinition<'_, (u32, u64), Bytes> = TableDefinition::new("gaps");
pub(super) const LIMITS: TableDefinition<'_, &str, Bytes> = TableDefinition::new("limits");

/// The one row of `meta`.
pub(super) const META_KEY: &str = "store";

/// Creates what is missing, so that readers find every table.
pub(super) fn create(database: &Database) -> Result<(), Error> {
    use redb::{ReadableDatabase, TableError};
    match database.begin_read()?.open_table(META) {
        Ok(_) => return Ok(()),
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let txn = database.begin_write()?;
    {
        let mut writer = Writer::new(&txn);
        writer.put_meta(&StoreMeta::default())?;
        txn.open_table(STATE)?;
        txn.open_table(STATE_EXPIRY)?;
        txn.open_table(STREAMS)?;
        txn.open_table(MESSAGES)?;
        txn.open_table(MESSAGE_EXPIRY)?;
        txn.open_table(CONSUMERS)?;
        txn.open_table(CURSORS)?;
        txn.open_table(CLAIMS)?;
        txn.open_table(GAPS)?;
        txn.open_table(LIMITS)?;
    }
    txn.commit()?;
    Ok(())
}

pub(super) fn encode<T: Serialize>(what: &'static str, row: &T) -> Result<Vec<u8>, Error> {
    postcard::to_stdvec(row).map_err(|source| TablesError::Encode { what, source }.into())
}

pub(super) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Error> {
    postcard::from_bytes(bytes).map_err(|_| Error::Damaged { what, lsn: Lsn(0) })
}

/// The tables of one write transaction, each opened when it is first touched.
pub(crate) struct Writer<'t> {
    txn: &'t WriteTransaction,
    state: Option<Table<'t, StateKey, Bytes>>,
    state_expiry: Option<Table<'t, (u64, &'static str, &'static str), ()>>,
    messages: Option<Table<'t, (u32, u64), Bytes>>,
    message_expiry: Option<Table<'t, (u64, u32, u64), ()>>,
    gaps: Option<Table<'t, (u32, u64), Bytes>>,
    buffer: Vec<u8>,
}

macro_rules! table {
    ($self:ident.$field:ident, $definition:ident) => {
        match &mut $self.$field {
            Some(table) => table,
            empty => empty.insert($self.txn.open_table($definition)?),
        }
    };
}

impl<'t> Writer<'t> {
    pub(crate) fn new(txn: &'t WriteTransaction) -> Self {
        Self {
            txn,
            state: None,
            state_expiry: None,
            messages: None,
            message_expiry: None,
            gaps: None,
            buffer: Vec::new(),
        }
    }

    /// Hands the row of a key to `read`.
    pub(super) fn state<T>(
        &mut self,
        component: &str,
        key: &str,
        read: impl FnOnce(&StateRow<'_>) -> T,
    ) -> Result<Option<T>, Error> {
        let found = table!(self.state, STATE).get((component, key))?;
        found.map(|row| Ok(read(&state_row(row.value())?))).transpose()
    }

    /// Replaces a row; says when the one before was to expire and how large it was.
    pub(super) fn put_state(
        &mut self,
        component: &str,
        key: &str,
        row: &StateRow<'_>,
    ) -> Result<Option<(u64, usize)>, Error> {
        self.buffer.clear();
        self.buffer = postcard::to_extend(row, std::mem::take(&mut self.buffer))
            .map_err(|source| TablesError::Encode { what: "a state row", source })?;
        let before = table!(self.state, STATE).insert((component, key), self.buffer.as_slice())?;
        before.map(|old| state_size(old.value())).transpose()
    }

    pub(super) fn remove_state(
        &mut self,
        component: &str,
        key: &str,
    ) -> Result<Option<(u64, usize)>, Error> {
        let before = table!(self.state, STATE).remove((component, key))?;
        before.map(|old| state_size(old.value())).transpose()
    }

    pub(super) fn put_state_expiry(
        &mut self,
        at_ms: u64,
        component: &str,
        key: &str,
    ) -> Result<(), Error> {
        table!(self.state_expiry, STATE_EXPIRY).insert((at_ms, component, key), ())?;
        Ok(())
    }

    pub(super) fn remove_state_expiry(
        &mut self,
        at_ms: u64,
        component: &str,
        key: &str,
    ) -> Result<(), Error> {
        table!(self.state_expiry, STATE_EXPIRY).remove((at_ms, component, key))?;
        Ok(())
    }

    /// The first key that is over its time.
    pub(super) fn first_expired_state(
        &mut self,
        now_ms: u64,
    ) -> Result<Option<(u64, String, String)>, Error> {
        let Some(first) = table!(self.state_expiry, STATE_EXPIRY).first()? else {
            return Ok(None);
        };
        let (at_ms, component, key) = first.0.value();
        Ok((at_ms <= now_ms).then(|| (at_ms, component.to_owned(), key.to_owned())))
    }

    /// Appends a message row; says how large it is.
    pub(super) fn put_message(
        &mut self,
        stream: StreamId,
        sequence: Sequence,
        row: &MessageRow,
    ) -> Result<usize, Error> {
        self.buffer.clear();
        self.buffer = postcard::to_extend(row, std::mem::take(&mut self.buffer))
            .map_err(|source| TablesError::Encode { what: "a message", source })?;
        table!(self.messages, MESSAGES).insert((stream.0, sequence.0), self.buffer.as_slice())?;
        Ok(self.buffer.len())
    }

    pub(super) fn message(
        &mut self,
        stream: StreamId,
        sequence: Sequence,
    ) -> Result<Option<MessageRow>, Error> {
        let found = table!(self.messages, MESSAGES).get((stream.0, sequence.0))?;
        found.map(|row| decode("a message", row.value())).transpose()
    }

    /// The first message from `from` on.
    pub(super) fn first_message(
        &mut self,
        stream: StreamId,
        from: Sequence,
    ) -> Result<Option<(Sequence, MessageRow)>, Error> {
        let mut range =
            table!(self.messages, MESSAGES).range((stream.0, from.0)..=(stream.0, u64::MAX))?;
        let Some(found) = range.next() else { return Ok(None) };
        let (key, row) = found?;
        Ok(Some((Sequence(key.value().1), decode("a message", row.value())?)))
    }

    /// The place of the first message from `from` on, without reading what may be large.
    pub(super) fn first_place(
        &mut self,
        stream: StreamId,
        from: Sequence,
    ) -> Result<Option<Sequence>, Error> {
        let messages = table!(self.messages, MESSAGES);
        let found = messages.range((stream.0, from.0)..=(stream.0, u64::MAX))?.next();
        Ok(found.transpose()?.map(|(key, _)| Sequence(key.value().1)))
    }

    /// Removes a message; says what it was and how large its row.
    pub(super) fn remove_message(
        &mut self,
        stream: StreamId,
        sequence: Sequence,
    ) -> Result<Option<(MessageRow, usize)>, Error> {
        let removed = table!(self.messages, MESSAGES).remove((stream.0, sequence.0))?;
        removed.map(|row| Ok((decode("a message", row.value())?, row.value().len()))).transpose()
    }

    pub(super) fn put_message_expiry(
        &mut self,
        at_ms: u64,
        stream: StreamId,
        sequence: Sequence,
    ) -> Result<(), Error> {
        table!(self.message_expiry, MESSAGE_EXPIRY).insert((at_ms, stream.0, sequence.0), ())?;
        Ok(())
    }

    pub(super) fn remove_message_expiry(
        &mut self,
        at_ms: u64,
        stream: StreamId,
        sequence: Sequence,
    ) -> Result<(), Error> {
        table!(self.message_expiry, MESSAGE_EXPIRY).remove((at_ms, stream.0, sequence.0))?;
        Ok(())
    }

    /// The first message that is over its time.
    pub(super) fn first_expired_message(
        &mut self,
        now_ms: u64,
    ) -> Result<Option<(StreamId, Sequence)>, Error> {
        let Some(first) = table!(self.message_expiry, MESSAGE_EXPIRY).first()? else {
            return Ok(None);
        };
        let (at_ms, stream, sequence) = first.0.value();
        Ok((at_ms <= now_ms).then_some((StreamId(stream), Sequence(sequence))))
    }

    /// Takes note that a sequence is missing, widening the gap that ends just before it.
    pub(super) fn put_gap(
        &mut self,
        stream: StreamId,
        sequence: Sequence,
        loss: Loss,
    ) -> Result<(), Error> {
        let gaps = table!(self.gaps, GAPS);
        let before = {
            let mut range = gaps.range((stream.0, 0)..(stream.0, sequence.0))?;
            match range.next_back() {
                Some(found) => {
                    let (key, row) = found?;
                    let (last, reason): (Sequence, Loss) = decode("a gap", row.value())?;
                    (last.next() == sequence && reason == loss).then_some(key.value().1)
                }
                None => None,
            }
        };
        let row = encode("a gap", &(sequence, loss))?;
        gaps.insert((stream.0, before.unwrap_or(sequence.0)), row.as_slice())?;
        Ok(())
    }

    /// Forgets the gaps that begin at or before `upto`.
    pub(super) fn remove_gaps(&mut self, stream: StreamId, upto: Sequence) -> Result<(), Error> {
        let gaps = table!(self.gaps, GAPS);
        gaps.retain_in((stream.0, 0)..=(stream.0, upto.0), |_, _| false)?;
        Ok(())
    }

    pub(super) fn put_stream(&mut self, id: StreamId, row: &StreamRow) -> Result<(), Error> {
        let bytes = encode("a stream", row)?;
        self.txn.open_table(STREAMS)?.insert(id.0, bytes.as_slice())?;
        Ok(())
    }

    pub(super) fn put_consumer(&mut self, id: ConsumerId, row: &ConsumerRow) -> Result<(), Error> {
        let bytes = encode("a consumer", row)?;
        self.txn.open_table(CONSUMERS)?.insert(id.0, bytes.as_slice())?;
        Ok(())
    }

    pub(super) fn remove_consumer(&mut self, id: ConsumerId) -> Result<(), Error> {
        self.txn.open_table(CONSUMERS)?.remove(id.0)?;
        self.txn.open_table(CURSORS)?.retain_in((id.0, 0)..=(id.0, u32::MAX), |_, _| false)?;
        self.txn.open_table(CLAIMS)?.retain_in((id.0, 0)..=(id.0, u32::MAX), |_, _| false)?;
        Ok(())
    }

    pub(super) fn put_claim(
        &mut self,
        consumer: ConsumerId,
        stream: StreamId,
        until: Sequence,
    ) -> Result<(), Error> {
        self.txn.open_table(CLAIMS)?.insert((consumer.0, stream.0), until.0)?;
        Ok(())
    }

    pub(super) fn remove_claim(
        &mut self,
        consumer: ConsumerId,
        stream: StreamId,
    ) -> Result<(), Error> {
        self.txn.open_table(CLAIMS)?.remove((consumer.0, stream.0))?;
        Ok(())
    }

    pub(super) fn put_cursor(
        &mut self,
        consumer: ConsumerId,
        stream: StreamId,
        cursor: &Cursor,
    ) -> Result<(), Error> {
        let bytes = encode("a cursor", cursor)?;
        self.txn.open_table(CURSORS)?.insert((consumer.0, stream.0), bytes.as_slice())?;
        Ok(())
    }

    pub(super) fn put_limits(&mut self, component: &str, row: &StreamLimits) -> Result<(), Error> {
        let bytes = encode("limits", row)?;
        self.txn.open_table(LIMITS)?.insert(component, bytes.as_slice())?;
        Ok(())
    }

    pub(super) fn put_meta(&mut self, meta: &StoreMeta) -> Result<(), Error> {
        let bytes = encode("the store's row", meta)?;
        self.txn.open_table(META)?.insert(META_KEY, bytes.as_slice())?;
        Ok(())
    }
}

/// When a state row expires and how long its value is.
fn state_size(bytes: &[u8]) -> Result<(u64, usize), Error> {
    state_row(bytes).map(|row| (row.expires_ms, row.value.len()))
}

/// A state row borrows its value from the page.
pub(super) fn state_row(bytes: &[u8]) -> Result<StateRow<'_>, Error> {
    postcard::from_bytes(bytes).map_err(|_| Error::Damaged { what: "a state row", lsn: Lsn(0) })
}
