//! Room on the disk: what is held back, and when to refuse what needs more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Engine;
use crate::disk::Disk;
use crate::error::{Error, TablesError};
use crate::journal::{Journal, JournalError};
use crate::tables::{Ballast, TablesFile};

/// The tables' file and the space held back for it.
pub(super) struct Space {
    tables_len: Arc<AtomicU64>,
    tables_seal: Arc<AtomicBool>,
    ballast: Arc<Ballast>,
    reserve: u64,
}

impl Space {
    pub(super) fn open(disk: &dyn Disk, reserve: u64) -> io::Result<(Self, TablesFile)> {
        let ballast = Ballast::open(disk, reserve)?;
        let tables = TablesFile::open(disk, ballast.clone())?;
        let (tables_len, tables_seal) = (tables.watch_len(), tables.seal());
        Ok((Self { tables_len, tables_seal, ballast, reserve }, tables))
    }

    pub(super) fn ballast(&self) -> Arc<Ballast> {
        self.ballast.clone()
    }

    /// The tables' file stays as it is from now on.
    pub(super) fn seal(&self) {
        self.tables_seal.store(true, Ordering::Release);
    }

    pub(super) fn tables_bytes(&self) -> u64 {
        self.tables_len.load(Ordering::Relaxed)
    }

    pub(super) fn reserve_bytes(&self) -> u64 {
        self.reserve
    }

    /// Tries to hold the space back, again; says whether it is held.
    pub(super) fn renew(&self) -> Result<bool, Error> {
        Ok(self.ballast.renew().map_err(TablesError::Reserve)?)
    }

    /// Whether something could not be written for want of room.
    pub(super) fn is_spent(&self) -> bool {
        self.ballast.is_spent()
    }
}

impl Engine {
    /// Why what needs room is refused now, if it is.
    pub(super) fn make_space(&mut self) -> Result<Option<Error>, Error> {
        if let Err(error) = self.reserve_journal() {
            return if error.is_full() { Ok(Some(error)) } else { Err(error) };
        }
        if self.journal.is_some() && !self.space.renew()? && !self.has_room_inside() {
            return Ok(Some(self.disk_is_full()));
        }
        Ok(self.node_is_full())
    }

    /// A segment stands ready behind the current one; where none can be made, a checkpoint frees one.
    fn reserve_journal(&mut self) -> Result<(), Error> {
        let ready =
            |journal: &mut Option<Journal>| journal.as_mut().map_or(Ok(()), Journal::reserve);
        if ready(&mut self.journal).is_ok() {
            return Ok(());
        }
        self.try_checkpoint()?;
        ready(&mut self.journal).map_err(|error| self.journal_error(error))
    }

    /// What the journal refused, in our words: only what is full may be tried again.
    pub(super) fn journal_error(&self, error: JournalError) -> Error {
        match error {
            JournalError::DiskFull { .. } => self.disk_is_full(),
            JournalError::TooManyFiles { .. } => Error::TooManyFiles,
            other => TablesError::Journal(other).into(),
        }
    }

    fn disk_is_full(&self) -> Error {
        let free = self.disk.free_bytes().unwrap_or(0);
        Error::DiskFull { free, reserve: self.space.reserve, holder: None }
    }

    /// Whether the tables' file has so much free inside that it need not grow: it keeps its size when
    /// it is drained, and on a disk that it has filled nothing else could ever be held back again.
    /// Three quarters count as free only, as rows take more than what is in them.
    fn has_room_inside(&self) -> bool {
        let alive = self.tables.index.live_bytes();
        // Pages that were freed since the last checkpoint can't be used yet.
        let soon = self.limits.checkpoint_bytes.saturating_mul(2);
        let needed = alive.saturating_mul(4).saturating_add(soon);
        needed.saturating_add(self.space.reserve) <= self.space.tables_bytes()
    }

    /// The file keeps its size when it is drained, and its free pages are used again: so the limit
    /// counts the file, and yields where what is alive in it leaves a third of it free.
    fn node_is_full(&self) -> Option<Error> {
        let used = self.disk_bytes();
        let limit = self.limits.disk_bytes;
        let alive = self.tables.index.live_bytes();
        (used >= limit && alive + alive / 2 >= limit).then_some(Error::NodeFull {
            used,
            limit,
            holder: None,
        })
    }
}
