//! Components that record what is published to them.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use store_forward::consumer::Delivery;
use store_forward::{Error, Store};
use tokio::sync::mpsc;

use crate::uplink::context::{Arrival, UplinkComponents};

/// Fake components without a store.
pub(in crate::uplink::mqtt) struct FakeComponents {
    /// Errors of the first calls.
    pub(in crate::uplink::mqtt) failures: Mutex<VecDeque<Error>>,
    /// Bytes of the largest payload that is taken.
    pub(in crate::uplink::mqtt) payload_max: usize,
    /// Receives each record that is published.
    pub(in crate::uplink::mqtt) published: mpsc::UnboundedSender<Vec<Arrival>>,
}

impl Default for FakeComponents {
    fn default() -> Self {
        let (published, _) = mpsc::unbounded_channel();
        Self { failures: Mutex::default(), payload_max: usize::MAX, published }
    }
}

impl FakeComponents {
    /// The first call fails.
    pub(in crate::uplink::mqtt) fn failing_first(error: Error) -> Self {
        Self { failures: Mutex::new(VecDeque::from([error])), ..Self::default() }
    }
}

#[async_trait]
impl UplinkComponents for FakeComponents {
    fn store(&self, _pubsub: &str) -> Option<Store> {
        None
    }

    fn envelope(&self, _delivery: &Delivery) -> Option<Vec<u8>> {
        Some(b"{}".to_vec())
    }

    async fn publish(&self, arrivals: Vec<Arrival>) -> Result<(), Error> {
        if let Some(error) = self.failures.lock().unwrap().pop_front() {
            return Err(error);
        }
        let largest = arrivals.iter().map(|arrival| arrival.message.data.len()).max();
        if let Some(bytes) = largest.filter(|bytes| *bytes > self.payload_max) {
            let limit = self.payload_max;
            let setting = "spec.limits.maxValue";
            return Err(Error::TooLarge { what: "the payload", bytes, limit, setting });
        }
        // Most tests don't look at what is published.
        let _ = self.published.send(arrivals);
        Ok(())
    }
}
