//! Costs of clients that send in chunks, stall, or never finish a request.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::load::{self, Load, PAYLOAD_BYTES, publish};
use crate::process::Process;
use crate::table::{Measured, Round, Row, median, medians};

const PUBLISHERS: usize = 32;
const PUBLISH_ROUNDS: usize = 9;
const PUBLISH_TIME: Duration = Duration::from_secs(1);
const STALLED: usize = 5;
const STALLED_BYTES: usize = 4 << 20;
const BESIDE_BYTES: usize = 20_000;
const BESIDE_ROUNDS: usize = 9;
const HEADS: usize = 1000;
const HEAD_BYTES: usize = 60_000;
/// Time for the program to react to its clients.
const SETTLES: Duration = Duration::from_secs(1);

/// Measures publishes per second with bodies in chunks, over those with a Content-Length.
pub(crate) fn chunked(dir: &Path) -> Result<Vec<Row>> {
    let process = Process::start(dir)?;
    let whole = publish("pubsub");
    let chunked = in_chunks(&"x".repeat(PAYLOAD_BYTES));
    let load = Load::for_time(PUBLISHERS, PUBLISH_TIME);
    let mut rounds = Vec::new();
    for _ in 0..PUBLISH_ROUNDS {
        let floor = load::run(process.address, load, &whole)?;
        let value = load::run(process.address, load, &chunked)?;
        rounds.push(Round { value: value.per_second(), floor: floor.per_second() });
    }
    let medians = medians(&rounds);
    let measured = Measured {
        value: format!("{:.0}/s", medians.value),
        floor: format!("Content-Length {:.0}/s", medians.floor),
        ratio: medians.ratio,
    };
    Ok(vec![Row::at_least("publishes in chunks of 32 publishers", measured, 0.9)])
}

/// Measures a publish beside clients that announce large bodies and send nothing.
pub(crate) fn stalled(dir: &Path) -> Result<Vec<Row>> {
    let process = Process::start(dir)?;
    let body = "x".repeat(BESIDE_BYTES);
    let publish = load::request("POST", "/v1.0/publish/pubsub/bench", "text/plain", &body);
    let once = || -> Result<f64> {
        let report = load::run(process.address, Load::one_by_one(1), &publish)?;
        Ok(report.p50.as_secs_f64())
    };
    let alone = (0..BESIDE_ROUNDS).map(|_| once()).collect::<Result<_>>()?;
    let announcement = format!(
        "POST /v1.0/publish/pubsub/bench HTTP/1.1\r\nHost: device\r\nContent-Length: {STALLED_BYTES}\r\n\r\n"
    );
    let crowd = connect(&process, STALLED, announcement.as_bytes())?;
    let beside = (0..BESIDE_ROUNDS).map(|_| once()).collect::<Result<_>>()?;
    drop(crowd);
    let alone = format!("alone {:.4} s", median(alone));
    let figure = "publish of 20 kB beside 5 stalled of 4 MiB";
    Ok(vec![Row::bound(figure, median(beside), 0.1, "s").beside(alone)])
}

/// Measures the memory of heads that never end, and how much of it stays in use.
pub(crate) fn heads(dir: &Path) -> Result<Vec<Row>> {
    let process = Process::start(dir)?;
    std::thread::sleep(SETTLES);
    let before = process.memory()?.now;
    let head = format!("GET / HTTP/1.1\r\nHost: device\r\nLong: {}", "x".repeat(HEAD_BYTES));
    let crowd = connect(&process, HEADS, head.as_bytes())?;
    std::thread::sleep(SETTLES);
    let peak = process.memory()?.peak;
    drop(crowd);
    std::thread::sleep(SETTLES);
    let after = process.memory()?.now;
    let before = format!("before {before:.1} MB");
    Ok(vec![
        Row::bound("memory with 1,000 unfinished heads, peak", peak, 20.0, "MB")
            .beside(before.clone()),
        Row::bound("memory once they are gone", after, 12.0, "MB").beside(before),
    ])
}

/// Connects `count` clients, each of which sends the beginning of a request.
fn connect(process: &Process, count: usize, beginning: &[u8]) -> Result<Vec<TcpStream>> {
    let mut crowd = Vec::new();
    for _ in 0..count {
        let mut client = TcpStream::connect(process.address)?;
        match client.write_all(beginning) {
            // The server closed it already in favour of others.
            Err(error)
                if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                return Err(error.into());
            }
            _ => crowd.push(client),
        }
    }
    Ok(crowd)
}

/// Returns the request of [`publish`] with its body in one chunk.
fn in_chunks(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /v1.0/publish/pubsub/bench HTTP/1.1\r\nHost: device\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
    )
    .into_bytes()
}
