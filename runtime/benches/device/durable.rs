//! What a durable write costs, in bytes and in time.

use std::path::Path;

use crate::disk::{self, Bare};
use crate::load::{self, Load};
use crate::served::Served;
use crate::table::{Row, medians, micros};
use crate::{Result, serving};

/// Bytes of each message and of each value.
pub(crate) const PAYLOAD_BYTES: usize = 200;

const BYTES_ROUNDS: usize = 15;
const BYTES_WRITES: usize = 100;
const LATENCY_ROUNDS: usize = 9;
const LATENCY_CALLS: usize = 300;

/// Bytes for one durable publish, one at a time, over those of a bare append.
pub(crate) fn bytes(dir: &Path) -> Result<Vec<Row>> {
    let served = Served::start(&dir.join("store"))?;
    let mut bare = Bare::create(&dir.join("bare"))?;
    let (ours, theirs) = (served.counts(), bare.counts());
    let before = (ours.synced_bytes(), theirs.synced_bytes());
    let (publish, payload) = (publish("pubsub"), [b'x'; PAYLOAD_BYTES]);
    let calls = Load::one_by_one(BYTES_WRITES);
    let mut rounds = Vec::new();
    for _ in 0..BYTES_ROUNDS {
        let floor = written(dir, || bare.append(&payload, BYTES_WRITES).map(drop))?;
        let value = written(dir, || load::run(served.address, calls, &publish).map(drop))?;
        rounds.extend(value.zip(floor));
    }
    // The last checkpoint belongs to those publishes too.
    served.stop();
    let mut rows = Vec::new();
    if !rounds.is_empty() {
        let (value, floor, ratio) = medians(&rounds);
        let both = (each(value, 1), each(floor, 1));
        rows.push(Row::at_most("device bytes per durable publish", both, ratio, 1.25));
    }
    let value = (ours.synced_bytes() - before.0) as f64;
    let floor = (theirs.synced_bytes() - before.1) as f64;
    let both = (each(value, BYTES_ROUNDS), each(floor, BYTES_ROUNDS));
    rows.push(Row::at_most("bytes of synced pages, with checkpoint", both, value / floor, 1.25));
    Ok(rows)
}

fn each(bytes: f64, rounds: usize) -> String {
    format!("{:.0} B", bytes / (rounds * BYTES_WRITES) as f64)
}

/// How long a durable state save takes over HTTP, over what a program would wait that appends to a
/// file of its own, syncs it, and makes an empty call. The floor's two parts follow one another call by
/// call: a call after a sync finds the processor asleep, as a save does.
pub(crate) fn latency(dir: &Path) -> Result<Vec<Row>> {
    let served = Served::start(&dir.join("store"))?;
    let (bare, calls) = (dir.join("bare"), Load::one_by_one(LATENCY_CALLS));
    let (save, ping) = (serving::save(), load::get("/v1.0/healthz"));
    let mut rounds = Vec::new();
    for _ in 0..LATENCY_ROUNDS {
        let floor = load::run(served.address, calls.after_append_to(&bare), &ping)?;
        let value = load::run(served.address, calls, &save)?;
        rounds.push((micros(value.p50), micros(floor.p50)));
    }
    served.stop();
    let (value, floor, ratio) = medians(&rounds);
    let both = (format!("{value:.0} us"), format!("append and healthz {floor:.0} us"));
    Ok(vec![Row::at_most("durable state save over HTTP, p50", both, ratio, 1.3)])
}

/// A publish of one small message.
pub(crate) fn publish(pubsub: &str) -> Vec<u8> {
    let body = "x".repeat(PAYLOAD_BYTES);
    load::request("POST", &format!("/v1.0/publish/{pubsub}/bench"), "text/plain", &body)
}

/// Bytes that the device has written during `work`, whoever had it do so.
fn written(dir: &Path, work: impl FnOnce() -> Result<()>) -> Result<Option<f64>> {
    let before = disk::device_bytes(dir)?;
    work()?;
    let both = disk::device_bytes(dir)?.zip(before);
    Ok(both.map(|(after, before)| (after - before) as f64))
}
