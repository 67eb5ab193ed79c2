//! Every bound of the store in one place, with its unit and its reason.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record::Retention;

/// The bounds of a store. All of them can be configured.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of one journal segment. A record must fit in one, so it also bounds a request body.
    pub segment_bytes: u64,
    /// Bytes the journal may grow by before a checkpoint: bounds replay time at start.
    pub checkpoint_bytes: u64,
    /// The longest that a record stays out of the tables' file: after it an idle store is quiet.
    pub checkpoint_interval: Duration,
    /// How long the writer waits for company before it syncs. Zero: whatever came meanwhile.
    pub commit_delay: Duration,
    /// Bytes of redb's page cache: the larger part of our memory.
    pub cache_bytes: usize,
    /// Bytes of a key; redb pages hold keys inline.
    pub max_key_bytes: usize,
    /// Bytes of a value or a message's payload.
    pub max_value_bytes: usize,
    /// Bytes of a topic's name: MQTT can't carry more than 65,535 (MQTT 5, section 1.5.4).
    pub max_topic_bytes: usize,
    /// Streams of a store: each costs some hundred bytes of memory.
    pub max_streams: u32,
    /// Consumers of a store.
    pub max_consumers: u32,
    /// Requests waiting for the writer: beyond it callers wait, so that memory is bounded.
    pub max_queued_requests: usize,
    /// Bytes on disk that the store may use.
    pub disk_bytes: u64,
    /// Bytes held back on disk at start so that acknowledgements and deletions work on a full disk.
    pub reserve_bytes: u64,
    /// How long a message waits for a first consumer.
    pub unclaimed_retention: Duration,
    /// How long a subscription goes on collecting that its app no longer names: an app that starts
    /// with half of its subscriptions gets the rest right within that time.
    pub inactive_grace: Duration,
    /// How long the backlog of an inactive consumer is kept while the store is open; zero is for
    /// ever. `None`: [`INACTIVE_APP`] for subscriptions, for ever for uplinks.
    pub inactive_retention: Option<Duration>,
}

/// How long the backlog of an inactive subscription is kept unless configured otherwise.
pub const INACTIVE_APP: Duration = Duration::from_secs(7 * 24 * 3600);

impl Limits {
    /// How long messages stay that nobody takes.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let inactive = |default| millis(self.inactive_retention.unwrap_or(default));
        Retention {
            unclaimed_ms: millis(self.unclaimed_retention),
            grace_ms: millis(self.inactive_grace),
            inactive_app_ms: inactive(INACTIVE_APP),
            inactive_uplink_ms: inactive(Duration::ZERO),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            segment_bytes: 8 << 20,
            checkpoint_bytes: 4 << 20,
            checkpoint_interval: Duration::from_secs(10),
            commit_delay: Duration::ZERO,
            cache_bytes: 2 << 20,
            max_key_bytes: 1024,
            max_value_bytes: 4 << 20,
            max_topic_bytes: 1024,
            max_streams: 10_000,
            max_consumers: 1_000,
            max_queued_requests: 1024,
            disk_bytes: 1 << 30,
            reserve_bytes: 8 << 20,
            unclaimed_retention: Duration::from_secs(24 * 3600),
            inactive_grace: Duration::from_secs(3600),
            inactive_retention: None,
        }
    }
}

/// What a stream may hold, and what happens at the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamLimits {
    /// Messages in one stream; zero is no limit of its own.
    pub max_messages: u64,
    /// Payload and attribute bytes in one stream; zero is no limit of its own.
    pub max_bytes: u64,
    /// Messages in all streams of the component; zero is no limit of its own.
    pub max_component_messages: u64,
    /// Bytes in all streams of the component; zero is no limit of its own.
    pub max_component_bytes: u64,
    /// What happens at a limit.
    pub overflow: Overflow,
}

/// What happens when a stream is full. What it takes is always counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overflow {
    /// The producer gets an error.
    #[default]
    Reject,
    /// The oldest message goes.
    DropOldest,
    /// The new message goes; the producer is told it was taken.
    DropNew,
    /// The oldest message of the lowest priority goes, be it the new one.
    DropLowestPriority,
}
