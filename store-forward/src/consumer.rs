//! Consumers: the one way out of the store.
//!
//! A local subscription and an uplink are the same thing: a durable name with a cursor on each of
//! its streams. [`dispatch`] decides, without clock or input, what is sent when; [`run()`] drives it.

mod dead_letter;
pub mod dispatch;
mod progress;
mod read_ahead;
mod report;
mod run;
mod sink;

use crate::ids::{Sequence, StreamId};
use crate::record::{Timestamp, Topic};

pub(crate) use dead_letter::{mark as mark_dead_letter, origin as dead_letter_origin};
pub(crate) use progress::{Board, Progress};

pub use dead_letter::DeadLetter;
pub use dispatch::{MAX_HELD, Policy};
pub use progress::{Deliveries, LastRefusal};
pub use read_ahead::{ReadAhead, ReadAheadShare};
pub use run::run;
pub use sink::{Outcome, Sink, Slot, SlotRequest};

/// A message as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its place in the stream.
    pub sequence: Sequence,
    /// When it was published.
    pub at: Timestamp,
    /// Milliseconds until it expires, from when it was read.
    pub expires_in_ms: Option<u64>,
    /// The media type of `data`, if it was named.
    pub content_type: Option<String>,
    /// Named attributes that can't be derived from the stream.
    pub attributes: Vec<(String, String)>,
    /// Order is kept among messages of one key.
    pub key: Option<String>,
    /// 0 to 7.
    pub priority: u8,
    /// The payload.
    pub data: Vec<u8>,
}

/// Bytes that a message takes in memory besides its payload and its attributes.
pub(crate) const MESSAGE_OVERHEAD: usize = 256;

impl Message {
    /// Returns the bytes that it takes in memory, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, value)| name.len() + value.len());
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let texts = length(&self.key) + length(&self.content_type) + attributes.sum::<usize>();
        MESSAGE_OVERHEAD + self.data.len() + texts
    }

    /// The attribute of that name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A message on its way to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The stream's name.
    pub topic: Topic,
    /// The stream.
    pub stream: StreamId,
    /// How often it was tried, this time included: 1 is the first.
    pub attempt: u32,
    /// The message.
    pub message: Message,
}
