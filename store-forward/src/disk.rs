//! The disk seam: one flat directory of files, on the operating system's disk or in memory.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

mod memory;
mod os;
mod pages;
#[cfg(any(test, feature = "simulation"))]
mod simulated;

pub use memory::MemoryDisk;
pub(crate) use os::LOCK;
pub use os::{DiskError, OsDisk};
#[cfg(any(test, feature = "simulation"))]
pub use simulated::{Cut, SimulatedDisk};

/// One flat directory of files that nobody else writes to.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file for reading and writing, creating it when absent (mode 0600). A new file's
    /// directory entry is durable only after [`Disk::sync_dir`].
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// The names of the plain files, in no particular order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Removes a file; durable only after [`Disk::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Renames a file, replacing what had the new name; durable only after [`Disk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes creations, removals and renames durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Checks that the directory is still where it was opened. A process whose directory is removed
    /// or replaced goes on writing to files that nobody finds again.
    ///
    /// # Errors
    /// In words, when it is not; a disk that can't tell is no error.
    fn check_place(&self) -> Result<(), String>;
    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file.
pub trait DiskFile: Send + Sync + Debug + 'static {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `out` from `offset` on; `UnexpectedEof` when the file ends before that.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes all of `data` at `offset`, extending the file as needed.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves blocks, so that a full disk is met here and not at a later write; extends the
    /// length with zeros and leaves what is there. Where the file system can't, zeros are written.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Makes the contents and the length durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Makes what was written durable and gives up cached copies: what is read from now on is what
    /// the disk has. After a sync that failed the cache may hold what never reached the disk, and no
    /// later sync brings it there.
    fn reload(&self) -> io::Result<()>;
}

/// Whether the disk said that it has no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
