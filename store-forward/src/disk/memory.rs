//! A disk in memory, for components that keep nothing and for tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Disk, DiskFile};

/// Bytes of a page, the unit in which memory is taken: a page of zeros takes none until
/// something else is written to it.
const PAGE: usize = 4096;

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

    /// Memory has no quota of its own: the store's limits bound what is written.
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[derive(Debug, Default)]
struct MemoryFile(RwLock<Content>);

#[derive(Debug, Default)]
struct Content {
    len: u64,
    /// An absent page is zeros.
    pages: Vec<Option<Box<[u8; PAGE]>>>,
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if end(offset, out.len())? > content.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            let (page, within) = place(offset + done as u64)?;
            let piece = (PAGE - within).min(out.len() - done);
            match content.pages.get(page).and_then(Option::as_ref) {
                Some(bytes) => {
                    out[done..done + piece].copy_from_slice(&bytes[within..within + piece]);
                }
                None => out[done..done + piece].fill(0),
            }
            done += piece;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut content = self.0.write().unwrap_or_else(PoisonError::into_inner);
        content.len = content.len.max(end(offset, data.len())?);
        let mut done = 0;
        while done < data.len() {
            let (page, within) = place(offset + done as u64)?;
            let piece = &data[done..data.len().min(done + PAGE - within)];
            content.write_page(page, within, piece);
            done += piece.len();
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut content = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if len < content.len {
            let (page, within) = place(len)?;
            content.pages.truncate(page + 1);
            if let Some(Some(bytes)) = content.pages.get_mut(page) {
                bytes[within..].fill(0);
            }
        }
        content.len = len;
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut content = self.0.write().unwrap_or_else(PoisonError::into_inner);
        content.len = content.len.max(offset.saturating_add(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Content {
    fn write_page(&mut self, page: usize, within: usize, piece: &[u8]) {
        let absent = self.pages.get(page).is_none_or(Option::is_none);
        if absent && piece.iter().all(|byte| *byte == 0) {
            return;
        }
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let bytes = self.pages[page].get_or_insert_with(|| Box::new([0; PAGE]));
        bytes[within..within + piece.len()].copy_from_slice(piece);
    }
}

/// The page that an offset lies in, and where in it.
fn place(offset: u64) -> io::Result<(usize, usize)> {
    let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
    Ok((offset / PAGE, offset % PAGE))
}

fn end(offset: u64, len: usize) -> io::Result<u64> {
    offset.checked_add(len as u64).ok_or_else(|| io::ErrorKind::FileTooLarge.into())
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
    fn zeros_take_no_memory() {
        let file = MemoryFile::default();
        file.allocate(0, 1 << 40).unwrap();
        file.write_at(1 << 30, &[0; 100_000]).unwrap();
        assert!(file.0.read().unwrap().pages.is_empty());
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
