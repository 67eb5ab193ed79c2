//! Whether the data directory is still where it was opened: writes to files that were removed
//! succeed, and are lost with the process.

use std::time::Duration;

use super::{Engine, millis};
use crate::error::{Error, TablesError};

/// Between two looks while there are writes. An idle engine doesn't look.
const INTERVAL: Duration = Duration::from_secs(2);

/// When to look, by time since boot.
#[derive(Default)]
pub(super) struct Watch {
    looked_at: Option<u64>,
    /// Whether something was written since.
    is_due: bool,
}

impl Watch {
    /// When what was written since the last look has to be looked after.
    pub(super) fn due_at(&self) -> Option<u64> {
        self.looked_at.filter(|_| self.is_due).map(|at| at.saturating_add(millis(INTERVAL)))
    }

    fn is_recent(&self, now: u64) -> bool {
        self.looked_at.is_some_and(|at| now < at.saturating_add(millis(INTERVAL)))
    }
}

impl Engine {
    /// Looks before the first write after a pause. What is written soon after is looked after later,
    /// by [`Engine::check_place_when_due`].
    pub(super) fn check_place_before_write(&mut self) -> Result<(), Error> {
        let now = self.clock.read().up_ms;
        if self.place.is_recent(now) {
            self.place.is_due = true;
            return Ok(());
        }
        self.check_place(now)
    }

    pub(super) fn check_place_when_due(&mut self, now: u64) -> Result<(), Error> {
        match self.place.due_at() {
            Some(at) if at <= now => self.check_place(now),
            _ => Ok(()),
        }
    }

    fn check_place(&mut self, now: u64) -> Result<(), Error> {
        self.place = Watch { looked_at: Some(now), is_due: false };
        Ok(self.disk.check_place().map_err(TablesError::Place)?)
    }
}
