//! What all files of a simulated disk share: its faults, its space, its chances.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is asked of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Write,
    Sync,
    Name,
    SyncDir,
}

/// The device under the files.
#[derive(Debug)]
pub(super) struct Device(Mutex<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    random: fastrand::Rng,
    changes: u64,
    /// From this change on everything fails.
    gone_at: Option<u64>,
    /// One change of a kind fails after so many others.
    one: Option<(Change, u64)>,
    failed: bool,
    /// The directory is not where it was.
    displaced: bool,
    place_checks: u64,
    capacity: u64,
    used: u64,
    /// How often there was no room.
    refusals: u64,
}

impl Device {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(Inner {
            random: fastrand::Rng::with_seed(seed),
            changes: 0,
            gone_at: None,
            one: None,
            failed: false,
            displaced: false,
            place_checks: 0,
            capacity: u64::MAX,
            used: 0,
            refusals: 0,
        }))
    }

    pub(super) fn fork(&self) -> Self {
        let inner = self.inner().clone();
        Self(Mutex::new(Inner {
            gone_at: None,
            one: None,
            failed: false,
            displaced: false,
            ..inner
        }))
    }

    pub(super) fn reseed(&self, seed: u64) {
        self.inner().random = fastrand::Rng::with_seed(seed);
    }

    pub(super) fn with_random<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.inner().random)
    }

    pub(super) fn changes(&self) -> u64 {
        self.inner().changes
    }

    pub(super) fn gone_after(&self, changes: u64) {
        let mut inner = self.inner();
        inner.gone_at = Some(inner.changes + changes);
    }

    pub(super) fn fail_one(&self, change: Change, after: u64) {
        self.inner().one = Some((change, after));
    }

    pub(super) fn mend(&self) {
        let mut inner = self.inner();
        (inner.gone_at, inner.one, inner.failed) = (None, None, false);
        inner.displaced = false;
    }

    pub(super) fn lose_place(&self) {
        self.inner().displaced = true;
    }

    pub(super) fn check_place(&self) -> Result<(), String> {
        let mut inner = self.inner();
        inner.place_checks += 1;
        if inner.displaced { Err("the directory was removed".into()) } else { Ok(()) }
    }

    pub(super) fn place_checks(&self) -> u64 {
        self.inner().place_checks
    }

    pub(super) fn has_failed(&self) -> bool {
        self.inner().failed
    }

    pub(super) fn set_capacity(&self, bytes: u64) {
        self.inner().capacity = bytes;
    }

    pub(super) fn capacity(&self) -> u64 {
        self.inner().capacity
    }

    pub(super) fn refusals(&self) -> u64 {
        self.inner().refusals
    }

    pub(super) fn free(&self) -> u64 {
        let inner = self.inner();
        inner.capacity.saturating_sub(inner.used)
    }

    /// Takes blocks of so many bytes, or none where there is no room for all.
    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        let mut inner = self.inner();
        if bytes > inner.capacity.saturating_sub(inner.used) && bytes > 0 {
            inner.refusals += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.used += bytes;
        Ok(())
    }

    pub(super) fn give_back(&self, bytes: u64) {
        let mut inner = self.inner();
        inner.used = inner.used.saturating_sub(bytes);
    }

    pub(super) fn set_used(&self, bytes: u64) {
        self.inner().used = bytes;
    }

    /// Counts a change; an error when it is to fail.
    pub(super) fn change(&self, change: Change) -> io::Result<()> {
        let mut inner = self.inner();
        let number = inner.changes;
        inner.changes += 1;
        if inner.gone_at.is_some_and(|at| number >= at) {
            inner.failed = true;
            return Err(io::Error::other("the card is gone"));
        }
        match &mut inner.one {
            Some((kind, after)) if *kind == change && *after == 0 => {
                (inner.one, inner.failed) = (None, true);
                Err(io::Error::other("I/O error"))
            }
            Some((kind, after)) if *kind == change => {
                *after -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether everything fails.
    pub(super) fn is_gone(&self) -> bool {
        let inner = self.inner();
        inner.gone_at.is_some_and(|at| inner.changes >= at)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
