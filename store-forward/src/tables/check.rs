//! Whether a record may take effect: nothing of it does unless all of it can.

use std::collections::HashMap;

use super::index::Index;
use super::overflow;
use super::schema::Writer;
use crate::error::Error;
use crate::limits::Limits;
use crate::record::{Condition, Op, Topic};

/// What the operations before have made of a key: `None` once it is deleted.
type Overlay<'a> = HashMap<(&'a str, &'a str), Option<u64>>;

pub(super) fn check(
    index: &Index,
    writer: &mut Writer<'_>,
    ops: &[Op],
    now_ms: u64,
    limits: &Limits,
) -> Result<(), Error> {
    let mut overlay = Overlay::new();
    let mut publishing = overflow::Publishing::default();
    for (at, op) in ops.iter().enumerate() {
        match op {
            Op::Set { component, key, value, when, .. } => {
                key_fits(key, limits)?;
                fits("a value", value.len(), limits.max_value_bytes, "spec.limits.maxValue")?;
                holds(writer, &mut overlay, (component, key), *when, at, now_ms)?;
                overlay.insert((component, key), Some(0));
            }
            Op::Delete { component, key, when } => {
                key_fits(key, limits)?;
                holds(writer, &mut overlay, (component, key), *when, at, now_ms)?;
                overlay.insert((component, key), None);
            }
            Op::Publish { topic, message } => {
                topic_fits(topic, limits)?;
                let bytes = message.data.len();
                fits("a message", bytes, limits.max_value_bytes, "spec.limits.maxValue")?;
                publishing.add(index, topic, message, limits)?;
            }
            Op::Register(spec) => {
                let known = index.consumer_named(&spec.name).is_some();
                if !known && index.consumers.len() >= limits.max_consumers as usize {
                    let (limit, setting) = (limits.max_consumers, "spec.limits.maxConsumers");
                    return Err(Error::TooMany { what: "consumers", limit, setting });
                }
            }
            Op::Unregister { name } | Op::Skip { name } | Op::Deactivate { name, .. } => {
                index.consumer_named(name).ok_or_else(|| Error::UnknownConsumer(name.clone()))?;
            }
            Op::Ack { consumer, .. }
            | Op::Nack { consumer, .. }
            | Op::Reject { consumer, .. }
            | Op::GiveUp { consumer, .. } => {
                let known = index.consumers.contains_key(consumer);
                known.then_some(()).ok_or_else(|| Error::UnknownConsumer(consumer.to_string()))?;
            }
            Op::Create { .. }
            | Op::Boot { .. }
            | Op::Resume
            | Op::Configure { .. }
            | Op::Expire { .. } => {}
        }
    }
    Ok(())
}

fn holds<'a>(
    writer: &mut Writer<'_>,
    overlay: &mut Overlay<'a>,
    (component, key): (&'a str, &'a str),
    when: Condition,
    op: usize,
    now_ms: u64,
) -> Result<(), Error> {
    let expected = match when {
        Condition::Any => return Ok(()),
        Condition::Absent => None,
        Condition::Etag(etag) => Some(etag),
    };
    let found = match overlay.get(&(component, key)) {
        Some(written) => *written,
        None => {
            writer.state(component, key, |row| row.is_live(now_ms).then_some(row.etag))?.flatten()
        }
    };
    if expected == found {
        return Ok(());
    }
    Err(Error::Conflict { op, key: key.to_owned(), expected, found })
}

fn key_fits(key: &str, limits: &Limits) -> Result<(), Error> {
    fits("a key", key.len(), limits.max_key_bytes, "spec.limits.maxKey")
}

pub(super) fn topic_fits(topic: &Topic, limits: &Limits) -> Result<(), Error> {
    fits("a topic", topic.name.len(), limits.max_topic_bytes, "spec.limits.maxTopic")
}

fn fits(
    what: &'static str,
    bytes: usize,
    limit: usize,
    setting: &'static str,
) -> Result<(), Error> {
    if bytes <= limit {
        return Ok(());
    }
    Err(Error::TooLarge { what, bytes, limit, setting })
}
