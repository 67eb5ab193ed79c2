//! The bare disk, and the bytes that are written to it.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use store_forward::disk::{Disk, DiskFile, OsDisk};

use crate::Result;

/// Bytes of a sector in `/proc/diskstats`, whatever the disk's own are.
const SECTOR_BYTES: u64 = 512;
/// Bytes of the smallest write of a file system.
const PAGE_BYTES: u64 = 4096;
/// The field of `/proc/diskstats` that holds the sectors written, counted from the major number.
const SECTORS_WRITTEN: usize = 9;

/// A file that grows by appends, each of which is synced: the floor of a durable write.
pub(crate) struct Bare {
    file: Arc<dyn DiskFile>,
    end: u64,
    counts: Arc<DiskCounts>,
}

impl Bare {
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let disk = CountingDisk::open(dir)?;
        let file = disk.open("bare")?;
        disk.sync_dir()?;
        Ok(Self { file, end: 0, counts: disk.counts() })
    }

    /// Appends `times` times. Returns how long each append took.
    pub(crate) fn append(&mut self, data: &[u8], times: usize) -> Result<Vec<Duration>> {
        let mut took = Vec::with_capacity(times);
        for _ in 0..times {
            let started = Instant::now();
            self.file.write_at(self.end, data)?;
            self.file.sync()?;
            took.push(started.elapsed());
            self.end += data.len() as u64;
        }
        Ok(took)
    }

    pub(crate) fn counts(&self) -> Arc<DiskCounts> {
        Arc::clone(&self.counts)
    }
}

/// Returns the bytes written so far by the block device that holds `dir`; `None` if the kernel doesn't
/// count them.
pub(crate) fn device_bytes(dir: &Path) -> Result<Option<u64>> {
    let device = std::fs::metadata(dir)?.dev();
    let major = (device >> 8) & 0xfff;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    let wanted = [major.to_string(), minor.to_string()];
    let stats = std::fs::read_to_string("/proc/diskstats")?;
    let fields = stats.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.len() > 9 && fields[..2] == wanted);
    Ok(found.and_then(|fields| Some(fields[SECTORS_WRITTEN].parse::<u64>().ok()? * SECTOR_BYTES)))
}

/// Returns the bytes that a process has caused to be written so far.
pub(crate) fn process_bytes(process: u32) -> Result<u64> {
    let io = std::fs::read_to_string(format!("/proc/{process}/io"))?;
    let found = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(found.ok_or("/proc has no write_bytes")?.trim().parse()?)
}

/// DiskCounts of the requests to a disk.
#[derive(Debug, Default)]
pub(crate) struct DiskCounts {
    syncs: AtomicU64,
    pages: AtomicU64,
}

impl DiskCounts {
    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Returns the bytes of the pages that had changed at each sync. The kernel's counts for a process are
    /// of no use here: they take a large folio for changed as a whole, though one page of it is written.
    pub(crate) fn synced_bytes(&self) -> u64 {
        self.pages.load(Ordering::Relaxed) * PAGE_BYTES
    }
}

/// The operating system's disk with counts of its requests.
pub(crate) struct CountingDisk {
    disk: OsDisk,
    counts: Arc<DiskCounts>,
}

impl CountingDisk {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        Ok(Self { disk: OsDisk::open(dir)?, counts: Arc::default() })
    }

    /// Returns the counts, which go on changing.
    pub(crate) fn counts(&self) -> Arc<DiskCounts> {
        Arc::clone(&self.counts)
    }
}

impl Disk for CountingDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(name)?;
        Ok(Arc::new(CountingFile { file, counts: self.counts(), changed: Mutex::default() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn check_place(&self) -> Result<(), String> {
        self.disk.check_place()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.disk.sync_dir()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

#[derive(Debug)]
struct CountingFile {
    file: Arc<dyn DiskFile>,
    counts: Arc<DiskCounts>,
    /// Pages that were written to since the last sync.
    changed: Mutex<BTreeSet<u64>>,
}

impl CountingFile {
    fn changed(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskFile for CountingFile {
    fn reload(&self) -> io::Result<()> {
        self.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        self.changed().extend(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES));
        self.file.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn sync(&self) -> io::Result<()> {
        let changed = std::mem::take(&mut *self.changed());
        self.counts.syncs.fetch_add(1, Ordering::Relaxed);
        self.counts.pages.fetch_add(changed.len() as u64, Ordering::Relaxed);
        self.file.sync()
    }
}
