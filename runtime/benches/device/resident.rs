//! The cost of an idle program, and of a start.

use std::path::Path;
use std::time::Duration;

use store_forward::limits::Limits;

use crate::Result;
use crate::load::{self, Load, PAYLOAD_BYTES};
use crate::process::Process;
use crate::serving::save;
use crate::table::{Row, median};

const IDLE_SECONDS: u64 = 60;
/// Time for writing a checkpoint once it is due.
const CHECKPOINT_TAKES: Duration = Duration::from_secs(2);
const STARTS: usize = 5;
/// Messages of one bulk.
const BULK: usize = 1000;
const BACKLOG: usize = 1_000_000;
/// Bulks before each kill: a journal of almost the length at which it is checkpointed.
const BULKS_TO_REPLAY: usize = 12;
const FILL_TIME: Duration = Duration::from_secs(120);

/// Measures the writes and the memory of an idle process with data.
pub(crate) fn idle(dir: &Path) -> Result<Vec<Row>> {
    let process = Process::start(dir)?;
    fill(&process, 1)?;
    load::run(process.address, Load::one_by_one(100), &save())?;
    std::thread::sleep(Limits::default().checkpoint_interval + CHECKPOINT_TAKES);
    let before = process.written()?;
    let seconds = std::env::var("PANNIER_BENCH_IDLE_SECONDS").ok();
    let seconds = seconds.map_or(Ok(IDLE_SECONDS), |text| text.parse())?;
    std::thread::sleep(Duration::from_secs(seconds));
    let written = process.written()? - before;
    let memory = process.memory()?;
    Ok(vec![
        Row::bound("bytes written while idle", written as f64, 0.0, "B")
            .beside(format!("in {seconds} s")),
        Row::bound("memory while idle", memory.now, 10.0, "MB")
            .beside(format!("peak {:.1} MB", memory.peak)),
    ])
}

/// Measures a start with nothing stored, and the memory after it.
pub(crate) fn start(dir: &Path) -> Result<Vec<Row>> {
    let mut times = Vec::new();
    let mut memory = Vec::new();
    for round in 0..STARTS {
        let process = Process::start(&dir.join(round.to_string()))?;
        times.push(millis(&process));
        memory.push(process.memory()?.now);
    }
    Ok(vec![
        Row::bound("start until healthy, new", median(times), 30.0, "ms"),
        Row::bound("memory once started, new", median(memory), 8.0, "MB"),
    ])
}

/// Measures the memory of a backlog, and a start after a kill.
pub(crate) fn backlog(dir: &Path) -> Result<Vec<Row>> {
    let mut process = Process::start(dir)?;
    let filled = fill(&process, BACKLOG / BULK)?;
    let memory = process.memory()?;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        fill(&process, BULKS_TO_REPLAY)?;
        process.kill();
        process = Process::start(dir)?;
        times.push(millis(&process));
    }
    let remark = format!(
        "peak {:.1} MB, after a restart {:.1} MB, filled in {:.0} s",
        memory.peak,
        process.memory()?.now,
        filled.took.as_secs_f64()
    );
    Ok(vec![
        Row::bound("memory with 1,000,000 messages", memory.now, 16.0, "MB").beside(remark),
        Row::bound("start until healthy, these after SIGKILL", median(times), 1000.0, "ms"),
    ])
}

/// Publishes `bulks` bulks.
fn fill(process: &Process, bulks: usize) -> Result<load::LoadReport> {
    let event = "x".repeat(PAYLOAD_BYTES);
    let entry =
        |id| format!(r#"{{"entryId":"{id}","event":"{event}","contentType":"text/plain"}}"#);
    let body = (0..BULK).map(entry).collect::<Vec<_>>().join(",");
    let path = "/v1.0/publish/bulk/pubsub/backlog";
    let request = load::request("POST", path, "application/json", &format!("[{body}]"));
    let load = Load { time: FILL_TIME, ..Load::one_by_one(bulks) };
    let report = load::run(process.address, load, &request)?;
    if report.calls < bulks as u64 {
        return Err("the backlog could not be filled in time".into());
    }
    Ok(report)
}

fn millis(process: &Process) -> f64 {
    process.took.as_secs_f64() * 1e3
}
