//! What each operation does. Deterministic: all it reads is the record and the tables.

use super::index::{Claim, Index};
use super::overflow;
use super::rows::{MessageRow, StateRow};
use super::schema::Writer;
use super::{Applied, claims, expire, forget, inactive};
use crate::consumer::{dead_letter_origin, mark_dead_letter};
use crate::error::{Error, TablesError};
use crate::ids::{ConsumerId, Lsn, Sequence, StreamId};
use crate::record::{Loss, NewMessage, Op, Timestamp, Topic};

pub(super) fn apply(
    index: &mut Index,
    writer: &mut Writer<'_>,
    lsn: Lsn,
    at: Timestamp,
    ops: &[Op],
) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    for op in ops {
        apply_op(index, writer, lsn, at, op, &mut applied)?;
    }
    Ok(applied)
}

fn apply_op(
    index: &mut Index,
    writer: &mut Writer<'_>,
    lsn: Lsn,
    at: Timestamp,
    op: &Op,
    applied: &mut Applied,
) -> Result<(), Error> {
    let now_ms = index.device_ms(at.up_ms);
    match op {
        Op::Create { node, epoch } => {
            index.meta.node = node.clone();
            index.meta.epoch = *epoch;
        }
        Op::Boot { id, base_ms } => {
            index.meta.boot += 1;
            index.meta.boot_id.clone_from(id);
            index.meta.base_ms = *base_ms;
        }
        Op::Set { component, key, value, ttl_ms, .. } => {
            let expires_ms = ttl_ms.map_or(0, |ttl| now_ms.saturating_add(ttl));
            let row = StateRow { etag: lsn.0, expires_ms, value };
            set(index, writer, component, key, &row)?;
        }
        Op::Delete { component, key, .. } => delete(index, writer, component, key)?,
        Op::Publish { topic, message } => {
            applied.published.push(publish(index, writer, at, topic, message, Origin::Checked)?);
        }
        Op::Register(spec) => {
            let (id, resumed) = claims::register(index, writer, spec)?;
            applied.registered = Some(id);
            applied.resumed.extend(resumed);
        }
        Op::Unregister { name } => applied.forgotten = forget::forget(index, writer, name)?,
        Op::Skip { name } => {
            let skipped = forget::skip(index, writer, name)?;
            (applied.skipped, applied.forgotten) = skipped.unzip();
        }
        Op::Deactivate { name, reason } => {
            inactive::deactivate(index, writer, name, *reason, now_ms)?;
        }
        Op::Resume => inactive::resume(index, writer, now_ms)?,
        Op::Ack { consumer, stream, ranges } => {
            acknowledge(index, writer, *consumer, *stream, ranges)?;
        }
        Op::Nack { consumer, stream, sequence } => {
            if index.streams.contains_key(stream) {
                index.cursor_mut(*consumer, *stream).count_failure(*sequence);
            }
        }
        Op::Reject { consumer, stream, sequence, reason } => {
            let letter = reject(index, writer, at, (*consumer, *stream, *sequence), reason)?;
            applied.published.extend(letter);
        }
        Op::Configure { component, limits } => {
            index.limits.insert(component.clone(), *limits);
            writer.put_limits(component, limits)?;
        }
        Op::Expire { limit, retention } => {
            let unclaimed_ms = retention.unclaimed_ms;
            let letters = expire::expire(index, writer, at, now_ms, *limit, unclaimed_ms)?;
            applied.published.extend(letters);
            applied.given_up = inactive::age(index, writer, retention, now_ms)?;
        }
        Op::GiveUp { consumer, stream, sequence, loss } => {
            give_up(index, writer, (*consumer, *stream, *sequence), *loss)?;
        }
    }
    Ok(())
}

fn set(
    index: &mut Index,
    writer: &mut Writer<'_>,
    component: &str,
    key: &str,
    row: &StateRow<'_>,
) -> Result<(), Error> {
    let before = writer.put_state(component, key, row)?;
    let count = index.meta.state.entry(component.to_owned()).or_default();
    count.keys += 1;
    count.bytes += (key.len() + row.value.len()) as u64;
    forget_state(index, writer, component, key, before)?;
    if row.expires_ms != 0 {
        writer.put_state_expiry(row.expires_ms, component, key)?;
    }
    Ok(())
}

pub(super) fn delete(
    index: &mut Index,
    writer: &mut Writer<'_>,
    component: &str,
    key: &str,
) -> Result<(), Error> {
    let before = writer.remove_state(component, key)?;
    forget_state(index, writer, component, key, before)
}

fn forget_state(
    index: &mut Index,
    writer: &mut Writer<'_>,
    component: &str,
    key: &str,
    before: Option<(u64, usize)>,
) -> Result<(), Error> {
    let Some((expires_ms, value_bytes)) = before else { return Ok(()) };
    let bytes = (key.len() + value_bytes) as u64;
    if let Some(count) = index.meta.state.get_mut(component) {
        count.keys = count.keys.saturating_sub(1);
        count.bytes = count.bytes.saturating_sub(bytes);
        if count.keys == 0 {
            index.meta.state.remove(component);
        }
    }
    if expires_ms != 0 {
        writer.remove_state_expiry(expires_ms, component, key)?;
    }
    Ok(())
}

/// Where a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A producer: that there is room was checked before it was written.
    Checked,
    /// Another stream, whatever room there is.
    DeadLetter,
}

fn publish(
    index: &mut Index,
    writer: &mut Writer<'_>,
    at: Timestamp,
    topic: &Topic,
    message: &NewMessage,
    origin: Origin,
) -> Result<(StreamId, Sequence), Error> {
    let id = index.stream_of(topic).unwrap_or_else(|| index.add_stream(topic.clone()));
    let keep = overflow::make_room(index, writer, id, message, origin)?;
    let born_ms = index.device_ms(at.up_ms);
    let expires_ms = message.ttl_ms.map_or(0, |ttl| born_ms.saturating_add(ttl));
    let Some(stream) = index.stream_mut(id) else { return Err(no_stream(id)) };
    let sequence = stream.row.next;
    stream.row.next = sequence.next();
    if !keep {
        note_loss(index, writer, id, sequence, Loss::Overflow)?;
        return Ok((id, sequence));
    }
    if stream.row.messages == 0 {
        stream.row.first = sequence;
    }
    let row = MessageRow { at, born_ms, expires_ms, body: message.clone() };
    let bytes = writer.put_message(id, sequence, &row)? as u64;
    stream.row.messages += 1;
    stream.row.bytes += bytes;
    stream.row.by_priority[usize::from(message.priority.min(7))] += 1;
    let totals = index.totals_mut(&topic.component);
    totals.messages += 1;
    totals.bytes += bytes;
    if expires_ms != 0 {
        writer.put_message_expiry(expires_ms, id, sequence)?;
    }
    Ok((id, sequence))
}

fn acknowledge(
    index: &mut Index,
    writer: &mut Writer<'_>,
    consumer: ConsumerId,
    stream: StreamId,
    ranges: &[(Sequence, Sequence)],
) -> Result<(), Error> {
    let Some(known) = index.streams.get(&stream) else { return Ok(()) };
    let last = known.row.next.previous();
    let cursor = index.cursor_mut(consumer, stream);
    for (from, to) in ranges {
        cursor.acknowledge(*from, (*to).min(last));
    }
    release(index, writer, stream)?;
    release_behind_gaps(index, writer, stream, ranges)
}

/// Deletes what every consumer has behind a message that one of them lacks: a message that is held
/// for weeks must not keep all that came after it.
fn release_behind_gaps(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
    ranges: &[(Sequence, Sequence)],
) -> Result<(), Error> {
    let Some(stream) = index.streams.get(&id) else { return Ok(()) };
    let (first, next) = (stream.row.first, stream.row.next);
    for (from, to) in ranges {
        let mut sequence = (*from).max(first);
        while sequence <= *to && sequence < next {
            if index.all_have(id, sequence) {
                remove(index, writer, id, sequence)?;
            }
            sequence = sequence.next();
        }
    }
    Ok(())
}

/// Deletes what every consumer with a claim has, and drops the claims that this ends.
pub(super) fn release(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
) -> Result<(), Error> {
    loop {
        while let Some(done) = index.done_by_all(id) {
            delete_up_to(index, writer, id, done)?;
            if !skip_hole(index, writer, id)? {
                break;
            }
        }
        if !claims::drop_finished(index, writer, id)? {
            return Ok(());
        }
    }
}

fn delete_up_to(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
    done: Sequence,
) -> Result<(), Error> {
    let Some(stream) = index.streams.get(&id) else { return Ok(()) };
    let mut from = stream.row.first;
    while from <= done && index.streams.get(&id).is_some_and(|s| s.row.messages > 0) {
        remove(index, writer, id, from)?;
        from = from.next();
    }
    writer.remove_gaps(id, done)?;
    if let Some(stream) = index.stream_mut(id) {
        stream.row.first = stream.row.first.max(done.next()).min(stream.row.next);
    }
    Ok(())
}

/// Deletes what every consumer has, after overflow took this message before it.
pub(super) fn release_beyond(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
    sequence: Sequence,
) -> Result<(), Error> {
    if index.all_have_beyond(id, sequence) { release(index, writer, id) } else { Ok(()) }
}

/// What expiry or overflow took need not be waited for: moves the stream's start, and every cursor
/// with it, to the first message that is kept. Says whether a cursor moved.
fn skip_hole(index: &mut Index, writer: &mut Writer<'_>, id: StreamId) -> Result<bool, Error> {
    let Some(row) = index.streams.get(&id).map(|stream| &stream.row) else { return Ok(false) };
    let (next, from) = (row.next, row.first);
    let first = if row.messages == next.0 - from.0 {
        from
    } else {
        writer.first_place(id, from)?.unwrap_or(next)
    };
    if first != from
        && let Some(stream) = index.stream_mut(id)
    {
        stream.row.first = first;
    }
    let claims = index.streams.get(&id).map(|stream| stream.claims.clone());
    let mut moved = false;
    for Claim { consumer, .. } in claims.unwrap_or_default() {
        if index.done(consumer, id) < first.previous() {
            moved |= index.cursor_mut(consumer, id).acknowledge(Sequence(1), first.previous());
        }
    }
    Ok(moved)
}

/// Removes a message and what is counted of it.
pub(super) fn remove(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
    sequence: Sequence,
) -> Result<Option<MessageRow>, Error> {
    let Some((row, bytes)) = writer.remove_message(id, sequence)? else { return Ok(None) };
    if row.expires_ms != 0 {
        writer.remove_message_expiry(row.expires_ms, id, sequence)?;
    }
    let Some(stream) = index.stream_mut(id) else { return Ok(Some(row)) };
    let bytes = bytes as u64;
    stream.row.messages -= 1;
    stream.row.bytes -= bytes;
    stream.row.by_priority[usize::from(row.body.priority.min(7))] -= 1;
    if stream.row.first == sequence {
        stream.row.first = sequence.next();
    }
    let component = stream.row.topic.component.clone();
    let totals = index.totals_mut(&component);
    totals.messages -= 1;
    totals.bytes -= bytes;
    Ok(Some(row))
}

/// Removes a message that no consumer acknowledged; it is counted and, for an uplink, remembered.
pub(super) fn lose(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
    sequence: Sequence,
    loss: Loss,
) -> Result<Option<MessageRow>, Error> {
    let row = remove(index, writer, id, sequence)?;
    if row.is_some() {
        note_loss(index, writer, id, sequence, loss)?;
    }
    Ok(row)
}

fn note_loss(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
    sequence: Sequence,
    loss: Loss,
) -> Result<(), Error> {
    let Some(stream) = index.stream_mut(id) else { return Ok(()) };
    stream.row.losses.count(loss);
    if index.streams.get(&id).is_some_and(|stream| index.has_uplink(stream, sequence)) {
        writer.put_gap(id, sequence, loss)?;
    }
    Ok(())
}

fn reject(
    index: &mut Index,
    writer: &mut Writer<'_>,
    at: Timestamp,
    (consumer, id, sequence): (ConsumerId, StreamId, Sequence),
    reason: &str,
) -> Result<Option<(StreamId, Sequence)>, Error> {
    let row = writer.message(id, sequence)?;
    let target = index.consumers.get(&consumer).and_then(|row| row.spec.dead_letter.clone());
    // Refused in the dead letter topic itself, or in that of another consumer whose dead letters come
    // back here, it would go round for ever.
    let target = target.filter(|topic| !comes_from(index, id, row.as_ref(), topic));
    let letter = match (row, target) {
        (Some(row), Some(topic)) => {
            Some(dead_letter(index, writer, at, id, (sequence, row), &topic, reason)?)
        }
        (Some(_), None) => {
            give_up(index, writer, (consumer, id, sequence), Loss::Dropped)?;
            return Ok(None);
        }
        (None, _) => None,
    };
    acknowledge(index, writer, consumer, id, &[(sequence, sequence)])?;
    Ok(letter)
}

/// Whether a message is in that topic, or is a dead letter from there.
fn comes_from(index: &Index, id: StreamId, row: Option<&MessageRow>, topic: &Topic) -> bool {
    let Some(target) = index.stream_of(topic) else { return false };
    let origin = row.and_then(|row| dead_letter_origin(&row.body.attributes));
    target == id || origin == Some(target)
}

/// Counts a message as lost, if it is still kept, and lets the consumer pass it.
fn give_up(
    index: &mut Index,
    writer: &mut Writer<'_>,
    (consumer, id, sequence): (ConsumerId, StreamId, Sequence),
    loss: Loss,
) -> Result<(), Error> {
    if writer.first_place(id, sequence)? == Some(sequence)
        && let Some(stream) = index.stream_mut(id)
    {
        stream.row.losses.count(loss);
    }
    acknowledge(index, writer, consumer, id, &[(sequence, sequence)])
}

/// Publishes a message to a dead letter topic, with where it comes from and why. It does not expire again.
pub(super) fn dead_letter(
    index: &mut Index,
    writer: &mut Writer<'_>,
    at: Timestamp,
    id: StreamId,
    (sequence, row): (Sequence, MessageRow),
    topic: &Topic,
    reason: &str,
) -> Result<(StreamId, Sequence), Error> {
    let Some(stream) = index.streams.get(&id) else { return Err(no_stream(id)) };
    let mut message = NewMessage { ttl_ms: None, ..row.body };
    let from = &stream.row.topic.name;
    mark_dead_letter(&mut message.attributes, reason, from, (id, sequence), row.at);
    publish(index, writer, at, topic, &message, Origin::DeadLetter)
}

fn no_stream(id: StreamId) -> Error {
    TablesError::UnknownStream(id).into()
}
