//! The clock seam: wall time, time since boot, and whether the wall clock is believed.

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since 1970 at 2026-01-01T00:00:00Z: before the first release, so a wall clock that
/// shows less was never set. Devices without a battery start in 1970, or at their image's date.
const FLOOR_MS: i64 = 1_767_225_600_000;

/// Where Linux tells which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the clocks show at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Milliseconds since 1970 by the wall clock, whatever it shows.
    pub wall_ms: i64,
    /// Milliseconds since boot, time asleep included. Never goes back within a boot.
    pub up_ms: u64,
    /// Whether the wall clock is believed.
    pub believed: bool,
}

/// The only source of time.
pub trait Clock: Send + Sync + 'static {
    /// What the clocks show now.
    fn read(&self) -> Reading;
    /// Which boot this is: another one after each start of the machine.
    fn boot_id(&self) -> String;
}

/// The operating system's clocks.
#[derive(Clone, Debug)]
pub struct OsClock {
    boot_id: String,
}

impl OsClock {
    /// Reads the boot's id; where the system has none, each process counts as a boot.
    #[must_use]
    pub fn new() -> Self {
        let boot_id = fs::read_to_string(BOOT_ID)
            .map(|id| id.trim().to_owned())
            .ok()
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        Self { boot_id }
    }
}

impl Default for OsClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for OsClock {
    fn read(&self) -> Reading {
        let wall_ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        };
        let up = clock_gettime(ClockId::Boottime);
        let up = Duration::try_from(up).unwrap_or_default();
        Reading { wall_ms, up_ms: millis(up), believed: wall_ms >= FLOOR_MS }
    }

    fn boot_id(&self) -> String {
        self.boot_id.clone()
    }
}

/// A clock that is set by hand, for tests and simulations. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<Manual>>);

#[derive(Debug)]
struct Manual {
    reading: Reading,
    boot_id: String,
}

impl ManualClock {
    /// A clock that stands still at `reading`.
    #[must_use]
    pub fn new(reading: Reading, boot_id: &str) -> Self {
        Self(Arc::new(Mutex::new(Manual { reading, boot_id: boot_id.to_owned() })))
    }

    /// Lets time pass: both clocks advance.
    pub fn advance(&self, by: Duration) {
        let mut manual = self.manual();
        let reading = &mut manual.reading;
        reading.up_ms = reading.up_ms.saturating_add(millis(by));
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        reading.wall_ms = reading.wall_ms.saturating_add(by);
    }

    /// Sets the wall clock; no time passes.
    pub fn set_wall(&self, wall_ms: i64, believed: bool) {
        let mut manual = self.manual();
        manual.reading.wall_ms = wall_ms;
        manual.reading.believed = believed;
    }

    /// The machine starts anew: time since boot is zero, the wall clock shows `wall_ms`.
    pub fn reboot(&self, boot_id: &str, wall_ms: i64, believed: bool) {
        *self.manual() = Manual {
            reading: Reading { wall_ms, up_ms: 0, believed },
            boot_id: boot_id.to_owned(),
        };
    }

    fn manual(&self) -> MutexGuard<'_, Manual> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn read(&self) -> Reading {
        self.manual().reading
    }

    fn boot_id(&self) -> String {
        self.manual().boot_id.clone()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_clock_advances_and_keeps_its_boot() {
        let clock = OsClock::new();
        let (first, second) = (clock.read(), clock.read());
        assert!(second.up_ms >= first.up_ms);
        assert_eq!(first.believed, first.wall_ms >= FLOOR_MS);
        assert!(!clock.boot_id().is_empty());
        assert_eq!(clock.boot_id(), clock.boot_id());
    }

    #[test]
    fn clones_of_a_manual_clock_show_the_same_time() {
        let clock = ManualClock::new(Reading { wall_ms: 5, up_ms: 7, believed: false }, "one");
        let clone = clock.clone();
        clock.advance(Duration::from_secs(1));
        assert_eq!(clone.read(), Reading { wall_ms: 1005, up_ms: 1007, believed: false });
        clock.set_wall(FLOOR_MS, true);
        assert_eq!(clone.read(), Reading { wall_ms: FLOOR_MS, up_ms: 1007, believed: true });
        clock.reboot("two", 0, false);
        assert_eq!(clone.read(), Reading::default());
        assert_eq!(clone.boot_id(), "two");
    }
}
