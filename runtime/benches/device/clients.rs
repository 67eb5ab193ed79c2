//! Costs of clients that send in chunks, stall, or never finish a request.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::Result;
use crate::durable::{PAYLOAD_BYTES, publish};
use crate::load::{self, Load};
use crate::process::Process;
use crate::table::{Row, median, medians};

const PUBLISHERS: usize = 32;
const PUBLISH_ROUNDS: usize = 9;
const PUBLISH_TIME: Duration = Duration::from_secs(1);
const STALLED: usize = 5;
const STALLED_BYTES: usize = 4 << 20;
const BESIDE_BYTES: usize = 20_000;
const BESIDE_ROUNDS: usize = 9;
const HEADS: usize = 1000;
const HEAD_BYTES: usize = 60_000;
/// Time for the program to notice what clients did.
const SETTLES: Duration = Duration::from_secs(1);

/// Publishes a second with bodies in chunks, over those that tell their length.
pub(crate) fn chunked(dir: &Path) -> Result<Vec<Row>> {
    let process = Process::start(dir)?;
    let (told, chunked) = (publish("pubsub"), in_chunks(&"x".repeat(PAYLOAD_BYTES)));
    let load = Load::for_time(PUBLISHERS, PUBLISH_TIME);
    let mut rounds = Vec::new();
    for _ in 0..PUBLISH_ROUNDS {
        let floor = load::run(process.address, load, &told)?;
        let value = load::run(process.address, load, &chunked)?;
        rounds.push((value.per_second(), floor.per_second()));
    }
    let (value, floor, ratio) = medians(&rounds);
    let both = (format!("{value:.0}/s"), format!("Content-Length {floor:.0}/s"));
    Ok(vec![Row::at_least("publishes in chunks of 32 publishers", both, ratio, 0.9)])
}

/// How long a publish takes beside clients that announce large bodies and send nothing.
pub(crate) fn stalled(dir: &Path) -> Result<Vec<Row>> {
    let process = Process::start(dir)?;
    let body = "x".repeat(BESIDE_BYTES);
    let publish = load::request("POST", "/v1.0/publish/pubsub/bench", "text/plain", &body);
    let once = || -> Result<f64> {
        let seen = load::run(process.address, Load::one_by_one(1), &publish)?;
        Ok(seen.p50.as_secs_f64())
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

/// The memory that heads take which never end, and what is left of it.
pub(crate) fn heads(dir: &Path) -> Result<Vec<Row>> {
    let process = Process::start(dir)?;
    std::thread::sleep(SETTLES);
    let (before, _) = process.memory()?;
    let head = format!("GET / HTTP/1.1\r\nHost: device\r\nLong: {}", "x".repeat(HEAD_BYTES));
    let crowd = connect(&process, HEADS, head.as_bytes())?;
    std::thread::sleep(SETTLES);
    let (_, peak) = process.memory()?;
    drop(crowd);
    std::thread::sleep(SETTLES);
    let (after, _) = process.memory()?;
    let before = format!("before {before:.1} MB");
    Ok(vec![
        Row::bound("memory with 1,000 unfinished heads, peak", peak, 20.0, "MB")
            .beside(before.clone()),
        Row::bound("memory once they are gone", after, 12.0, "MB").beside(before),
    ])
}

/// So many clients, each of which has sent the beginning of a request.
fn connect(process: &Process, count: usize, beginning: &[u8]) -> Result<Vec<TcpStream>> {
    let mut crowd = Vec::new();
    for _ in 0..count {
        let mut client = TcpStream::connect(process.address)?;
        match client.write_all(beginning) {
            // Others made it go already.
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

/// The publish of [`publish`] whose body comes in one chunk.
fn in_chunks(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /v1.0/publish/pubsub/bench HTTP/1.1\r\nHost: device\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n"
    )
    .into_bytes()
}
