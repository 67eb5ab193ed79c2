//! The gate before an app: bounds the calls in flight, and admits none while the app is unhealthy.

use std::sync::Arc;

use components::port::pubsub::Slot;
use tokio::sync::{Semaphore, watch};

/// Maximum calls in flight to an app without a limit of its own. Each call takes a file descriptor, and
/// an app that hangs must not exhaust those of the process.
pub const DEFAULT_MAX_CALLS: usize = 100;

/// The state of an app, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppState {
    /// The app's port accepted a connection, and has refused none since.
    pub listening: bool,
    /// The app's probe succeeds, or there is none.
    pub healthy: bool,
    /// The app was asked for its subscriptions since it came up.
    pub started: bool,
    /// Starts of the app so far.
    pub generation: u64,
}

impl AppState {
    /// Returns whether messages may be delivered.
    #[must_use]
    pub fn takes_messages(&self) -> bool {
        self.listening && self.healthy && self.started
    }
}

/// The gate before an app.
#[derive(Debug)]
pub struct Gate {
    state: watch::Sender<AppState>,
    permits: Arc<Semaphore>,
    max_calls: usize,
}

impl Gate {
    /// Creates the gate of an app that is not listening yet. An app without probes is `healthy`.
    #[must_use]
    pub fn new(max_calls: usize, healthy: bool) -> Self {
        let max_calls = max_calls.clamp(1, Semaphore::MAX_PERMITS);
        let state = AppState { healthy, ..AppState::default() };
        let permits = Arc::new(Semaphore::new(max_calls));
        Self { state: watch::Sender::new(state), permits, max_calls }
    }

    /// Waits until the app takes messages and one more call, first come, first served. Hold the slot
    /// until the answer has been read.
    pub async fn open(&self) -> Slot {
        loop {
            self.wait_until(AppState::takes_messages).await;
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let permit = permit.expect("nobody closes the semaphore");
            // The app may have become unhealthy while others had the permits.
            let state = self.state();
            if state.takes_messages() {
                return Slot::with_permit(state.generation, permit);
            }
        }
    }

    /// Returns whether the app takes messages and the slot belongs to its current generation.
    #[must_use]
    pub fn admits(&self, slot: &Slot) -> bool {
        let state = self.state();
        state.takes_messages() && state.generation == slot.generation
    }

    /// Returns the bound on calls in flight.
    #[must_use]
    pub fn max_calls(&self) -> usize {
        self.max_calls
    }

    /// Returns the state of the app.
    #[must_use]
    pub fn state(&self) -> AppState {
        *self.state.borrow()
    }

    /// Resolves once the state of the app is as wanted.
    pub async fn wait_until(&self, wanted: impl FnMut(&AppState) -> bool) {
        // `self` owns the sender, so the channel can't close meanwhile.
        let _ = self.state.subscribe().wait_for(wanted).await;
    }

    /// Records that the port is closed. The app that opens it again may be another version.
    pub(super) fn lost(&self) {
        self.change(|state| {
            state.listening = false;
            state.started = false;
        });
    }

    pub(super) fn set_healthy(&self, healthy: bool) {
        self.change(|state| {
            state.healthy = healthy;
            state.started &= healthy;
        });
    }

    pub(super) fn set_listening(&self) {
        self.change(|state| state.listening = true);
    }

    pub(super) fn set_started(&self) {
        self.change(|state| {
            state.started = state.listening && state.healthy;
            state.generation += u64::from(state.started);
        });
    }

    fn change(&self, change: impl FnOnce(&mut AppState)) {
        self.state.send_if_modified(|state| {
            let before = *state;
            change(state);
            *state != before
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn started(max_calls: usize) -> Gate {
        let gate = Gate::new(max_calls, true);
        gate.set_listening();
        gate.set_started();
        gate
    }

    #[tokio::test]
    async fn nobody_passes_while_the_app_is_unhealthy() {
        let gate = started(1);
        gate.set_healthy(false);
        let mut waiting = Box::pin(gate.open());
        assert!(waiting.as_mut().now_or_never().is_none());
        gate.set_healthy(true);
        assert!(waiting.as_mut().now_or_never().is_none(), "the app has to start first");
        gate.set_started();
        assert_eq!(waiting.await.generation, 2);
    }

    #[tokio::test]
    async fn the_app_is_looked_at_again_after_a_wait_for_a_permit() {
        let gate = started(1);
        let first = gate.open().await;
        let mut second = Box::pin(gate.open());
        assert!(second.as_mut().now_or_never().is_none());
        gate.set_healthy(false);
        drop(first);
        assert!(second.as_mut().now_or_never().is_none());
    }

    #[tokio::test]
    async fn an_app_without_a_limit_gets_a_hundred_calls_at_once() {
        let gate = started(DEFAULT_MAX_CALLS);
        let mut slots = Vec::new();
        for _ in 0..100 {
            slots.push(gate.open().await);
        }
        let mut next = Box::pin(gate.open());
        assert!(next.as_mut().now_or_never().is_none());
        slots.pop();
        assert!(next.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_slot_of_an_earlier_life_is_not_admitted() {
        let gate = started(2);
        let slot = gate.open().await;
        assert!(gate.admits(&slot));
        gate.lost();
        assert!(!gate.admits(&slot));
        gate.set_listening();
        gate.set_started();
        assert!(!gate.admits(&slot));
        assert!(gate.admits(&gate.open().await));
    }
}
