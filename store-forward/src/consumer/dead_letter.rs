use super::{Delivery, Message};
use crate::ids::{Sequence, StreamId};
use crate::record::{NewMessage, Timestamp};

const REASON: &str = "deadletterreason";
const TOPIC: &str = "deadlettertopic";
const STREAM: &str = "deadletterstream";
const SEQUENCE: &str = "deadlettersequence";
const TIME: &str = "deadlettertime";

/// The origin of a message in a dead letter topic. A copy of a copy tells of the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// The reason why it is there; of a copy of a copy, the last one.
    pub reason: &'a str,
    /// The topic that it was published to.
    pub topic: &'a str,
    /// The stream of that topic.
    pub stream: StreamId,
    /// Its place in that stream.
    pub sequence: Sequence,
    /// When it was published, in milliseconds since 1970 by the wall clock.
    pub wall_ms: i64,
}

impl<'a> DeadLetter<'a> {
    /// Reads the origin that a message tells of; `None` if it is no dead letter.
    #[must_use]
    pub fn of(message: &'a Message) -> Option<Self> {
        Some(Self {
            reason: message.attribute(REASON)?,
            topic: message.attribute(TOPIC)?,
            stream: StreamId(message.attribute(STREAM)?.parse().ok()?),
            sequence: Sequence(message.attribute(SEQUENCE)?.parse().ok()?),
            wall_ms: message.attribute(TIME)?.parse().ok()?,
        })
    }

    /// Makes the copy for a dead letter topic, marked with its origin and the reason. The copy does
    /// not expire.
    #[must_use]
    pub fn copy(delivery: Delivery, reason: &str) -> NewMessage {
        let Delivery { topic, stream, message, .. } = delivery;
        let Message { sequence, at, content_type, mut attributes, key, priority, data, .. } =
            message;
        mark(&mut attributes, reason, &topic.name, (stream, sequence), at);
        NewMessage { content_type, attributes, key, priority, ttl_ms: None, data }
    }
}

/// Returns the stream that a dead letter was published to first.
pub(crate) fn origin(attributes: &[(String, String)]) -> Option<StreamId> {
    let (_, stream) = attributes.iter().find(|(name, _)| name == STREAM)?;
    stream.parse().ok().map(StreamId)
}

/// Marks the attributes of a copy.
pub(crate) fn mark(
    attributes: &mut Vec<(String, String)>,
    reason: &str,
    topic: &str,
    (stream, sequence): (StreamId, Sequence),
    at: Timestamp,
) {
    attributes.retain(|(name, _)| name != REASON);
    attributes.push((REASON.to_owned(), reason.to_owned()));
    if attributes.iter().any(|(name, _)| name == SEQUENCE) {
        return;
    }
    let origin = [
        (TOPIC, topic.to_owned()),
        (STREAM, stream.0.to_string()),
        (SEQUENCE, sequence.0.to_string()),
        (TIME, at.wall_ms.to_string()),
    ];
    attributes.extend(origin.map(|(name, value)| (name.to_owned(), value)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(attributes: Vec<(String, String)>) -> Message {
        Message {
            sequence: Sequence(1),
            at: Timestamp::default(),
            expires_in_ms: None,
            content_type: None,
            attributes,
            key: None,
            priority: 0,
            data: Vec::new(),
        }
    }

    #[test]
    fn a_copy_of_a_copy_tells_of_the_first_and_of_the_last_reason() {
        let at = |wall_ms| Timestamp { wall_ms, ..Timestamp::default() };
        let mut attributes = vec![("source".to_owned(), "an-app".to_owned())];
        mark(&mut attributes, "no", "orders", (StreamId(3), Sequence(7)), at(11));
        mark(&mut attributes, "expired", "dead", (StreamId(4), Sequence(1)), at(12));
        let copy = message(attributes);
        let expected = DeadLetter {
            reason: "expired",
            topic: "orders",
            stream: StreamId(3),
            sequence: Sequence(7),
            wall_ms: 11,
        };
        assert_eq!(DeadLetter::of(&copy), Some(expected));
        assert_eq!(copy.attribute("source"), Some("an-app"));
        assert_eq!(DeadLetter::of(&message(Vec::new())), None);
    }
}
