//! Opening: the lock is taken, the tables are opened, the journal is replayed on top of them.

use std::io;
use std::sync::Arc;

use super::{Engine, Request, decode, space::Space};
use crate::clock::Clock;
use crate::disk::{Disk, is_full};
use crate::error::Error;
use crate::ids::{Epoch, Lsn, NodeId};
use crate::journal::{Journal, JournalError, JournalOptions, Recovery, ReplayError};
use crate::limits::Limits;
use crate::record::Op;
use crate::tables::{Tables, TablesFile, Writer};

/// The longest time off that one boot may add to device time: a clock that is years ahead when
/// the device comes up must not expire everything at once.
const MAX_OFF_MS: u64 = 7 * 24 * 3600 * 1000;

/// What a store is opened with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The node id; `None` keeps the one that the store has, or draws one for a new store.
    pub node: Option<NodeId>,
    /// Its bounds.
    pub limits: Limits,
    /// Whether it has no journal: then nothing outlives it.
    pub volatile: bool,
}

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file can't be opened or made.
    #[error(
        "the store's {file} can't be opened: {source}; check the data directory's owner, its mode, and the space left"
    )]
    Io {
        /// The file.
        file: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The disk has no room for what opening writes: what the tables lack of the journal, and who
    /// the store is.
    #[error(
        "the store can't be opened, as the disk is full ({free} bytes are free): free some space; nothing of the store is lost"
    )]
    DiskFull {
        /// Bytes free.
        free: u64,
    },
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The tables can't be read.
    #[error(
        "the store's tables can't be opened: {0}; nothing was deleted: restore the data directory from a copy, or move it away to start empty"
    )]
    Tables(#[source] Error),
    /// The tables hold nothing, and the journal goes on from what they held.
    #[error(
        "the store's tables can't be opened: they hold nothing, and the journal begins at record {first}, after what they held; nothing was deleted: restore the data directory from a copy, or move it away to start empty"
    )]
    TablesLost {
        /// The first record that the journal has.
        first: Lsn,
    },
}

impl OpenError {
    fn is_full(&self) -> bool {
        match self {
            Self::Journal(JournalError::DiskFull { .. }) | Self::Tables(Error::DiskFull { .. }) => {
                true
            }
            Self::Io { source, .. } => is_full(source),
            _ => false,
        }
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self::Tables(error)
    }
}

impl Engine {
    /// Opens or creates a store on `disk`.
    ///
    /// # Errors
    ///
    /// When files can't be opened, or hold what this version can't read, or the disk is full;
    /// nothing is deleted then.
    pub fn open(
        options: Options,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let (space, file) = Space::open(&*disk, options.limits.reserve_bytes)
            .map_err(|source| OpenError::Io { file: "tables", source })?;
        let ballast = space.ballast();
        let volume = Arc::clone(&disk);
        let full = || OpenError::DiskFull { free: volume.free_bytes().unwrap_or(0) };
        if ballast.is_empty() {
            // Its first write would end it.
            return Err(full());
        }
        Self::open_in(options, disk, clock, space, file)
            .map_err(|error| if ballast.is_spent() || error.is_full() { full() } else { error })
    }

    fn open_in(
        options: Options,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        space: Space,
        file: TablesFile,
    ) -> Result<Self, OpenError> {
        let Options { node, limits, volatile } = options;
        let mut tables = Tables::open(file, limits.cache_bytes)?;
        crate::tables::finish(&*disk).map_err(|source| OpenError::Io { file: "tables", source })?;
        let applied = tables.index.meta.applied;
        let mut last = tables.index.meta.last;
        let (journal, recovery) = if volatile {
            (None, Recovery::default())
        } else {
            let options = JournalOptions { segment_bytes: limits.segment_bytes };
            let (journal, recovery) = replay(&disk, options, applied, &mut tables, &mut last)?;
            (Some(journal), recovery)
        };
        let next = journal.as_ref().map_or(applied.next(), Journal::next_lsn);
        let lost = recovery.is_lossy();
        let now = clock.read().up_ms;
        let mut engine = Self {
            journal,
            tables,
            disk,
            clock,
            space,
            crowding: super::crowding::Crowding::default(),
            place: super::place::Watch::default(),
            limits,
            poisoned: None,
            buffer: Vec::new(),
            next,
            unsaved_since: (recovery.replayed > 0).then_some(now),
            sweep_at: Some(now),
            last,
            recovery,
        };
        engine.report();
        engine.introduce(node, lost)?;
        engine.checkpoint();
        match &engine.poisoned {
            Some(cause) if engine.space.is_spent() => {
                Err(Error::Poisoned { cause: cause.clone() }.into())
            }
            _ => Ok(engine),
        }
    }

    /// Writes down who the store is and which boot it is in, where that is news. Where acknowledged
    /// records are lost this is another life: the sequences of lost messages are given again, and
    /// the far side may know them.
    fn introduce(&mut self, node: Option<NodeId>, lost: bool) -> Result<(), Error> {
        let meta = &self.tables.index.meta;
        let mut ops = Vec::new();
        let named = node.unwrap_or_else(|| meta.node.clone());
        if meta.epoch == Epoch(0) || named != meta.node || lost {
            let drawn = || NodeId(uuid::Uuid::new_v4().to_string());
            let node = if named.0.is_empty() { drawn() } else { named };
            ops.push(Op::Create { node, epoch: Epoch(fastrand::u32(1..)) });
        }
        let id = self.clock.boot_id();
        if meta.boot_id != id {
            ops.push(Op::Boot { id, base_ms: self.base_of_new_boot() });
        }
        if self.tables.index.consumers.values().any(|row| row.inactive.is_some()) {
            ops.push(Op::Resume);
        }
        if ops.is_empty() {
            return Ok(());
        }
        self.commit(&[Request { ops, durable: true }]).remove(0).map(|_| ())
    }

    /// Device time goes on from the last record; the time off counts only between two moments
    /// at which the wall clock was believed.
    fn base_of_new_boot(&self) -> u64 {
        let meta = &self.tables.index.meta;
        if meta.boot == 0 {
            return 0;
        }
        let now = self.clock.read();
        let booted_at = now.wall_ms.saturating_sub_unsigned(now.up_ms);
        let off = booted_at.saturating_sub(self.last.wall_ms);
        let off = u64::try_from(off).unwrap_or(0).min(MAX_OFF_MS);
        let counted = if now.believed && self.last.believed { off } else { 0 };
        meta.base_ms.saturating_add(self.last.up_ms).saturating_add(counted)
    }

    fn report(&self) {
        for damage in &self.recovery.damage {
            tracing::error!(
                file = damage.file,
                offset = damage.offset,
                bytes = damage.bytes,
                from = %damage.from_lsn,
                set_aside = damage.set_aside,
                "journal is damaged, the damaged part was set aside"
            );
        }
        if let Some(torn) = &self.recovery.torn_tail {
            tracing::info!(
                file = torn.file,
                bytes = torn.bytes,
                "journal ended in a write that was never acknowledged"
            );
        }
        if self.recovery.replayed > 0 {
            tracing::info!(records = self.recovery.replayed, "journal was replayed");
        }
    }
}

/// Applies what the tables' file doesn't hold yet.
fn replay(
    disk: &Arc<dyn Disk>,
    options: JournalOptions,
    applied: Lsn,
    tables: &mut Tables,
    last: &mut crate::record::Timestamp,
) -> Result<(Journal, Recovery), OpenError> {
    let txn = tables.begin()?;
    let mut lost = None;
    let opened = {
        let mut writer = Writer::new(&txn);
        Journal::open(disk.clone(), options, applied, &mut |lsn, payload| {
            if applied == Lsn(0) && tables.index.meta.epoch == Epoch(0) && lsn > Lsn(1) {
                lost = Some(lsn);
                return Err(ReplayError::new("what it builds on is missing"));
            }
            let record = decode(payload).map_err(ReplayError::new)?;
            *last = record.at;
            tables
                .apply(&mut writer, lsn, record.at, &record.ops)
                .map(|_| ())
                .map_err(ReplayError::new)
        })
    };
    if let Some(first) = lost {
        return Err(OpenError::TablesLost { first });
    }
    let opened = opened?;
    tables.commit(txn)?;
    Ok(opened)
}
