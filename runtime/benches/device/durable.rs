//! The bytes and the time of a durable write.

use std::path::Path;

use crate::disk::{self, Bare};
use crate::load::{self, Load, PAYLOAD_BYTES, publish};
use crate::served::Served;
use crate::table::{Measured, Round, Row, medians, micros};
use crate::{Result, serving};

const BYTES_ROUNDS: usize = 15;
const BYTES_WRITES: usize = 100;
const LATENCY_ROUNDS: usize = 9;
const LATENCY_CALLS: usize = 300;

/// Measures the bytes for one durable publish, one at a time, over those of a bare append.
pub(crate) fn bytes(dir: &Path) -> Result<Vec<Row>> {
    let served = Served::start(&dir.join("store"))?;
    let mut bare = Bare::create(&dir.join("bare"))?;
    let value_counts = served.counts();
    let floor_counts = bare.counts();
    let value_before = value_counts.synced_bytes();
    let floor_before = floor_counts.synced_bytes();
    let publish = publish("pubsub");
    let payload = [b'x'; PAYLOAD_BYTES];
    let calls = Load::one_by_one(BYTES_WRITES);
    let mut rounds = Vec::new();
    for _ in 0..BYTES_ROUNDS {
        let floor = written(dir, || bare.append(&payload, BYTES_WRITES).map(drop))?;
        let value = written(dir, || load::run(served.address, calls, &publish).map(drop))?;
        rounds.extend(value.zip(floor).map(|(value, floor)| Round { value, floor }));
    }
    // Stop first: the last checkpoint belongs to those publishes too.
    served.stop();
    let mut rows = Vec::new();
    if !rounds.is_empty() {
        let medians = medians(&rounds);
        let measured = Measured {
            value: each(medians.value, 1),
            floor: each(medians.floor, 1),
            ratio: medians.ratio,
        };
        rows.push(Row::at_most("device bytes per durable publish", measured, 1.25));
    }
    let value = (value_counts.synced_bytes() - value_before) as f64;
    let floor = (floor_counts.synced_bytes() - floor_before) as f64;
    let measured = Measured {
        value: each(value, BYTES_ROUNDS),
        floor: each(floor, BYTES_ROUNDS),
        ratio: value / floor,
    };
    rows.push(Row::at_most("bytes of synced pages, with checkpoint", measured, 1.25));
    Ok(rows)
}

fn each(bytes: f64, rounds: usize) -> String {
    format!("{:.0} B", bytes / (rounds * BYTES_WRITES) as f64)
}

/// Measures a durable state save over HTTP. The floor is a program that appends to a file of its own,
/// syncs it, and makes an empty call. It does both in turns, because a call after a sync finds the
/// processor asleep, as a save does.
pub(crate) fn latency(dir: &Path) -> Result<Vec<Row>> {
    let served = Served::start(&dir.join("store"))?;
    let bare = dir.join("bare");
    let calls = Load::one_by_one(LATENCY_CALLS);
    let save = serving::save();
    let ping = load::get("/v1.0/healthz");
    let mut rounds = Vec::new();
    for _ in 0..LATENCY_ROUNDS {
        let floor = load::run(served.address, calls.after_append_to(&bare), &ping)?;
        let value = load::run(served.address, calls, &save)?;
        rounds.push(Round { value: micros(value.p50), floor: micros(floor.p50) });
    }
    served.stop();
    let medians = medians(&rounds);
    let measured = Measured {
        value: format!("{:.0} us", medians.value),
        floor: format!("append and healthz {:.0} us", medians.floor),
        ratio: medians.ratio,
    };
    Ok(vec![Row::at_most("durable state save over HTTP, p50", measured, 1.3)])
}

/// Returns the bytes that the device has written during `work`, for any process.
fn written(dir: &Path, work: impl FnOnce() -> Result<()>) -> Result<Option<f64>> {
    let before = disk::device_bytes(dir)?;
    work()?;
    let both = disk::device_bytes(dir)?.zip(before);
    Ok(both.map(|(after, before)| (after - before) as f64))
}
