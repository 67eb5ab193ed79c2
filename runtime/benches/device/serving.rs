//! The cost of the store for calls over HTTP.

use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::load::{self, Load, PAYLOAD_BYTES, publish};
use crate::served::{NOTHING, Served};
use crate::table::{Measured, Round, Row, medians, micros};

const READ_ROUNDS: usize = 9;
const READS: usize = 1000;
const PUBLISHERS: usize = 64;
const PUBLISH_ROUNDS: usize = 7;
const PUBLISH_TIME: Duration = Duration::from_secs(1);

/// Measures reading a key, over a call that reads nothing.
pub(crate) fn reads(dir: &Path) -> Result<Vec<Row>> {
    let served = Served::start(dir)?;
    load::run(served.address, Load::one_by_one(1), &save())?;
    let read = load::get("/v1.0/state/statestore/key");
    let ping = load::get("/v1.0/healthz");
    let mut rounds = Vec::new();
    for _ in 0..READ_ROUNDS {
        let pings = load::run(served.address, Load::one_by_one(READS), &ping)?;
        let reads = load::run(served.address, Load::one_by_one(READS), &read)?;
        rounds.push(Round { value: micros(reads.p50), floor: micros(pings.p50) });
    }
    served.stop();
    let medians = medians(&rounds);
    let measured = Measured {
        value: format!("{:.0} us", medians.value),
        floor: format!("healthz {:.0} us", medians.floor),
        ratio: medians.ratio,
    };
    Ok(vec![Row::at_most("GET of a state key, p50", measured, 1.25)])
}

/// Measures durable publishes per second of many publishers, over the same without a store.
pub(crate) fn throughput(dir: &Path) -> Result<Vec<Row>> {
    let served = Served::start(dir)?;
    let durable = publish("pubsub");
    let nothing = publish(NOTHING);
    let load = Load::for_time(PUBLISHERS, PUBLISH_TIME);
    let mut rounds = Vec::new();
    let mut calls = 0;
    let mut syncs = 0;
    for _ in 0..PUBLISH_ROUNDS {
        let floor = load::run(served.address, load, &nothing)?;
        let before = served.counts().syncs();
        let value = load::run(served.address, load, &durable)?;
        syncs += served.counts().syncs() - before;
        calls += value.calls;
        rounds.push(Round { value: value.per_second(), floor: floor.per_second() });
    }
    served.stop();
    let medians = medians(&rounds);
    let measured = Measured {
        value: format!("{:.0}/s", medians.value),
        floor: format!("no store {:.0}/s", medians.floor),
        ratio: medians.ratio,
    };
    let syncs_each = syncs as f64 / calls as f64;
    Ok(vec![
        Row::at_least("durable publishes of 64 publishers", measured, 0.5),
        Row::bound("syncs per publish of these", syncs_each, 0.1, "")
            .beside(format!("{syncs} for {calls}")),
    ])
}

/// Returns a save of one small value.
pub(crate) fn save() -> Vec<u8> {
    let body = format!(r#"[{{"key":"key","value":"{}"}}]"#, "x".repeat(PAYLOAD_BYTES));
    load::request("POST", "/v1.0/state/statestore", "application/json", &body)
}
