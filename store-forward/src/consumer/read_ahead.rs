//! The bound on payloads that wait in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound, in bytes, on the messages that were read and wait to be sent. All consumers of an app,
/// or of an uplink, share one. Messages in flight don't count.
#[derive(Debug)]
pub struct ReadAhead {
    bytes: usize,
    used: AtomicUsize,
}

impl ReadAhead {
    /// The bound of an app or an uplink: a page of small messages for a busy consumer.
    pub const DEFAULT_BYTES: usize = 256 << 10;

    /// A bound of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { bytes, used: AtomicUsize::new(0) }
    }

    /// Bytes that wait now. The batch that a consumer is about to send may exceed the bound.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns whether more waits than the bound allows.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.used() > self.bytes
    }

    /// Counts `bytes` until the share is dropped, even if they exceed the bound.
    #[must_use]
    pub fn hold(self: &Arc<Self>, bytes: usize) -> ReadAheadShare {
        self.reserve(0).split(bytes)
    }

    /// Reserves what is left, but at most `most` bytes.
    pub(super) fn reserve(self: &Arc<Self>, most: usize) -> ReadAheadShare {
        let grant = |used: usize| most.min(self.bytes.saturating_sub(used));
        let reserved = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used + grant(used)));
        ReadAheadShare { of: Arc::clone(self), bytes: reserved.map_or(0, grant) }
    }
}

impl Default for ReadAhead {
    fn default() -> Self {
        Self::new(Self::DEFAULT_BYTES)
    }
}

/// Reserved bytes of a [`ReadAhead`]. Dropping them returns them.
#[derive(Debug)]
pub struct ReadAheadShare {
    of: Arc<ReadAhead>,
    bytes: usize,
}

impl ReadAheadShare {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Splits off the share of one message. Exceeds the bound if this share is too small, since a
    /// batch must be read whatever its size.
    pub(super) fn split(&mut self, bytes: usize) -> Self {
        let own = bytes.min(self.bytes);
        self.bytes -= own;
        self.of.used.fetch_add(bytes - own, Ordering::Relaxed);
        Self { of: Arc::clone(&self.of), bytes }
    }
}

impl Drop for ReadAheadShare {
    fn drop(&mut self) {
        self.of.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_returns_when_it_is_dropped() {
        let all = Arc::new(ReadAhead::new(100));
        let mut first = all.reserve(70);
        let second = all.reserve(70);
        assert_eq!((first.bytes(), second.bytes(), all.used()), (70, 30, 100));
        assert_eq!(all.reserve(1).bytes(), 0);
        let message = first.split(50);
        drop(first);
        assert_eq!(all.used(), 80);
        drop((message, second));
        assert_eq!(all.used(), 0);
    }

    #[test]
    fn a_message_that_is_larger_than_its_share_exceeds_the_bound() {
        let all = Arc::new(ReadAhead::new(100));
        let mut share = all.reserve(usize::MAX);
        let large = share.split(130);
        assert!(all.is_exceeded());
        drop(share);
        assert_eq!(all.used(), 130);
        drop(large);
        assert!(!all.is_exceeded());
    }
}
