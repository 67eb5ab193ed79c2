//! What the journal's records amount to, findable: redb tables and the small index kept in memory.
//!
//! [`Tables`] is single-threaded and knows neither clock nor disk: [`Tables::check`] decides
//! whether a record may take effect, [`Tables::apply`] makes it so and can be replayed.

mod apply;
mod check;
mod claims;
mod expire;
mod file;
mod forget;
mod inactive;
mod index;
mod overflow;
mod read;
mod rows;
mod schema;

use redb::{Database, Durability, ReadableDatabase, WriteTransaction};

use crate::error::Error;
use crate::ids::{ConsumerId, Lsn, Sequence, StreamId};
use crate::limits::Limits;
use crate::record::{Op, Retention, Timestamp};

pub(crate) use claims::Resumed;
pub(crate) use file::{Ballast, TablesFile, finish};
pub use forget::Forgotten;
pub(crate) use index::Index;
pub(crate) use read::{Page, Reader, StreamView};
pub(crate) use rows::{ConsumerRow, Inactive, StateCount};
pub use rows::{Cursor, Losses, Row};
pub(crate) use schema::Writer;

/// What applying a record did, for whoever waits for it.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) published: Vec<(StreamId, Sequence)>,
    pub(crate) registered: Option<ConsumerId>,
    /// The streams that a consumer reads again.
    pub(crate) resumed: Vec<Resumed>,
    pub(crate) forgotten: Option<Forgotten>,
    /// The consumer that gave up its backlog and goes on.
    pub(crate) skipped: Option<ConsumerId>,
    /// Inactive consumers that were kept long enough, by name.
    pub(crate) given_up: Vec<(String, Forgotten)>,
}

/// The tables and their index.
pub(crate) struct Tables {
    database: std::sync::Arc<Database>,
    pub(crate) index: Index,
}

impl Tables {
    /// Opens the tables over `file` with a page cache of `cache_bytes`.
    pub(crate) fn open(file: TablesFile, cache_bytes: usize) -> Result<Self, Error> {
        let database = Database::builder().set_cache_size(cache_bytes).create_with_backend(file)?;
        schema::create(&database)?;
        let index = Index::load(&database.begin_read()?)?;
        Ok(Self { database: std::sync::Arc::new(database), index })
    }

    /// A handle for reading what has been committed, from any thread.
    pub(crate) fn reader(&self) -> Reader {
        Reader::new(self.database.clone())
    }

    /// Starts a transaction: what is applied in it is seen by readers after [`Tables::commit`].
    pub(crate) fn begin(&self) -> Result<WriteTransaction, Error> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(Durability::None)?;
        Ok(txn)
    }

    /// Makes what was applied visible, without a sync: the journal has it.
    pub(crate) fn commit(&mut self, txn: WriteTransaction) -> Result<(), Error> {
        self.index.flush(&mut Writer::new(&txn))?;
        txn.commit()?;
        Ok(())
    }

    /// Makes all that was applied up to `applied` durable in the tables' own file.
    pub(crate) fn checkpoint(&mut self, applied: Lsn, last: Timestamp) -> Result<(), Error> {
        let mut txn = self.database.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        txn.set_quick_repair(true);
        self.index.meta.applied = applied;
        self.index.meta.last = last;
        {
            let mut writer = Writer::new(&txn);
            self.index.flush(&mut writer)?;
            writer.put_meta(&self.index.meta)?;
        }
        txn.commit()?;
        Ok(())
    }

    /// Whether `ops` may take effect now; the first that may not says why.
    pub(crate) fn check(
        &self,
        writer: &mut Writer<'_>,
        ops: &[Op],
        now_ms: u64,
        limits: &Limits,
    ) -> Result<(), Error> {
        check::check(&self.index, writer, ops, now_ms, limits)
    }

    /// Makes checked or replayed operations take effect.
    pub(crate) fn apply(
        &mut self,
        writer: &mut Writer<'_>,
        lsn: Lsn,
        at: Timestamp,
        ops: &[Op],
    ) -> Result<Applied, Error> {
        apply::apply(&mut self.index, writer, lsn, at, ops)
    }

    /// Whether inactive consumers have aged since that was last written down.
    pub(crate) fn have_consumers_aged(&self, retention: &Retention, now_ms: u64) -> bool {
        inactive::has_aged(&self.index, retention, now_ms)
    }

    /// The device time at which something is over its time, in what was committed.
    pub(crate) fn next_expiry(&self, retention: &Retention) -> Result<Option<u64>, Error> {
        let expiry = self.reader().next_expiry()?;
        let unclaimed = self.index.unclaimed();
        let oldest = self.reader().oldest_of(&unclaimed)?;
        let unclaimed = oldest.map(|born_ms| born_ms.saturating_add(retention.unclaimed_ms));
        let inactive = inactive::next_due(&self.index, retention);
        Ok([expiry, unclaimed, inactive].into_iter().flatten().min())
    }
}
