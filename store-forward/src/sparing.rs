//! A limit on log lines.

use std::time::Duration;

/// Between two log lines of one kind.
const QUIET: Duration = Duration::from_secs(10);

/// Admits the first of many events of one kind, and then one in ten seconds.
#[derive(Debug, Default)]
pub struct Sparing {
    quiet_until: Option<Duration>,
    suppressed: u64,
}

impl Sparing {
    /// Returns how many were suppressed since the last one that was admitted, if this one is. `now` is
    /// a steady clock's.
    pub fn admit(&mut self, now: Duration) -> Option<u64> {
        if self.quiet_until.is_some_and(|until| now < until) {
            self.suppressed += 1;
            return None;
        }
        self.quiet_until = Some(now + QUIET);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_admitted_and_then_one_in_ten_seconds_with_the_number_suppressed() {
        let mut sparing = Sparing::default();
        let admitted = [0, 1, 9, 10, 11, 30].map(|s| sparing.admit(Duration::from_secs(s)));
        assert_eq!(admitted, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
