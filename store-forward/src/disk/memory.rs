//! A disk in memory, for components that keep nothing and for tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::pages::Pages;
use super::{Disk, DiskFile};

/// Files in memory. They are gone with it, and syncing does nothing.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<MemoryFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::<MemoryFile>::clone(self.files().entry(name.to_owned()).or_default()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn check_place(&self) -> Result<(), String> {
        Ok(())
    }

    /// Memory has no quota of its own: the store's limits bound what is written.
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[derive(Debug, Default)]
struct MemoryFile(RwLock<Pages>);

impl MemoryFile {
    fn pages(&self) -> RwLockReadGuard<'_, Pages> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn pages_mut(&self) -> RwLockWriteGuard<'_, Pages> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.pages().len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.pages().read(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.pages_mut().write(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.pages_mut().set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.pages_mut().extend(offset.saturating_add(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn reload(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_across_pages_is_read_back_between_zeros() {
        let disk = MemoryDisk::new();
        let file = disk.open("a").unwrap();
        let data: Vec<u8> = (0..10_000_u32).map(|i| i.to_le_bytes()[0] | 1).collect();
        file.write_at(5000, &data).unwrap();
        let mut bytes = vec![9; 15_000];
        disk.open("a").unwrap().read_at(0, &mut bytes).unwrap();
        assert!(bytes[..5000].iter().all(|byte| *byte == 0));
        assert_eq!(&bytes[5000..], data);
        let past = file.read_at(14_999, &mut [0; 2]).unwrap_err();
        assert_eq!(past.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_file_that_was_cut_and_extended_has_zeros_there() {
        let disk = MemoryDisk::new();
        let file = disk.open("a").unwrap();
        file.write_at(0, &[7; 9000]).unwrap();
        file.set_len(4100).unwrap();
        file.allocate(0, 9000).unwrap();
        let mut bytes = vec![9; 9000];
        file.read_at(0, &mut bytes).unwrap();
        assert!(bytes[..4100].iter().all(|byte| *byte == 7));
        assert!(bytes[4100..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn files_are_listed_renamed_and_removed() {
        let disk = MemoryDisk::new();
        disk.open("a").unwrap().write_at(0, b"x").unwrap();
        disk.rename("a", "b").unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        assert_eq!(disk.open("b").unwrap().len().unwrap(), 1);
        disk.remove("b").unwrap();
        assert_eq!(disk.remove("b").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
