//! A file of a simulated disk: what is read, what is durable, and the changes between the two.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::DiskFile;
use super::super::pages::{PAGE, Pages};
use super::device::{Change, Device};

/// Bytes that a device writes whole or not at all.
const SECTOR: u64 = 512;

#[derive(Debug)]
pub(super) struct SimulatedFile {
    device: Arc<Device>,
    content: Mutex<Content>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    cache: Pages,
    durable: Pages,
    /// What was changed since the last sync, oldest first.
    pending: Vec<Pending>,
    /// A failed sync lost something that the cache still holds.
    stale: bool,
    /// Blocks up to here are reserved, whatever is in them.
    reserved: u64,
    /// As many may still be after a power cut.
    most_reserved: u64,
}

#[derive(Clone, Debug)]
enum Pending {
    Len(u64),
    /// Whole sectors as they were after a write.
    Sectors {
        at: u64,
        bytes: Vec<u8>,
    },
}

impl SimulatedFile {
    pub(super) fn new(device: Arc<Device>) -> Self {
        Self { device, content: Mutex::default() }
    }

    pub(super) fn fork(&self, device: &Arc<Device>) -> Self {
        let content = Mutex::new(self.content().clone());
        Self { device: Arc::clone(device), content }
    }

    /// Each pending change meets its fate: lengths up to one that doesn't survive, then each sector
    /// of each write; each time `shuffle` says which of the first so many, from 1, comes last.
    pub(super) fn cut(
        &self,
        survives: &mut dyn FnMut() -> bool,
        shuffle: &mut dyn FnMut(usize) -> usize,
    ) {
        let mut content = self.content();
        content.settle(survives, shuffle);
        content.cache = content.durable.clone();
        content.stale = false;
        content.reserved = content.most_reserved.min(content.cache.len());
        content.most_reserved = content.reserved;
    }

    /// Keeps a prefix of the changes; the first that is not in it is torn.
    pub(super) fn cut_after(&self, keep: usize, torn: &mut dyn FnMut() -> bool) {
        let mut content = self.content();
        let mut rest = content.pending.split_off(keep);
        content.settle(&mut || true, &mut |count| count);
        rest.truncate(1);
        content.pending = rest;
        drop(content);
        self.cut(torn, &mut |count| count);
    }

    pub(super) fn pending(&self) -> usize {
        self.content().pending.len()
    }

    /// What the cache holds and the disk lost is gone.
    pub(super) fn forget_cache(&self) {
        let mut content = self.content();
        if content.stale {
            let durable = content.durable.clone();
            let pending = content.pending.clone();
            content.settle(&mut || true, &mut |count| count);
            content.cache = std::mem::replace(&mut content.durable, durable);
            content.pending = pending;
            content.stale = false;
        }
    }

    /// Bytes of the blocks that it takes.
    pub(super) fn used(&self) -> u64 {
        let content = self.content();
        let pages = content.cache.len().div_ceil(PAGE as u64);
        (0..pages).filter(|page| content.is_taken(*page)).count() as u64 * PAGE as u64
    }

    /// Its name is gone.
    pub(super) fn release(&self) {
        self.device.give_back(self.used());
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn settle(
        &mut self,
        survives: &mut dyn FnMut() -> bool,
        shuffle: &mut dyn FnMut(usize) -> usize,
    ) {
        let mut writes = Vec::new();
        let mut lengths = true;
        for change in std::mem::take(&mut self.pending) {
            match change {
                Pending::Len(len) => {
                    lengths = lengths && survives();
                    if lengths {
                        set_len(&mut self.durable, len);
                    }
                }
                Pending::Sectors { at, bytes } => {
                    for (index, sector) in bytes.chunks(512).enumerate() {
                        if survives() {
                            writes.push((at + index as u64 * SECTOR, sector.to_vec()));
                        }
                    }
                }
            }
        }
        for last in (1..writes.len()).rev() {
            writes.swap(last, shuffle(last + 1) - 1);
        }
        for (at, sector) in writes {
            let room = self.durable.len().saturating_sub(at);
            let piece = usize::try_from(room).unwrap_or(usize::MAX).min(sector.len());
            write(&mut self.durable, at, &sector[..piece]);
        }
    }

    /// What a file system knows of a file is not lost with the pages that it fails to write.
    fn keep_lengths(&mut self) {
        for change in &self.pending {
            if let Pending::Len(len) = change {
                set_len(&mut self.durable, *len);
            }
        }
        self.pending.retain(|change| matches!(change, Pending::Sectors { .. }));
    }

    fn set_len(&mut self, len: u64) {
        let shorter = len < self.cache.len();
        set_len(&mut self.cache, len);
        if shorter {
            self.reserved = self.reserved.min(len);
            for change in &mut self.pending {
                if let Pending::Sectors { at, bytes } = change {
                    let room = usize::try_from(len.saturating_sub(*at)).unwrap_or(usize::MAX);
                    bytes.truncate(room);
                }
            }
        }
        self.pending.push(Pending::Len(len));
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let before = self.cache.len();
        write(&mut self.cache, offset, data);
        if self.cache.len() > before {
            self.pending.push(Pending::Len(self.cache.len()));
        }
        let at = offset / SECTOR * SECTOR;
        let end = (offset + data.len() as u64).next_multiple_of(SECTOR).min(self.cache.len());
        let mut bytes = vec![0; usize::try_from(end - at).expect("a simulated write is small")];
        self.cache.read(at, &mut bytes).expect("it was just written");
        self.pending.push(Pending::Sectors { at, bytes });
    }

    fn is_taken(&self, page: u64) -> bool {
        let index = usize::try_from(page).expect("a simulated file is small");
        page * (PAGE as u64) < self.reserved || self.cache.is_taken(index)
    }

    /// Bytes of blocks that a write needs beyond those that the file has.
    fn needs(&self, offset: u64, len: u64) -> u64 {
        let pages = offset / PAGE as u64..(offset + len).div_ceil(PAGE as u64);
        pages.filter(|page| !self.is_taken(*page)).count() as u64 * PAGE as u64
    }
}

impl DiskFile for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content().cache.len())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.content().cache.read(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let fault = self.device.change(Change::Write);
        let mut content = self.content();
        if let Err(error) = fault {
            if !self.device.is_gone() {
                let part = self.device.with_random(|random| random.usize(0..=data.len()));
                if self.device.take(content.needs(offset, part as u64)).is_ok() && part > 0 {
                    content.write(offset, &data[..part]);
                }
            }
            return Err(error);
        }
        self.device.take(content.needs(offset, data.len() as u64))?;
        if !data.is_empty() {
            content.write(offset, data);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.device.change(Change::Write)?;
        let before = self.used();
        self.content().set_len(len);
        self.device.give_back(before.saturating_sub(self.used()));
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.device.change(Change::Write)?;
        let mut content = self.content();
        self.device.take(content.needs(offset, len))?;
        content.reserved = content.reserved.max(offset + len);
        content.most_reserved = content.most_reserved.max(content.reserved);
        if offset + len > content.cache.len() {
            content.cache.extend(offset + len);
            content.pending.push(Pending::Len(offset + len));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let fault = self.device.change(Change::Sync);
        let mut content = self.content();
        let Err(error) = fault else {
            content.settle(&mut || true, &mut |count| count);
            content.most_reserved = content.reserved;
            return Ok(());
        };
        if !self.device.is_gone() {
            let mut random = self.device.with_random(fastrand::Rng::fork);
            let lossy = random.u8(0..4);
            content.keep_lengths();
            content.settle(&mut || random.u8(0..4) >= lossy, &mut |count| count);
            content.stale = true;
        }
        Err(error)
    }

    fn reload(&self) -> io::Result<()> {
        self.sync()?;
        let before = self.used();
        self.forget_cache();
        self.device.give_back(before.saturating_sub(self.used()));
        Ok(())
    }
}

fn set_len(pages: &mut Pages, len: u64) {
    pages.set_len(len).expect("a simulated file is small");
}

fn write(pages: &mut Pages, at: u64, bytes: &[u8]) {
    pages.write(at, bytes).expect("a simulated file is small");
}
