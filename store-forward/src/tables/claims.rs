//! Claims: which messages are kept for which consumer. An active consumer has an open claim on each
//! stream that its filters match. When it stops reading a stream, because its filters change or it
//! becomes inactive, the claim is closed: the messages so far are kept until it has them or is
//! forgotten.

use super::apply::release;
use super::index::{Claim, Index};
use super::rows::{ConsumerRow, StreamRow};
use super::schema::Writer;
use crate::error::Error;
use crate::ids::{ConsumerId, Sequence, StreamId};
use crate::record::ConsumerSpec;

/// A stream that a consumer reads again. Messages between the two that are gone were not kept for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resumed {
    pub(crate) stream: StreamId,
    /// The last message that was kept for it.
    pub(crate) after: Sequence,
    /// The last message that was published.
    pub(crate) until: Sequence,
}

/// Registers a consumer, or changes the one of that name, and makes it active.
pub(super) fn register(
    index: &mut Index,
    writer: &mut Writer<'_>,
    spec: &ConsumerSpec,
) -> Result<(ConsumerId, Vec<Resumed>), Error> {
    let id = index.consumer_named(&spec.name).unwrap_or_else(|| index.new_consumer());
    let row = ConsumerRow { spec: spec.clone(), inactive: None };
    Ok((id, change(index, writer, id, row)?))
}

/// Sets a consumer's row, and opens and closes its claims accordingly.
pub(super) fn change(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: ConsumerId,
    row: ConsumerRow,
) -> Result<Vec<Resumed>, Error> {
    writer.put_consumer(id, &row)?;
    let mut resumed = Vec::new();
    for stream in index.streams.keys().copied().collect::<Vec<_>>() {
        let Some(known) = index.streams.get(&stream) else { continue };
        let claim = known.claims.iter().find(|claim| claim.consumer == id).copied();
        match (row.collects(&known.row.topic), claim) {
            (true, Some(Claim { until: None, .. }))
            | (false, None | Some(Claim { until: Some(_), .. })) => {}
            (true, _) => resumed.extend(open(index, writer, stream, id)?),
            (false, Some(_)) => close(index, writer, stream, id)?,
        }
    }
    index.consumers.insert(id, row);
    Ok(resumed)
}

/// Opens a consumer's claim on a stream. Returns what it may have missed, if it had one before.
fn open(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
    consumer: ConsumerId,
) -> Result<Option<Resumed>, Error> {
    let had = index.cursors.get(&(consumer, id)).map(|cursor| cursor.done);
    let Some(stream) = index.streams.get_mut(&id) else { return Ok(None) };
    let closed = stream.claims.iter().find_map(|c| (c.consumer == consumer).then_some(c.until)?);
    stream.claims.retain(|claim| claim.consumer != consumer);
    stream.claims.push(Claim { consumer, until: None });
    let until = stream.row.next.previous();
    if closed.is_some() {
        writer.remove_claim(consumer, id)?;
    }
    let after = closed.or(had);
    Ok(after.map(|after| Resumed { stream: id, after, until }).filter(|r| r.after < r.until))
}

/// Closes a consumer's claim: it ends with the newest message.
fn close(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
    consumer: ConsumerId,
) -> Result<(), Error> {
    let Some(stream) = index.streams.get_mut(&id) else { return Ok(()) };
    let until = stream.row.next.previous();
    stream.claims.retain(|claim| claim.consumer != consumer);
    stream.claims.push(Claim { consumer, until: Some(until) });
    writer.put_claim(consumer, id, until)?;
    release(index, writer, id)
}

/// Drops the closed claims that keep no message any more; returns whether there were any. A claim
/// stays even if its consumer has all of it: messages kept for it alone must not count as unclaimed.
pub(super) fn drop_finished(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
) -> Result<bool, Error> {
    let Some(stream) = index.streams.get(&id) else { return Ok(false) };
    let StreamRow { first, messages, .. } = stream.row;
    let is_finished =
        |claim: &Claim| claim.until.is_some_and(|until| messages == 0 || first > until);
    let finished: Vec<ConsumerId> =
        stream.claims.iter().filter(|claim| is_finished(claim)).map(|c| c.consumer).collect();
    for consumer in &finished {
        drop_claim(index, writer, id, *consumer)?;
    }
    Ok(!finished.is_empty())
}

/// Drops a closed claim.
pub(super) fn drop_claim(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
    consumer: ConsumerId,
) -> Result<(), Error> {
    index.drop_claim(id, consumer);
    writer.remove_claim(consumer, id)
}
