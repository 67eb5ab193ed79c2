//! Forgets consumers, or their backlogs.

use super::apply::{lose, release};
use super::claims;
use super::index::{Claim, Index};
use super::schema::Writer;
use crate::error::Error;
use crate::ids::{ConsumerId, Sequence, StreamId};
use crate::record::Loss;

/// What happened to a backlog that was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Messages that were kept for nobody else: they are deleted, and counted as unclaimed.
    pub deleted: u64,
    /// Messages that are kept for others.
    pub kept: u64,
}

/// Removes a consumer and what was kept for it alone.
pub(super) fn forget(
    index: &mut Index,
    writer: &mut Writer<'_>,
    name: &str,
) -> Result<Option<Forgotten>, Error> {
    let Some(id) = index.consumer_named(name) else { return Ok(None) };
    let mut forgotten = Forgotten::default();
    let claims = index.claims_of(id);
    for (stream, claim) in &claims {
        index.drop_claim(*stream, id);
        give_up(index, writer, *stream, *claim, &mut forgotten)?;
    }
    index.remove_consumer(id);
    writer.remove_consumer(id)?;
    for (stream, _) in claims {
        release(index, writer, stream)?;
    }
    Ok(Some(forgotten))
}

/// Moves a consumer behind the last message of each of its streams.
pub(super) fn skip(
    index: &mut Index,
    writer: &mut Writer<'_>,
    name: &str,
) -> Result<Option<(ConsumerId, Forgotten)>, Error> {
    let Some(id) = index.consumer_named(name) else { return Ok(None) };
    let mut forgotten = Forgotten::default();
    for (stream, claim) in index.claims_of(id) {
        give_up(index, writer, stream, claim, &mut forgotten)?;
        pass(index, writer, stream, claim)?;
        release(index, writer, stream)?;
    }
    Ok(Some((id, forgotten)))
}

/// Deletes what a claim alone keeps.
fn give_up(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
    claim: Claim,
    forgotten: &mut Forgotten,
) -> Result<(), Error> {
    let Claim { consumer, until } = claim;
    let cursor = index.cursors.get(&(consumer, id)).cloned().unwrap_or_default();
    let mut from = cursor.done.next();
    while let Some(sequence) = writer.first_place(id, from)? {
        if until.is_some_and(|until| sequence > until) {
            break;
        }
        from = sequence.next();
        if cursor.has(sequence) {
            continue;
        }
        if index.is_kept_for_others(id, sequence, consumer) {
            forgotten.kept += 1;
        } else {
            lose(index, writer, id, sequence, Loss::Unclaimed)?;
            forgotten.deleted += 1;
        }
    }
    Ok(())
}

/// Takes note that a consumer has all of a stream.
fn pass(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: StreamId,
    claim: Claim,
) -> Result<(), Error> {
    let consumer: ConsumerId = claim.consumer;
    let Some(last) = index.streams.get(&id).map(|stream| stream.row.next.previous()) else {
        return Ok(());
    };
    index.cursor_mut(consumer, id).acknowledge(Sequence(1), last);
    if claim.is_open() { Ok(()) } else { claims::drop_claim(index, writer, id, consumer) }
}
