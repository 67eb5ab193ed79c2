//! Whether a record may take effect.

use std::collections::BTreeMap;

use store_forward::Error;
use store_forward::limits::Overflow;
use store_forward::record::{Condition, Op};

use super::Model;
use super::overflow::message_bytes;

/// Why a record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Conflict(usize),
    Full,
    UnknownConsumer,
    /// The model doesn't know the disk.
    NoSpace,
    Poisoned,
    TooLarge,
    Other,
}

/// The store's refusal in the model's words.
pub(crate) fn refusal(error: &Error) -> Refusal {
    match error {
        Error::Conflict { op, .. } => Refusal::Conflict(*op),
        Error::Full { .. } => Refusal::Full,
        Error::UnknownConsumer(_) => Refusal::UnknownConsumer,
        Error::DiskFull { .. } | Error::NodeFull { .. } => Refusal::NoSpace,
        Error::Poisoned { .. } => Refusal::Poisoned,
        Error::TooLarge { .. } => Refusal::TooLarge,
        _ => Refusal::Other,
    }
}

/// Whether an operation needs room on the disk.
pub(crate) fn grows(op: &Op) -> bool {
    matches!(op, Op::Set { .. } | Op::Publish { .. })
}

impl Model {
    /// Whether a record may take effect now.
    pub(crate) fn admit(&self, ops: &[Op], now_ms: u64) -> Result<(), Refusal> {
        let mut overlay = BTreeMap::new();
        let mut added = Added::default();
        for (at, op) in ops.iter().enumerate() {
            match op {
                Op::Set { component, key, when, .. } | Op::Delete { component, key, when } => {
                    let place = (component.clone(), key.clone());
                    let there = self.state.get(&place);
                    let live = there.filter(|v| v.expires_ms == 0 || now_ms < v.expires_ms);
                    let stored = live.map(|value| value.etag);
                    let found = *overlay.get(&place).unwrap_or(&stored);
                    let holds = match when {
                        Condition::Any => true,
                        Condition::Absent => found.is_none(),
                        Condition::Etag(etag) => found == Some(*etag),
                    };
                    if !holds {
                        return Err(Refusal::Conflict(at));
                    }
                    overlay.insert(place, matches!(op, Op::Set { .. }).then_some(0));
                }
                Op::Publish { .. } => self.fits(op, &mut added)?,
                Op::Unregister { name } | Op::Skip { name } | Op::Deactivate { name, .. } => {
                    let known = self.consumers.values().any(|reader| reader.spec.name == *name);
                    known.then_some(()).ok_or(Refusal::UnknownConsumer)?;
                }
                Op::Ack { consumer, .. }
                | Op::Nack { consumer, .. }
                | Op::Reject { consumer, .. }
                | Op::GiveUp { consumer, .. } => {
                    let known = self.consumers.contains_key(&consumer.0);
                    known.then_some(()).ok_or(Refusal::UnknownConsumer)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn fits(&self, op: &Op, added: &mut Added) -> Result<(), Refusal> {
        let Op::Publish { topic, message } = op else { return Ok(()) };
        let Some(bounds) = self.limits.get(&topic.component) else { return Ok(()) };
        let bytes = message_bytes(message);
        let grow = |sum: &mut (u64, u64)| {
            *sum = (sum.0 + 1, sum.1 + bytes);
            *sum
        };
        let stream = grow(added.streams.entry(topic.to_string()).or_default());
        let component = grow(added.components.entry(topic.component.clone()).or_default());
        if bounds.overflow != Overflow::Reject {
            return Ok(());
        }
        let over = |kept: (u64, u64), added: (u64, u64), most: u64, most_bytes: u64| {
            (most != 0 && kept.0 + added.0 > most)
                || (most_bytes != 0 && kept.1 + added.1 > most_bytes)
        };
        let kept = self.stream_of(topic).map_or((0, 0), |id| self.size(id));
        let all = self.component_size(&topic.component);
        let (most, most_bytes) = (bounds.max_component_messages, bounds.max_component_bytes);
        let full = over(kept, stream, bounds.max_messages, bounds.max_bytes)
            || over(all, component, most, most_bytes);
        if full { Err(Refusal::Full) } else { Ok(()) }
    }
}

/// What one record adds so far: messages and bytes.
#[derive(Default)]
struct Added {
    streams: BTreeMap<String, (u64, u64)>,
    components: BTreeMap<String, (u64, u64)>,
}
