//! A request to stop, passed to everything that runs.

use tokio::sync::watch;

/// The receiving side of a request to stop. Clones see the same request.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Resolves once a stop is requested, at once if that has happened already. Dropping the last
    /// [`Stopper`] counts as a request.
    pub async fn requested(&self) {
        // An error means that the last sender is gone, which counts as a request.
        let _ = self.0.clone().wait_for(|requested| *requested).await;
    }

    /// Returns whether a stop has been requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// The sending side of a request to stop. Clones make the same request.
#[derive(Clone, Debug, Default)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// Requests a stop. Returns whether one had been requested before.
    pub fn request(&self) -> bool {
        self.0.send_replace(true)
    }

    /// Returns whether a stop has been requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns the receiving side.
    #[must_use]
    pub fn subscribe(&self) -> Stop {
        Stop(self.0.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_reaches_every_clone_and_late_subscribers() {
        let stopper = Stopper::default();
        let early = stopper.subscribe();
        let waiting = tokio::spawn({
            let early = early.clone();
            async move { early.requested().await }
        });
        assert!(!early.is_requested());
        assert!(!stopper.clone().request());
        waiting.await.expect("it does not panic");
        let late = stopper.subscribe();
        late.requested().await;
        assert!(early.is_requested() && late.is_requested());
    }

    #[test]
    fn a_second_request_is_told_from_the_first() {
        let stopper = Stopper::default();
        assert!(!stopper.request());
        assert!(stopper.request());
    }

    #[tokio::test]
    async fn dropping_the_last_stopper_is_a_request() {
        let stopper = Stopper::default();
        let stop = stopper.subscribe();
        let other = stopper.clone();
        drop(stopper);
        assert!(!stop.is_requested());
        drop(other);
        assert!(stop.is_requested());
        stop.requested().await;
    }
}
