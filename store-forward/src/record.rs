//! What the journal holds: a [`Record`] is a list of operations that take effect together.

use serde::{Deserialize, Serialize};

use crate::ids::{ConsumerId, Epoch, NodeId, Sequence, StreamId};
use crate::limits::StreamLimits;

/// When something happened, without trusting the wall clock: a device may have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// Milliseconds since 1970 by the wall clock, whatever it showed.
    pub wall_ms: i64,
    /// The boot it happened in, counted by the store from 1.
    pub boot: u32,
    /// Milliseconds since that boot, time asleep included.
    pub up_ms: u64,
    /// Whether the wall clock was believed.
    pub believed: bool,
}

/// One unit of the journal: all of its operations take effect, or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it was written: the only clock that applying it may read.
    pub at: Timestamp,
    /// What it does, in this order.
    pub ops: Vec<Op>,
}

/// The topic of a pub/sub component: the name of a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Topic {
    /// The pub/sub component's name.
    pub component: String,
    /// The topic's name within it.
    pub name: String,
}

impl Topic {
    /// The topic `name` of `component`.
    pub fn new(component: impl Into<String>, name: impl Into<String>) -> Self {
        Self { component: component.into(), name: name.into() }
    }
}

impl std::fmt::Display for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.component, self.name)
    }
}

/// What must hold of a key before it is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Nothing: the last write wins.
    #[default]
    Any,
    /// The key is absent or expired.
    Absent,
    /// The key is there with this entity tag.
    Etag(u64),
}

/// A message on its way into a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMessage {
    /// The media type of `data`, if it was named.
    pub content_type: Option<String>,
    /// Named attributes that can't be derived from the stream (CloudEvents names, lower case).
    pub attributes: Vec<(String, String)>,
    /// Messages of one key keep their order even for a consumer that asks for parallelism.
    pub key: Option<String>,
    /// 0 (lowest, the default) to 7: what `drop-lowest-priority` looks at.
    pub priority: u8,
    /// Elapsed milliseconds after which the message expires; `None` never.
    pub ttl_ms: Option<u64>,
    /// The payload, as it came.
    #[serde(with = "serde_bytes_vec")]
    pub data: Vec<u8>,
}

/// A durable reader of streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerSpec {
    /// Unique in the store, and kept for ever: `app/<app id>/<pubsub>/<topic>`, `uplink/<name>`.
    pub name: String,
    /// What kind of consumer it is.
    pub kind: ConsumerKind,
    /// What it reads: topics that match any of these.
    pub filters: Vec<Filter>,
    /// Where messages go that it rejects; without one they are dropped and counted.
    pub dead_letter: Option<Topic>,
}

impl ConsumerSpec {
    /// Whether it reads a topic.
    #[must_use]
    pub fn reads(&self, topic: &Topic) -> bool {
        let accepts = |filter: &Filter| {
            filter.component == topic.component && crate::topic::matches(&filter.topic, &topic.name)
        };
        self.filters.iter().any(accepts)
    }
}

/// Which topics a consumer reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The pub/sub component's name.
    pub component: String,
    /// A topic, or an MQTT topic filter with `+` and `#` (MQTT 5, section 4.7).
    pub topic: String,
}

/// What kind of consumer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ConsumerKind {
    /// A subscription of an app.
    App,
    /// A way out of the device.
    Uplink,
}

/// Why a consumer is inactive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum InactiveReason {
    /// No flag or file names it or its app any more. It collects nothing new.
    NotConfigured,
    /// Its app did not name it in its last answer. It collects for [`Retention::grace_ms`] more.
    NotSubscribed,
}

/// How long messages stay that nobody takes, in elapsed milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// A message that no consumer has a claim on: from its publish.
    pub unclaimed_ms: u64,
    /// How long a consumer goes on collecting that its app no longer names.
    pub grace_ms: u64,
    /// What is kept for an inactive subscription, from the end of its collecting; zero is for ever.
    /// Only time during which the store is open counts.
    pub inactive_app_ms: u64,
    /// The same for an inactive uplink.
    pub inactive_uplink_ms: u64,
}

impl Retention {
    /// How long an inactive consumer of that kind is kept; `None` is for ever.
    #[must_use]
    pub fn inactive_ms(&self, kind: ConsumerKind) -> Option<u64> {
        let ms = match kind {
            ConsumerKind::App => self.inactive_app_ms,
            ConsumerKind::Uplink => self.inactive_uplink_ms,
        };
        (ms != 0).then_some(ms)
    }
}

/// Why a message left without having been acknowledged by a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Loss {
    /// Its time to live was over.
    Expired,
    /// A limit was reached and the policy took it.
    Overflow,
    /// The consumer refused it and no dead letter topic was set.
    Dropped,
    /// No consumer had a claim on it within `unclaimed_retention`, or the last one that had was
    /// forgotten.
    Unclaimed,
    /// Lost to damage. Not given yet: a lost record doesn't say which streams it was for, and the
    /// store takes a new epoch instead.
    Damaged,
    /// The remote can't take a message of its size, and too many such messages were held already.
    TooLarge,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Op {
    /// The store was created: who it is.
    Create {
        /// The device.
        node: NodeId,
        /// This life of its store.
        epoch: Epoch,
    },
    /// The machine booted, or came back with another boot id.
    Boot {
        /// The kernel's boot id.
        id: String,
        /// Device time, in elapsed milliseconds since the store was created, at that boot.
        base_ms: u64,
    },
    /// Sets a key.
    Set {
        /// The state store component.
        component: String,
        /// The key.
        key: String,
        /// The value.
        #[serde(with = "serde_bytes_vec")]
        value: Vec<u8>,
        /// What must hold.
        when: Condition,
        /// Elapsed milliseconds after which the key is gone; `None` never.
        ttl_ms: Option<u64>,
    },
    /// Deletes a key; an absent key is no error unless an entity tag is asked for.
    Delete {
        /// The state store component.
        component: String,
        /// The key.
        key: String,
        /// What must hold.
        when: Condition,
    },
    /// Appends a message to a stream.
    Publish {
        /// The stream.
        topic: Topic,
        /// The message.
        message: NewMessage,
    },
    /// Registers a consumer, or changes the one of that name. It is active from then on.
    Register(ConsumerSpec),
    /// Forgets a consumer. What was kept for it alone is deleted, and counted as unclaimed.
    Unregister {
        /// Its name.
        name: String,
    },
    /// A consumer has these sequences (inclusive ranges).
    Ack {
        /// Who.
        consumer: ConsumerId,
        /// Of which stream.
        stream: StreamId,
        /// Inclusive ranges.
        ranges: Vec<(Sequence, Sequence)>,
    },
    /// A delivery was tried and failed, and will be tried again.
    Nack {
        /// Who.
        consumer: ConsumerId,
        /// Of which stream.
        stream: StreamId,
        /// Which message.
        sequence: Sequence,
    },
    /// A consumer can't or won't have this message: to its dead letter topic, or counted as dropped.
    Reject {
        /// Who.
        consumer: ConsumerId,
        /// Of which stream.
        stream: StreamId,
        /// Which message.
        sequence: Sequence,
        /// Why, for the dead letter's reader.
        reason: String,
    },
    /// Sets the limits of a pub/sub component's streams.
    Configure {
        /// The pub/sub component.
        component: String,
        /// Its limits from now on.
        limits: StreamLimits,
    },
    /// Takes what is over its time: at most `limit` rows and messages.
    Expire {
        /// The bound on one record's work.
        limit: u32,
        /// How long messages stay that nobody takes.
        retention: Retention,
    },
    /// A consumer became inactive. What is kept for it stays.
    Deactivate {
        /// Its name.
        name: String,
        /// Why.
        reason: InactiveReason,
    },
    /// A consumer gives up its backlog and goes on with the next message of each stream. What was
    /// kept for it alone is deleted, and counted as unclaimed.
    Skip {
        /// Its name.
        name: String,
    },
    /// The store was opened: the time before doesn't count towards [`Retention::inactive_ms`].
    Resume,
    /// A consumer gives up this message, which is counted as that loss.
    GiveUp {
        /// Who.
        consumer: ConsumerId,
        /// Of which stream.
        stream: StreamId,
        /// Which message.
        sequence: Sequence,
        /// As what it is counted.
        loss: Loss,
    },
}

/// `Vec<u8>` as one run of bytes: postcard would otherwise visit each byte.
mod serde_bytes_vec {
    use serde::{Deserializer, Serializer, de::Visitor};

    pub(super) fn serialize<S: Serializer>(v: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(v)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, v: &[u8]) -> Result<Vec<u8>, E> {
                Ok(v.to_vec())
            }
            fn visit_byte_buf<E: serde::de::Error>(self, v: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(v)
            }
        }
        d.deserialize_byte_buf(Bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_keeps_its_bytes_from_version_to_version() {
        let at = Timestamp { wall_ms: -1, boot: 2, up_ms: 300, believed: true };
        let set = Op::Set {
            component: "s".into(),
            key: "k".into(),
            value: vec![9, 8],
            when: Condition::Etag(5),
            ttl_ms: Some(7),
        };
        let message = NewMessage { priority: 3, data: vec![1], ..NewMessage::default() };
        let publish = Op::Publish { topic: Topic::new("p", "t"), message };
        let (consumer, stream) = (ConsumerId(1), StreamId(2));
        let ranges = vec![(Sequence(3), Sequence(4))];
        let record = Record { at, ops: vec![set, publish, Op::Ack { consumer, stream, ranges }] };
        let bytes = postcard::to_stdvec(&record).unwrap();
        let golden = [
            1, 2, 172, 2, 1, // when
            3, // three operations
            2, 1, 115, 1, 107, 2, 9, 8, 2, 5, 1, 7, // Set
            4, 1, 112, 1, 116, 0, 0, 0, 3, 0, 1, 1, // Publish
            7, 1, 2, 1, 3, 4, // Ack
        ];
        assert_eq!(bytes, golden);
        assert_eq!(postcard::from_bytes::<Record>(&golden).unwrap(), record);
    }
}
