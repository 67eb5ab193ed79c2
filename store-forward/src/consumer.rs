//! Consumers: the one way out of the store.
//!
//! A local subscription and an uplink are the same thing: a durable name with a cursor on each of
//! its streams. [`dispatch`] decides, without clock or input, what is sent when; [`run()`] drives it.

mod dead_letter;
pub mod dispatch;
mod progress;
mod report;
mod run;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use std::sync::Arc;

use crate::ids::{Sequence, StreamId};
use crate::record::{Timestamp, Topic};

pub(crate) use dead_letter::{mark as mark_dead_letter, origin as dead_letter_origin};
pub(crate) use progress::{Board, Progress};

pub use dead_letter::DeadLetter;
pub use dispatch::{MAX_HELD, Policy};
pub use progress::{Deliveries, LastRefusal};
pub use run::run;

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

impl Message {
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

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The far side has it.
    Ack,
    /// The far side answered, with a reason, that it can't have it now: counts as an attempt.
    Retry(String),
    /// The far side does not want it: to the dead letter topic, or counted as dropped.
    Reject(String),
    /// The far side can't take this one while its limits stand: to the dead letter topic, or held
    /// in its stream until the limits grow, while the others pass it.
    Hold(String),
    /// The link failed: no attempt, and everything that is not acknowledged is sent again.
    Unreachable(String),
}

/// The far side of a consumer.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Resolves once the far side can take messages. May wait for ever.
    async fn ready(&self);

    /// Hands over messages of one stream, in order, 1 to [`Policy::batch`] of them; resolves to one
    /// outcome for each. Called in stream order: what has to happen in that order happens before
    /// the future is returned.
    fn deliver(self: Arc<Self>, batch: Vec<Delivery>) -> BoxFuture<'static, Vec<Outcome>>;

    /// The far side's own bound on messages in flight (MQTT's Receive Maximum, say).
    fn window(&self) -> usize {
        usize::MAX
    }

    /// Resolves once the far side may take what it has held. May wait for ever.
    async fn roomier(&self) {
        std::future::pending().await
    }
}
