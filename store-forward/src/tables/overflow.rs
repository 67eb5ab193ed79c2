//! What happens when a stream or a component is full.

use std::collections::BTreeMap;

use super::apply::{Origin, lose, release_beyond};
use super::index::Index;
use super::schema::Writer;
use crate::error::Error;
use crate::ids::{Sequence, StreamId};
use crate::limits::{Limits, Overflow, StreamLimits};
use crate::record::{Loss, NewMessage, Topic};

/// What one record adds, summed up as its operations are checked.
#[derive(Default)]
pub(super) struct Publishing<'a> {
    streams: BTreeMap<&'a Topic, (u64, u64)>,
    components: BTreeMap<&'a str, (u64, u64)>,
    new_streams: usize,
}

impl<'a> Publishing<'a> {
    /// Refuses what would go over a limit whose policy is to refuse.
    pub(super) fn add(
        &mut self,
        index: &Index,
        topic: &'a Topic,
        message: &NewMessage,
        limits: &Limits,
    ) -> Result<(), Error> {
        let stream = index.stream_of(topic).and_then(|id| index.streams.get(&id));
        if stream.is_none() && !self.streams.contains_key(topic) {
            self.new_streams += 1;
            if index.streams.len() + self.new_streams > limits.max_streams as usize {
                let (limit, setting) = (limits.max_streams, "spec.limits.maxStreams");
                return Err(Error::TooMany { what: "streams", limit, setting });
            }
        }
        let Some(bounds) = index.limits.get(&topic.component) else { return Ok(()) };
        let bytes = message_bytes(message);
        let added = grow(self.streams.entry(topic).or_default(), bytes);
        let added_all = grow(self.components.entry(&topic.component).or_default(), bytes);
        if bounds.overflow != Overflow::Reject {
            return Ok(());
        }
        let kept = stream.map_or((0, 0), |s| (s.row.messages, s.row.bytes));
        let all = index.totals.get(&topic.component).copied().unwrap_or_default();
        let stream_over = over(bounds.max_messages, bounds.max_bytes, kept, added);
        let component_over = over(
            bounds.max_component_messages,
            bounds.max_component_bytes,
            (all.messages, all.bytes),
            added_all,
        );
        match stream_over.or(component_over.map(|limit| format!("{limit} in its component"))) {
            Some(limit) => Err(Error::Full { topic: topic.clone(), limit, holder: None }),
            None => Ok(()),
        }
    }
}

/// Makes room for a message; says whether it may be kept.
pub(super) fn make_room(
    index: &mut Index,
    writer: &mut Writer<'_>,
    stream: StreamId,
    message: &NewMessage,
    origin: Origin,
) -> Result<bool, Error> {
    while let Some((bounds, whole_component)) = exceeded(index, stream, message) {
        let kept = match bounds.overflow {
            // A producer's was checked before it was written; a dead letter has nobody to refuse.
            Overflow::Reject => return Ok(origin == Origin::Checked),
            Overflow::DropNew => return Ok(false),
            Overflow::DropOldest => {
                let from = if whole_component { largest(index, stream) } else { stream };
                drop_oldest(index, writer, from)?
            }
            Overflow::DropLowestPriority => {
                let from = if whole_component { largest(index, stream) } else { stream };
                drop_lowest(index, writer, from, message.priority)?
            }
        };
        if !kept {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The bytes that a message counts for before its row is made.
fn message_bytes(message: &NewMessage) -> u64 {
    let attributes: usize = message.attributes.iter().map(|(k, v)| k.len() + v.len()).sum();
    (message.data.len() + attributes) as u64
}

fn grow(sum: &mut (u64, u64), bytes: u64) -> (u64, u64) {
    *sum = (sum.0 + 1, sum.1 + bytes);
    *sum
}

fn over(max_messages: u64, max_bytes: u64, kept: (u64, u64), added: (u64, u64)) -> Option<String> {
    if max_messages != 0 && kept.0 + added.0 > max_messages {
        return Some(format!("{max_messages} messages"));
    }
    if max_bytes != 0 && kept.1 + added.1 > max_bytes {
        return Some(format!("{max_bytes} bytes"));
    }
    None
}

/// The limits that one more message would exceed, and whether they are the whole component's.
fn exceeded(index: &Index, id: StreamId, message: &NewMessage) -> Option<(StreamLimits, bool)> {
    let stream = index.streams.get(&id)?;
    let bounds = *index.limits.get(&stream.row.topic.component)?;
    let added = (1, message_bytes(message));
    let kept = (stream.row.messages, stream.row.bytes);
    if over(bounds.max_messages, bounds.max_bytes, kept, added).is_some() {
        return Some((bounds, false));
    }
    let all = index.totals.get(&stream.row.topic.component).copied().unwrap_or_default();
    let (messages, bytes) = (bounds.max_component_messages, bounds.max_component_bytes);
    over(messages, bytes, (all.messages, all.bytes), added).map(|_| (bounds, true))
}

/// The component's stream that keeps most.
fn largest(index: &Index, id: StreamId) -> StreamId {
    let Some(this) = index.streams.get(&id) else { return id };
    let component = &this.row.topic.component;
    let of_component = index.streams.iter().filter(|(_, s)| &s.row.topic.component == component);
    of_component.max_by_key(|(_, s)| s.row.bytes).map_or(id, |(id, _)| *id)
}

fn drop_oldest(index: &mut Index, writer: &mut Writer<'_>, id: StreamId) -> Result<bool, Error> {
    let Some(first) = index.streams.get(&id).map(|s| s.row.first) else { return Ok(false) };
    let Some(sequence) = writer.first_place(id, first)? else { return Ok(false) };
    lose(index, writer, id, sequence, Loss::Overflow)?;
    release_beyond(index, writer, id, sequence)?;
    Ok(true)
}

fn drop_lowest(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
    priority: u8,
) -> Result<bool, Error> {
    let Some(stream) = index.streams.get(&id) else { return Ok(false) };
    let lowest = stream.row.by_priority.iter().position(|n| *n > 0);
    let Some(lowest) = lowest.filter(|lowest| *lowest <= usize::from(priority)) else {
        return Ok(false);
    };
    let mut from = stream.lowest_from[lowest].max(stream.row.first);
    while let Some((sequence, row)) = writer.first_message(id, from)? {
        if usize::from(row.body.priority.min(7)) == lowest {
            remember(index, id, lowest, sequence);
            lose(index, writer, id, sequence, Loss::Overflow)?;
            release_beyond(index, writer, id, sequence)?;
            return Ok(true);
        }
        from = sequence.next();
    }
    Ok(false)
}

fn remember(index: &mut Index, id: StreamId, lowest: usize, sequence: Sequence) {
    if let Some(stream) = index.stream_mut(id) {
        stream.lowest_from[lowest] = sequence;
    }
}
