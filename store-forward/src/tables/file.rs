//! redb's file on the disk seam, with the ballast that keeps a full disk from breaking it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::StorageBackend;

use crate::disk::{Disk, DiskFile};

/// The tables' file.
pub(crate) const TABLES: &str = "tables.redb";
/// Its name until it is whole: redb refuses a file whose creation was cut short.
const UNFINISHED: &str = "tables.new";
/// Blocks held back: redb can't go on after a failed write, so a write that finds the disk full
/// gets these.
const BALLAST: &str = "reserve";

/// Space held back on the disk.
#[derive(Debug)]
pub(crate) struct Ballast {
    file: Option<Arc<dyn DiskFile>>,
    bytes: u64,
    held: AtomicBool,
}

impl Ballast {
    /// Holds back `bytes`; where there is no room for it that is tried again by [`Ballast::renew`].
    pub(crate) fn open(disk: &dyn Disk, bytes: u64) -> io::Result<Arc<Self>> {
        let file = (bytes > 0).then(|| disk.open(BALLAST)).transpose()?;
        let ballast = Self { file, bytes, held: AtomicBool::new(false) };
        ballast.renew();
        Ok(Arc::new(ballast))
    }

    /// Whether the space is held back.
    fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire) || self.file.is_none()
    }

    /// Tries to hold the space back, again; says whether it is held.
    pub(crate) fn renew(&self) -> bool {
        let Some(file) = &self.file else { return true };
        if self.is_held() {
            return true;
        }
        let whole = file.len().is_ok_and(|len| len == self.bytes);
        if !whole && file.allocate(0, self.bytes).is_err() {
            // What was half taken goes back at once.
            let _ = file.set_len(0);
            return false;
        }
        self.held.store(true, Ordering::Release);
        true
    }

    fn release(&self) -> bool {
        let Some(file) = &self.file else { return false };
        self.held.swap(false, Ordering::AcqRel) && file.set_len(0).is_ok()
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
        match write() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && self.ballast.release() => {
                tracing::warn!("disk is full, the tables use the space held back for it");
                write()
            }
            result => result,
        }
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
