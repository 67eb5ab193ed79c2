//! What is over its time goes. Time is device time: elapsed, whatever the wall clock shows.

use super::apply::{dead_letter, delete, lose, release};
use super::index::Index;
use super::schema::Writer;
use crate::error::Error;
use crate::ids::{Sequence, StreamId};
use crate::record::{Loss, Timestamp, Topic};

/// Takes at most `limit` rows and messages; says what went to dead letter topics.
pub(super) fn expire(
    index: &mut Index,
    writer: &mut Writer<'_>,
    at: Timestamp,
    now_ms: u64,
    limit: u32,
    unclaimed_ms: u64,
) -> Result<Vec<(StreamId, Sequence)>, Error> {
    let mut left = limit;
    let mut letters = Vec::new();
    while left > 0 {
        let Some((_, component, key)) = writer.first_expired_state(now_ms)? else { break };
        delete(index, writer, &component, &key)?;
        left -= 1;
    }
    while left > 0 {
        let Some((stream, sequence)) = writer.first_expired_message(now_ms)? else { break };
        letters.extend(expire_message(index, writer, at, stream, sequence)?);
        left -= 1;
    }
    for (stream, from) in index.unclaimed() {
        left = expire_unclaimed(index, writer, (stream, from), now_ms, unclaimed_ms, left)?;
    }
    Ok(letters)
}

fn expire_message(
    index: &mut Index,
    writer: &mut Writer<'_>,
    at: Timestamp,
    stream: StreamId,
    sequence: Sequence,
) -> Result<Vec<(StreamId, Sequence)>, Error> {
    let topics: Vec<Topic> = index.dead_letters_of(stream, sequence);
    let Some(row) = lose(index, writer, stream, sequence, Loss::Expired)? else {
        return Ok(Vec::new());
    };
    let letters = topics
        .iter()
        .map(|topic| {
            dead_letter(index, writer, at, stream, (sequence, row.clone()), topic, "expired")
        })
        .collect();
    release(index, writer, stream)?;
    letters
}

fn expire_unclaimed(
    index: &mut Index,
    writer: &mut Writer<'_>,
    (id, mut from): (StreamId, Sequence),
    now_ms: u64,
    unclaimed_ms: u64,
    mut left: u32,
) -> Result<u32, Error> {
    while left > 0 {
        let Some((sequence, row)) = writer.first_message(id, from)? else { break };
        if row.born_ms.saturating_add(unclaimed_ms) > now_ms {
            break;
        }
        lose(index, writer, id, sequence, Loss::Unclaimed)?;
        from = sequence.next();
        left -= 1;
    }
    Ok(left)
}
