//! A disk for tests that forgets, in a crash, what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};

/// Bytes that a device writes whole or not at all.
const SECTOR: usize = 512;

type Files = BTreeMap<String, Arc<CrashingFile>>;

/// Files in memory that know which of their bytes, and which of their names, were synced.
#[derive(Debug, Default)]
pub(crate) struct CrashingDisk {
    names: Mutex<Names>,
    device: Arc<Device>,
}

#[derive(Debug, Default)]
struct Names {
    files: Files,
    durable: Files,
}

/// What all files share.
#[derive(Debug, Default)]
struct Device {
    full: AtomicBool,
    changes: AtomicUsize,
    /// The number of changes that work, plus one; zero is no bound.
    bound: AtomicUsize,
}

impl CrashingDisk {
    /// The power goes: of each sector written since the last sync, `survives` says whether it
    /// reached the disk. Directory changes that were not synced are undone.
    pub(crate) fn crash(&self, mut survives: impl FnMut() -> bool) {
        let mut names = self.names();
        names.files = names.durable.clone();
        for file in names.files.values() {
            file.content().crash(&mut survives);
        }
    }

    /// From now on there is no room for more blocks, or there is again.
    pub(crate) fn set_full(&self, full: bool) {
        self.device.full.store(full, Ordering::Relaxed);
    }

    /// How often anything was tried to be written, synced, created or removed so far.
    pub(crate) fn changes(&self) -> usize {
        self.device.changes.load(Ordering::Relaxed)
    }

    /// After so many more changes the disk fails each one.
    pub(crate) fn fail_after(&self, changes: usize) {
        self.device.bound.store(self.changes() + changes + 1, Ordering::Relaxed);
    }

    /// The disk works again.
    pub(crate) fn mend(&self) {
        self.device.bound.store(0, Ordering::Relaxed);
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device {
    fn change(&self) -> io::Result<()> {
        let count = self.changes.fetch_add(1, Ordering::Relaxed) + 1;
        let bound = self.bound.load(Ordering::Relaxed);
        if bound != 0 && count >= bound {
            return Err(io::Error::other("the card is gone"));
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}

impl Disk for CrashingDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut names = self.names();
        let file = names.files.entry(name.to_owned()).or_insert_with(|| {
            let device = Arc::clone(&self.device);
            Arc::new(CrashingFile { device, content: Mutex::default() })
        });
        Ok(Arc::<CrashingFile>::clone(file))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names().files.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.device.change()?;
        self.names().files.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.device.change()?;
        let mut names = self.names();
        let file = names.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.device.change()?;
        let mut names = self.names();
        names.durable = names.files.clone();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(if self.device.is_full() { 0 } else { u64::MAX })
    }
}

#[derive(Debug)]
struct CrashingFile {
    device: Arc<Device>,
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

impl CrashingFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn crash(&mut self, survives: &mut impl FnMut() -> bool) {
        self.durable.resize(self.bytes.len(), 0);
        for (offset, data) in self.pending.drain(..) {
            let mut at = 0;
            while at < data.len() {
                let piece = (SECTOR - (offset + at) % SECTOR).min(data.len() - at);
                if survives() {
                    self.durable[offset + at..offset + at + piece]
                        .copy_from_slice(&data[at..at + piece]);
                }
                at += piece;
            }
        }
        self.bytes.clone_from(&self.durable);
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a test's file is small")
}

impl DiskFile for CrashingFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content().bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.content();
        let offset = index(offset);
        let from = content.bytes.get(offset..offset + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.device.change()?;
        let mut content = self.content();
        let (start, end) = (index(offset), index(offset) + data.len());
        if end > content.bytes.len() {
            if self.device.is_full() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            content.bytes.resize(end, 0);
        }
        content.bytes[start..end].copy_from_slice(data);
        content.pending.push((start, data.to_vec()));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.device.change()?;
        let mut content = self.content();
        content.bytes.resize(index(len), 0);
        content.durable.resize(index(len), 0);
        content.pending.retain(|(offset, data)| offset + data.len() <= index(len));
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.device.change()?;
        if self.device.is_full() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut content = self.content();
        let len = content.bytes.len().max(index(offset + len));
        content.bytes.resize(len, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.device.change()?;
        let mut content = self.content();
        content.durable = content.bytes.clone();
        content.pending.clear();
        Ok(())
    }
}
