//! How many bytes of requests' bodies are in memory at a time.

use hyper::body::SizeHint;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes of bodies that are read or handled at a time, all connections together; a longer one is
/// let in alone. Handling one takes about as much again.
const MOST_BYTES: u32 = 8 << 20;

/// Bodies of so many bytes and fewer are not counted: a client with a reading to tell need not wait
/// for others' uploads, and the bound on connections is one on these.
const SMALL_BYTES: u64 = 16 << 10;

/// What a body is counted as that doesn't say its length: the usual limit of one.
const UNTOLD_BYTES: u64 = 4 << 20;

/// Room for the bodies of all clients.
#[derive(Debug)]
pub(super) struct Bodies(Semaphore);

/// A body's part of it, given back when it is dropped.
pub(super) type Room<'a> = Option<SemaphorePermit<'a>>;

impl Bodies {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(MOST_BYTES as usize))
    }

    /// Waits until there is room for a body. They get it in the order in which they came.
    pub(super) async fn room(&self, size: &SizeHint) -> Room<'_> {
        let bytes = size.upper().unwrap_or(UNTOLD_BYTES);
        if bytes <= SMALL_BYTES {
            return None;
        }
        let bytes = u32::try_from(bytes).unwrap_or(MOST_BYTES).min(MOST_BYTES);
        // It is never closed.
        self.0.acquire_many(bytes).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn told(bytes: u64) -> SizeHint {
        SizeHint::with_exact(bytes)
    }

    #[test]
    fn large_bodies_wait_for_each_other_and_small_ones_for_none() {
        let bodies = Bodies::new();
        let first = bodies.room(&told(4 << 20)).now_or_never().flatten();
        assert!(first.is_some());
        assert!(bodies.room(&told(5 << 20)).now_or_never().is_none());
        assert!(bodies.room(&SizeHint::new()).now_or_never().is_some());
        assert!(matches!(bodies.room(&told(SMALL_BYTES)).now_or_never(), Some(None)));
        drop(first);
        assert!(bodies.room(&told(5 << 20)).now_or_never().is_some());
    }

    #[test]
    fn a_body_longer_than_all_the_room_is_let_in_alone() {
        let bodies = Bodies::new();
        let giant = bodies.room(&told(u64::MAX)).now_or_never().flatten();
        assert!(giant.is_some());
        assert!(bodies.room(&told(SMALL_BYTES + 1)).now_or_never().is_none());
    }
}
