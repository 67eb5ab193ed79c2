//! A disk for simulations: it forgets, in a power cut, what was not synced, and fails as told.
//!
//! What each file and the directory hold is kept twice: as it is read (the page cache) and as it
//! was last synced, with the list of changes between the two. A power cut decides for each of these
//! changes, by chance from a seed, whether it reached the disk:
//!
//! | change | may be |
//! | --- | --- |
//! | a write | kept, dropped, or kept in some of its sectors; whatever became of writes before it |
//! | a file's length, reserved blocks | dropped, with all later ones of that file |
//! | a creation, a removal, a rename | dropped, each on its own; a rename is whole or not at all |
//!
//! A sync that fails decides it at once: what it drops is read until the cache is given up
//! ([`SimulatedDisk::restart`]) and a later sync that works does not save it.

mod device;
mod file;
mod names;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};
use device::{Change, Device};
use file::SimulatedFile;
use names::Names;

/// What a power cut does to what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All of it is there.
    KeepAll,
    /// None of it is there.
    DropAll,
    /// It is there up to some point, where a write is torn.
    Prefix,
    /// Each write and each directory change has its own fate.
    Mixed,
}

/// Files in memory that know which of their bytes, and which of their names, were synced.
#[derive(Debug)]
pub struct SimulatedDisk {
    names: Mutex<Names>,
    device: Arc<Device>,
}

impl SimulatedDisk {
    /// An empty disk without faults, whose chances start from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { names: Mutex::default(), device: Arc::new(Device::new(seed)) }
    }

    /// Starts its chances anew.
    pub fn reseed(&self, seed: u64) {
        self.device.reseed(seed);
    }

    /// How often anything was tried to be created, written, synced or removed so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.device.changes()
    }

    /// After so many more changes the disk is gone: it fails each one, until [`Self::restart`] or
    /// [`Self::mend`].
    pub fn fail_after(&self, changes: u64) {
        self.device.gone_after(changes);
    }

    /// After so many more writes one fails, having written a part.
    pub fn fail_a_write_after(&self, writes: u64) {
        self.device.fail_one(Change::Write, writes);
    }

    /// After so many more syncs of a file one fails, and each write that it was to make durable may
    /// be lost, though it is still read and later syncs work.
    pub fn fail_a_sync_after(&self, syncs: u64) {
        self.device.fail_one(Change::Sync, syncs);
    }

    /// The disk works again; nothing was lost.
    pub fn mend(&self) {
        self.device.mend();
    }

    /// Whether a fault has struck since the disk was last mended.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.device.has_failed()
    }

    /// Somebody takes the directory away; until [`Self::mend`] or [`Self::restart`].
    pub fn remove_directory(&self) {
        self.device.lose_place();
    }

    /// How often it was asked whether its directory is in its place.
    #[must_use]
    pub fn place_checks(&self) -> u64 {
        self.device.place_checks()
    }

    /// Bytes that files may take; `u64::MAX` is no bound.
    pub fn set_capacity(&self, bytes: u64) {
        self.device.set_capacity(bytes);
    }

    /// What [`Self::set_capacity`] set.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.device.capacity()
    }

    /// How often something was refused because there was no room for it.
    #[must_use]
    pub fn refusals(&self) -> u64 {
        self.device.refusals()
    }

    /// Bytes of the blocks that files take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.names().used()
    }

    /// The power was cut: what was not synced meets its fate, then the disk works again. Whoever
    /// had files open must be gone.
    pub fn cut(&self, cut: Cut) {
        let mut random = self.device.with_random(fastrand::Rng::fork);
        let keep = random.u8(1..8);
        let mut coin = random.fork();
        match cut {
            Cut::KeepAll => self.cut_where(|| true),
            Cut::DropAll => self.cut_where(|| false),
            Cut::Prefix => {
                let until = random.usize(0..8);
                let mut names = 0..;
                self.cut_names(&mut || names.next().is_some_and(|number| number < until));
                self.each_file(&mut |file| {
                    let until = random.usize(0..=file.pending());
                    file.cut_after(until, &mut || coin.bool());
                });
            }
            Cut::Mixed => {
                self.cut_names(&mut || coin.bool());
                self.each_file(&mut |file| {
                    file.cut(&mut || coin.u8(0..8) < keep, &mut |below| random.usize(1..=below));
                });
            }
        }
    }

    /// The power was cut: `survives` is asked for each directory change, then for each length and
    /// each sector of each write, in their order, file by file.
    pub fn cut_where(&self, mut survives: impl FnMut() -> bool) {
        self.cut_names(&mut survives);
        self.each_file(&mut |file| file.cut(&mut survives, &mut |below| below));
    }

    /// The process was killed and the machine stays up: what was written is there, but for what a
    /// failed sync lost, of which the cache may still hold a copy.
    pub fn restart(&self) {
        let forget = self.device.with_random(|random| random.bool());
        if forget {
            self.names().files().for_each(|file| file.forget_cache());
        }
        self.mend();
    }

    /// Another disk that holds the same, without faults.
    #[must_use]
    pub fn fork(&self) -> Self {
        let device = Arc::new(self.device.fork());
        Self { names: Mutex::new(self.names().fork(&device)), device }
    }

    fn cut_names(&self, survives: &mut dyn FnMut() -> bool) {
        self.names().cut(survives);
    }

    fn each_file(&self, change: &mut dyn FnMut(&SimulatedFile)) {
        let names = self.names();
        names.files().for_each(|file| change(file));
        self.device.set_used(names.used());
        self.device.mend();
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut names = self.names();
        if let Some(file) = names.get(name) {
            return Ok(file);
        }
        self.device.change(Change::Name)?;
        let file = Arc::new(SimulatedFile::new(Arc::clone(&self.device)));
        names.create(name, Arc::clone(&file));
        Ok(file)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names().list())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.device.change(Change::Name)?;
        self.names().remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.device.change(Change::Name)?;
        self.names().rename(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.device.change(Change::SyncDir)?;
        self.names().sync();
        Ok(())
    }

    fn check_place(&self) -> Result<(), String> {
        self.device.check_place()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.device.free())
    }
}

#[cfg(test)]
mod tests;
