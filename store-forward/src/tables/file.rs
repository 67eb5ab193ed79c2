//! redb's file on the disk seam, with the ballast that keeps a full disk from breaking it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::StorageBackend;

use crate::disk::{Disk, DiskFile, is_full};

/// The tables' file.
pub(crate) const TABLES: &str = "tables.redb";
/// Its name until it is whole: redb refuses a file whose creation was cut short.
const UNFINISHED: &str = "tables.new";
/// Blocks held back: redb can't go on after a failed write, so a write that finds the disk full
/// gets some of these.
const BALLAST: &str = "reserve";
/// Pieces in which they are given away: whoever else fills the disk gets hold of one of them at
/// most, and not of all.
const PIECES: u64 = 16;

/// Space held back on the disk.
#[derive(Debug)]
pub(crate) struct Ballast {
    file: Option<Arc<dyn DiskFile>>,
    bytes: u64,
    /// Bytes that are not given away.
    held: AtomicU64,
    /// The disk refused room, and there was nothing left to give.
    is_spent: AtomicBool,
}

impl Ballast {
    /// Holds back `bytes`; where there is no room for it that is tried again by [`Ballast::renew`].
    pub(crate) fn open(disk: &dyn Disk, bytes: u64) -> io::Result<Arc<Self>> {
        let file = (bytes > 0).then(|| disk.open(BALLAST)).transpose()?;
        let len = file.as_ref().map_or(Ok(0), |file| file.len())?;
        let held = AtomicU64::new(len.min(bytes));
        let ballast = Self { file, bytes, held, is_spent: AtomicBool::default() };
        ballast.renew()?;
        Ok(Arc::new(ballast))
    }

    /// Whether something could not be written for want of room.
    pub(crate) fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Acquire)
    }

    /// Tries to hold the space back, again, piece by piece; says whether all of it is held.
    ///
    /// # Errors
    /// When the disk fails for another reason than that it is full.
    pub(crate) fn renew(&self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(true) };
        let before = self.held.load(Ordering::Acquire);
        let mut held = before;
        while held < self.bytes {
            let more = (held + self.piece()).min(self.bytes);
            match file.allocate(0, more) {
                Ok(()) => held = more,
                Err(error) if is_full(&error) => {
                    // What was half taken goes back at once.
                    file.set_len(held)?;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if held > before {
            file.sync()?;
            self.held.store(held, Ordering::Release);
        }
        Ok(held == self.bytes)
    }

    /// Whether there is nothing to give to a write that finds the disk full.
    pub(crate) fn is_empty(&self) -> bool {
        self.file.is_some() && self.held.load(Ordering::Acquire) == 0
    }

    /// Gives a piece away; says whether there was one.
    fn give(&self) -> bool {
        let held = self.held.load(Ordering::Acquire);
        let left = held.saturating_sub(self.piece());
        let given = self.file.as_ref().is_some_and(|file| held > 0 && file.set_len(left).is_ok());
        if given {
            self.held.store(left, Ordering::Release);
        }
        given
    }

    fn piece(&self) -> u64 {
        self.bytes.div_ceil(PIECES)
    }
}

/// redb's storage backend over a [`DiskFile`].
#[derive(Debug)]
pub(crate) struct TablesFile {
    file: Arc<dyn DiskFile>,
    /// Kept here: it is asked for at each commit.
    len: Arc<AtomicU64>,
    ballast: Arc<Ballast>,
    sealed: Arc<AtomicBool>,
}

/// Gives new tables their name, once they are whole and durable.
pub(crate) fn finish(disk: &dyn Disk) -> io::Result<()> {
    if disk.list()?.iter().any(|name| name == UNFINISHED) {
        disk.rename(UNFINISHED, TABLES)?;
        disk.sync_dir()?;
    }
    Ok(())
}

impl TablesFile {
    /// Opens the tables' file, or begins a new one that [`finish`] names.
    pub(crate) fn open(disk: &dyn Disk, ballast: Arc<Ballast>) -> io::Result<Self> {
        let names = disk.list()?;
        if names.iter().any(|name| name == UNFINISHED) {
            // It never had the name under which it is used, so there is nothing in it.
            disk.remove(UNFINISHED)?;
        }
        let begun = names.iter().any(|name| name == TABLES) && disk.open(TABLES)?.len()? > 0;
        let file = disk.open(if begun { TABLES } else { UNFINISHED })?;
        // The last life may have ended because a sync failed.
        file.reload()?;
        disk.sync_dir()?;
        let len = Arc::new(AtomicU64::new(file.len()?));
        Ok(Self { file, len, ballast, sealed: Arc::default() })
    }

    /// What ends all writing once it is set: redb would otherwise save, when it is dropped, commits
    /// that the journal has and the tables' own `applied` doesn't count, and they would be replayed
    /// on top of themselves.
    pub(crate) fn seal(&self) -> Arc<AtomicBool> {
        self.sealed.clone()
    }

    fn usable(&self) -> io::Result<()> {
        match self.sealed.load(Ordering::Acquire) {
            true => Err(io::Error::other("the store is closed")),
            false => Ok(()),
        }
    }

    /// The file's length, as it changes.
    pub(crate) fn watch_len(&self) -> Arc<AtomicU64> {
        self.len.clone()
    }

    /// Tries again with the ballast's blocks where the disk is full.
    fn with_ballast(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let full = |result: &io::Result<()>| result.as_ref().is_err_and(is_full);
        let mut result = write();
        while full(&result) && self.ballast.give() {
            tracing::warn!("disk is full, the tables use space held back for it");
            result = write();
        }
        if full(&result) {
            self.ballast.is_spent.store(true, Ordering::Release);
        }
        result
    }
}

impl StorageBackend for TablesFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.usable()?;
        self.with_ballast(|| self.file.set_len(len))?;
        self.len.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.usable()?;
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.usable()?;
        self.with_ballast(|| self.file.write_at(offset, data))?;
        self.len.fetch_max(offset + data.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}
