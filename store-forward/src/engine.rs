//! One synchronous step of the store: check, apply, journal, sync, commit.
//!
//! A batch is applied in an open transaction first, so that what is refused never reaches the
//! journal; the journal is synced; then the transaction commits and readers see it. Nothing is
//! visible that is not durable, and nothing is answered that is not visible.

mod crowding;
mod open;
mod place;
mod space;
#[cfg(feature = "simulation")]
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::error::{Error, TablesError};
use crate::ids::{ConsumerId, Lsn, Sequence, StreamId};
use crate::journal::{Journal, JournalError, Recovery};
use crate::limits::Limits;
use crate::record::{Op, Record, Timestamp};
use crate::tables::{Applied, Forgotten, Reader, Resumed, Tables, Writer};

pub use open::{OpenError, Options};
#[cfg(feature = "simulation")]
pub use view::{ConsumerFacts, StateFacts, StreamFacts};

/// Rows and messages that one record of the sweeper takes: bounds its transaction.
const EXPIRE_AT_ONCE: u32 = 1000;
/// Bytes of one commit: what callers wait for together.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// How soon after a write the engine looks for what is over its time.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What is asked of the engine: operations that take effect together.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub ops: Vec<Op>,
    /// Whether the answer must wait for the disk. Acknowledgements need not: losing one costs a
    /// repeat.
    pub durable: bool,
}

impl Request {
    /// About how many bytes it brings.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |op: &Op| match op {
            Op::Set { value, .. } => value.len(),
            Op::Publish { message, .. } => message.data.len(),
            _ => 0,
        };
        self.ops.iter().map(bytes).sum()
    }
}

/// What a commit did.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// The record's place in the journal, and the entity tag of the rows it set.
    pub lsn: Lsn,
    /// Where its messages went, in their order.
    pub published: Vec<Published>,
    /// The consumer that it registered.
    pub registered: Option<ConsumerId>,
    /// What became of the backlog that it gave up.
    pub forgotten: Option<Forgotten>,
    /// The consumer that gave up its backlog and goes on.
    pub(crate) skipped: Option<ConsumerId>,
    /// The streams that the consumer reads again.
    pub(crate) resumed: Vec<Resumed>,
}

/// Where a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The stream.
    pub stream: StreamId,
    /// Its place there.
    pub sequence: Sequence,
}

/// The store without threads and waiting.
pub struct Engine {
    journal: Option<Journal>,
    tables: Tables,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    space: space::Space,
    crowding: crowding::Crowding,
    place: place::Watch,
    limits: Limits,
    poisoned: Option<String>,
    buffer: Vec<u8>,
    /// Where the next record goes when there is no journal to say so.
    next: Lsn,
    /// Since when records are missing in the tables' file, by time since boot.
    unsaved_since: Option<u64>,
    /// When to look for what is over its time, by time since boot.
    sweep_at: Option<u64>,
    last: Timestamp,
    recovery: Recovery,
}

impl Engine {
    /// Commits requests in their order with one sync for all of them.
    ///
    /// # Errors
    ///
    /// Each request has its own; after a failed write or sync all of them, and all later ones, get
    /// [`Error::Poisoned`].
    pub fn commit(&mut self, requests: &[Request]) -> Vec<Result<Committed, Error>> {
        let refused = |error: &Error| requests.iter().map(|_| Err(error.clone())).collect();
        if let Some(cause) = &self.poisoned {
            return refused(&Error::Poisoned { cause: cause.clone() });
        }
        let place = self.check_place_before_write();
        let space = place.and_then(|()| self.make_space());
        match space.and_then(|full| self.try_commit(requests, full.as_ref())) {
            Ok(answers) => answers,
            Err(error) => refused(&self.poison(&error)),
        }
    }

    /// A handle for reading what has been committed.
    pub(crate) fn reader(&self) -> Reader {
        self.tables.reader()
    }

    pub(crate) fn index(&self) -> &crate::tables::Index {
        &self.tables.index
    }

    /// What opening found in the journal.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Why the engine refuses to write, once it does.
    #[must_use]
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Bytes on disk: journal, tables, and what is held back.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let journal = self.journal.as_ref().map_or(0, Journal::disk_bytes);
        journal + self.space.tables_bytes() + self.space.reserve_bytes()
    }

    /// How long until [`Engine::maintain`] has something to do; `None` for an idle engine.
    #[must_use]
    pub fn due_in(&self) -> Option<Duration> {
        if self.poisoned.is_some() {
            return None;
        }
        let interval = millis(self.limits.checkpoint_interval);
        let save = self.unsaved_since.map(|since| since.saturating_add(interval));
        let due = [save, self.sweep_at, self.place.due_at()].into_iter().flatten().min()?;
        Some(Duration::from_millis(due.saturating_sub(self.clock.read().up_ms)))
    }

    /// Takes what is over its time, and checkpoints when that is due. Says what went to dead
    /// letter topics.
    pub fn maintain(&mut self) -> Vec<Published> {
        if self.poisoned.is_some() {
            return Vec::new();
        }
        let now = self.clock.read().up_ms;
        if let Err(error) = self.check_place_when_due(now) {
            self.poison(&error);
            return Vec::new();
        }
        let letters = match self.sweep_at {
            Some(at) if at <= now => self.sweep(now),
            _ => Vec::new(),
        };
        if self.checkpoint_is_due(now) {
            self.checkpoint();
        }
        letters
    }

    /// Makes everything durable in the tables' own file, so that the journal starts afresh.
    pub fn checkpoint(&mut self) {
        if self.poisoned.is_some() {
            return;
        }
        if let Err(error) = self.try_checkpoint() {
            self.poison(&error);
        }
    }

    /// Writes down what is not in the tables' own file, before the store is closed.
    pub(crate) fn close(&mut self) {
        let (retention, now_ms) =
            (self.limits.retention(), self.tables.index.device_ms(self.clock.read().up_ms));
        if self.tables.have_consumers_aged(&retention, now_ms) {
            let ops = vec![Op::Expire { limit: EXPIRE_AT_ONCE, retention }];
            self.commit(&[Request { ops, durable: false }]);
        }
        self.checkpoint();
    }

    fn try_commit(
        &mut self,
        requests: &[Request],
        full: Option<&Error>,
    ) -> Result<Vec<Result<Committed, Error>>, Error> {
        let at = self.now();
        let first = self.next;
        let txn = self.tables.begin()?;
        let mut answers = Vec::with_capacity(requests.len());
        {
            let mut writer = Writer::new(&txn);
            for request in requests {
                answers.push(match self.admit(&mut writer, at, &request.ops, full) {
                    Ok(()) => Ok(self.apply(&mut writer, at, &request.ops)?),
                    Err(error @ Error::Tables(_)) => return Err(error),
                    Err(error) => Err(self.crowding.explain(error, &self.tables.index, at.up_ms)),
                });
            }
        }
        if self.next == first {
            txn.abort()?;
            return Ok(answers);
        }
        // A message may be delivered once it is visible: its number must not be given again.
        let publishes = answers.iter().flatten().any(|done| !done.published.is_empty());
        self.make_durable(publishes || requests.iter().any(|request| request.durable))?;
        self.tables.commit(txn)?;
        self.unsaved_since.get_or_insert(at.up_ms);
        // What was written may be over its time before what the sweeper waits for.
        let soon = at.up_ms + millis(SWEEP_INTERVAL);
        self.sweep_at = Some(self.sweep_at.map_or(soon, |sweep_at| sweep_at.min(soon)));
        Ok(answers)
    }

    /// Whether a request may take effect; its record is in the journal's buffer then.
    fn admit(
        &mut self,
        writer: &mut Writer<'_>,
        at: Timestamp,
        ops: &[Op],
        full: Option<&Error>,
    ) -> Result<(), Error> {
        if let Some(full) = full.filter(|_| ops.iter().any(grows)) {
            return Err(full.clone());
        }
        let now_ms = self.tables.index.device_ms(at.up_ms);
        self.tables.check(writer, ops, now_ms, &self.limits)?;
        if ops.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        self.buffer = postcard::to_extend(&(at, ops), std::mem::take(&mut self.buffer))
            .map_err(|source| TablesError::Encode { what: "a record", source })?;
        self.append()
    }

    /// Appends the record in the buffer to the journal.
    fn append(&mut self) -> Result<(), Error> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        match journal.append(&self.buffer) {
            Ok(_) => Ok(()),
            Err(JournalError::TooLarge { bytes, limit }) => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let what = "all that is to be written at once";
                Err(Error::TooLarge { what, bytes, limit, setting: "spec.limits.journalSegment" })
            }
            Err(error) => Err(self.journal_error(error)),
        }
    }

    /// Makes the record that was just appended take effect.
    fn apply(
        &mut self,
        writer: &mut Writer<'_>,
        at: Timestamp,
        ops: &[Op],
    ) -> Result<Committed, Error> {
        if ops.is_empty() {
            let lsn = Lsn(self.next.0.saturating_sub(1));
            return Ok(Committed { lsn, ..Committed::default() });
        }
        let lsn = self.next;
        self.next = lsn.next();
        self.last = at;
        let applied = self.tables.apply(writer, lsn, at, ops)?;
        let Applied { published, registered, resumed, forgotten, skipped, given_up } = applied;
        for (consumer, Forgotten { deleted, kept }) in given_up {
            tracing::warn!(
                consumer,
                deleted,
                kept_for_others = kept,
                "retention of an inactive consumer is over, its backlog was deleted"
            );
        }
        let published =
            published.into_iter().map(|(stream, sequence)| Published { stream, sequence });
        let published = published.collect();
        Ok(Committed { lsn, published, registered, forgotten, skipped, resumed })
    }

    fn sweep(&mut self, now: u64) -> Vec<Published> {
        let mut letters = Vec::new();
        if self.next_expiry().is_some_and(|at| at <= now) {
            let retention = self.limits.retention();
            let ops = vec![Op::Expire { limit: EXPIRE_AT_ONCE, retention }];
            for answer in self.commit(&[Request { ops, durable: false }]) {
                letters.extend(answer.into_iter().flat_map(|done| done.published));
            }
        }
        self.sweep_at = self.next_expiry();
        letters
    }

    fn make_durable(&mut self, synced: bool) -> Result<(), Error> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let done = if synced { journal.sync() } else { journal.flush() };
        Ok(done.map_err(TablesError::Journal)?)
    }

    fn try_checkpoint(&mut self) -> Result<(), Error> {
        if self.unsaved_since.is_none() {
            return Ok(());
        }
        self.make_durable(true)?;
        let applied = Lsn(self.next.0.saturating_sub(1));
        self.tables.checkpoint(applied, self.last)?;
        self.unsaved_since = None;
        self.space.renew()?;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        Ok(journal.checkpointed(applied).map_err(TablesError::Journal)?)
    }

    fn checkpoint_is_due(&self, now: u64) -> bool {
        let interval = millis(self.limits.checkpoint_interval);
        let grown = self.journal.as_ref().map_or(0, Journal::bytes_since_checkpoint);
        grown >= self.limits.checkpoint_bytes
            || self.unsaved_since.is_some_and(|since| now.saturating_sub(since) >= interval)
    }

    /// When something is over its time, by time since boot. A failed read is tried again.
    fn next_expiry(&self) -> Option<u64> {
        match self.tables.next_expiry(&self.limits.retention()) {
            Ok(at_ms) => at_ms.map(|ms| ms.saturating_sub(self.tables.index.meta.base_ms)),
            Err(error) => {
                tracing::error!(%error, "failed to find expired messages");
                Some(self.clock.read().up_ms + millis(SWEEP_INTERVAL))
            }
        }
    }

    /// Bytes that one commit may bring: the current journal segment and the one that stands ready
    /// hold it, so that a disk that fills up meanwhile can't fail it half way.
    pub(crate) fn batch_bytes(&self) -> usize {
        usize::try_from(self.limits.segment_bytes / 4).unwrap_or(usize::MAX).min(MAX_BATCH_BYTES)
    }

    fn now(&self) -> Timestamp {
        let reading = self.clock.read();
        Timestamp {
            wall_ms: reading.wall_ms,
            boot: self.tables.index.meta.boot,
            up_ms: reading.up_ms,
            believed: reading.believed,
        }
    }

    /// After a failed write or sync nobody knows what the disk holds: nothing more is written.
    fn poison(&mut self, error: &Error) -> Error {
        let cause = match error {
            Error::Tables(cause) => cause.to_string(),
            other => other.to_string(),
        };
        if self.poisoned.is_none() {
            tracing::error!(%cause, "store refuses writes until it is restarted");
        }
        Error::Poisoned { cause: self.poisoned.get_or_insert(cause).clone() }
    }
}

/// What no checkpoint covers is left to the journal.
impl Drop for Engine {
    fn drop(&mut self) {
        if self.unsaved_since.is_some() || self.poisoned.is_some() {
            self.space.seal();
        }
    }
}

/// A record as it is decoded from the journal.
fn decode(payload: &[u8]) -> Result<Record, postcard::Error> {
    postcard::from_bytes(payload)
}

/// Whether an operation needs room. Those that give some back work on a full disk, and so do those
/// that a consumer needs to come up and drain it.
fn grows(op: &Op) -> bool {
    matches!(op, Op::Set { .. } | Op::Publish { .. })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
