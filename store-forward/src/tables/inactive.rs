//! Consumers that nobody names any more. Their backlog is kept, for a time that counts only while
//! the store is open: a device that was off for a month must not delete at its start.

use super::claims::change;
use super::forget::{self, Forgotten};
use super::index::Index;
use super::rows::{ConsumerRow, Inactive};
use super::schema::Writer;
use crate::error::Error;
use crate::ids::ConsumerId;
use crate::record::{InactiveReason, Retention};

/// How often the time of an inactive consumer is written down. A crash loses at most this much of
/// it, so that the backlog is kept that much longer.
const NOTE_MS: u64 = 3600 * 1000;
/// The least time that is written down when the store is closed.
const WORTH_NOTING_MS: u64 = 60 * 1000;

/// Makes a consumer inactive. One that has stopped collecting does not begin again.
pub(super) fn deactivate(
    index: &mut Index,
    writer: &mut Writer<'_>,
    name: &str,
    reason: InactiveReason,
    now_ms: u64,
) -> Result<(), Error> {
    let Some(id) = index.consumer_named(name) else { return Ok(()) };
    let Some(row) = index.consumers.get(&id).cloned() else { return Ok(()) };
    let collects = row.inactive.is_none_or(|before| before.collecting);
    let collecting = collects && reason == InactiveReason::NotSubscribed;
    let same_stage = row.inactive.filter(|before| before.collecting == collecting);
    let inactive = match same_stage {
        Some(before) => Inactive { reason, ..before },
        None => Inactive { reason, collecting, ran_ms: 0, seen_ms: now_ms },
    };
    change(index, writer, id, ConsumerRow { inactive: Some(inactive), ..row }).map(drop)
}

/// The store was opened: what came before doesn't count.
pub(super) fn resume(index: &mut Index, writer: &mut Writer<'_>, now_ms: u64) -> Result<(), Error> {
    for (id, inactive) in all(index) {
        set(index, writer, id, Inactive { seen_ms: now_ms, ..inactive })?;
    }
    Ok(())
}

/// Counts the time up to now. Consumers whose grace is over stop collecting; those whose retention
/// is over are forgotten, and returned.
pub(super) fn age(
    index: &mut Index,
    writer: &mut Writer<'_>,
    retention: &Retention,
    now_ms: u64,
) -> Result<Vec<(String, Forgotten)>, Error> {
    let mut given_up = Vec::new();
    for (id, inactive) in all(index) {
        let ran_ms = inactive.ran_ms.saturating_add(now_ms.saturating_sub(inactive.seen_ms));
        let is_over =
            limit_ms(index, id, &inactive, retention).is_some_and(|limit| ran_ms >= limit);
        let Some(row) = index.consumers.get(&id).cloned() else { continue };
        if is_over && !inactive.collecting {
            let name = row.spec.name;
            let forgotten = forget::forget(index, writer, &name)?.unwrap_or_default();
            given_up.push((name, forgotten));
        } else if is_over {
            let inactive = Inactive { collecting: false, ran_ms: 0, seen_ms: now_ms, ..inactive };
            change(index, writer, id, ConsumerRow { inactive: Some(inactive), ..row })?;
        } else {
            set(index, writer, id, Inactive { ran_ms, seen_ms: now_ms, ..inactive })?;
        }
    }
    Ok(given_up)
}

/// Whether time has passed that is worth writing down before the store is closed.
pub(super) fn has_aged(index: &Index, retention: &Retention, now_ms: u64) -> bool {
    let aged = |(id, inactive): &(ConsumerId, Inactive)| {
        limit_ms(index, *id, inactive, retention).is_some()
            && now_ms.saturating_sub(inactive.seen_ms) >= WORTH_NOTING_MS
    };
    all(index).iter().any(aged)
}

/// The device time at which [`age`] has something to do.
pub(super) fn next_due(index: &Index, retention: &Retention) -> Option<u64> {
    let due = |(id, inactive): (ConsumerId, Inactive)| {
        let left = limit_ms(index, id, &inactive, retention)?.saturating_sub(inactive.ran_ms);
        Some(inactive.seen_ms.saturating_add(left.min(NOTE_MS)))
    };
    all(index).into_iter().filter_map(due).min()
}

/// The end of the stage that a consumer is in; `None` is for ever.
fn limit_ms(
    index: &Index,
    id: ConsumerId,
    inactive: &Inactive,
    retention: &Retention,
) -> Option<u64> {
    if inactive.collecting {
        return Some(retention.grace_ms);
    }
    retention.inactive_ms(index.consumers.get(&id)?.spec.kind)
}

fn all(index: &Index) -> Vec<(ConsumerId, Inactive)> {
    let inactive = |(id, row): (&ConsumerId, &ConsumerRow)| Some((*id, row.inactive?));
    index.consumers.iter().filter_map(inactive).collect()
}

fn set(
    index: &mut Index,
    writer: &mut Writer<'_>,
    id: ConsumerId,
    inactive: Inactive,
) -> Result<(), Error> {
    let Some(row) = index.consumers.get_mut(&id) else { return Ok(()) };
    if row.inactive != Some(inactive) {
        row.inactive = Some(inactive);
        writer.put_consumer(id, row)?;
    }
    Ok(())
}
