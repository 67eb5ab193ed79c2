//! Jittered exponential delays.

use std::time::Duration;

/// How long to wait before trying again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The first delay, before jitter.
    pub initial: Duration,
    /// The longest delay, before jitter.
    pub max: Duration,
    /// The part of a delay that chance may take off it, 0 to 1: devices that lost one hub together
    /// must not come back together.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_secs(1), max: Duration::from_secs(60), jitter: 0.5 }
    }
}

impl Backoff {
    /// The delay after `failures` failures in a row, with `chance` drawn from 0 to 1.
    #[must_use]
    pub fn delay(&self, failures: u32, chance: f64) -> Duration {
        let doubled = self.initial.saturating_mul(1 << failures.saturating_sub(1).min(20));
        doubled.min(self.max).mul_f64(1.0 - self.jitter * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_doubles_up_to_its_maximum() {
        let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
        let seconds: Vec<u64> = (1..=8).map(|n| backoff.delay(n, 0.5).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.delay(u32::MAX, 0.5).as_secs(), 60);
    }

    #[test]
    fn jitter_only_ever_shortens_a_delay_and_by_no_more_than_its_part() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(3, 0.0), Duration::from_secs(4));
        assert_eq!(backoff.delay(3, 1.0), Duration::from_secs(2));
    }
}
