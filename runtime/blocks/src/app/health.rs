//! An app's health: probes in a loop, and a threshold.

use std::convert::Infallible;

use config::model::HealthCheck;
use tokio::time::MissedTickBehavior;

use super::App;

/// Counts failures: one success makes an app healthy, `threshold` failures in a row unhealthy.
#[derive(Debug)]
struct Threshold {
    threshold: u32,
    failures: u32,
    healthy: bool,
}

impl Threshold {
    /// Creates a threshold that is unhealthy until the first success.
    fn new(threshold: u32) -> Self {
        Self { threshold: threshold.max(1), failures: 0, healthy: false }
    }

    /// Records the result of a probe; returns whether the app is healthy.
    fn observe(&mut self, succeeded: bool) -> bool {
        if succeeded {
            self.failures = 0;
            self.healthy = true;
        } else {
            self.failures = self.failures.saturating_add(1);
            self.healthy &= self.failures < self.threshold;
        }
        self.healthy
    }
}

/// Probes the app until it is dropped.
pub(super) async fn probe(app: &App, check: &HealthCheck) -> Infallible {
    let mut health = Threshold::new(check.threshold);
    let mut ticks = tokio::time::interval(check.interval.max(std::time::Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let was = app.gate.state().healthy;
        let healthy = health.observe(app.probe(check.timeout).await.is_ok());
        if was != healthy {
            tracing::info!(app_id = app.id(), healthy, "the app's health changed");
            app.gate.set_healthy(healthy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_starts_unhealthy_and_one_success_makes_it_healthy() {
        let mut health = Threshold::new(3);
        assert!(!health.observe(false));
        assert!(health.observe(true));
    }

    #[test]
    fn only_failures_in_a_row_make_it_unhealthy() {
        let mut health = Threshold::new(3);
        let seen: Vec<bool> = [true, false, false, true, false, false, false, false, true]
            .map(|succeeded| health.observe(succeeded))
            .into();
        assert_eq!(seen, [true, true, true, true, true, true, false, false, true]);
    }

    #[test]
    fn a_threshold_of_zero_counts_as_one() {
        let mut health = Threshold::new(0);
        assert!(health.observe(true));
        assert!(!health.observe(false));
    }
}
