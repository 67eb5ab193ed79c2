//! Clients that call over HTTP keep-alive. They run in a process of their own: this program again.

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::{Failure, Result};

/// Bytes of each message and of each value.
pub(crate) const PAYLOAD_BYTES: usize = 200;
/// The first argument of the process with the clients.
pub(crate) const CHILD: &str = "load";
/// Bytes of a response at most: a head and a small value.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// The amount of calls. Whichever bound is reached first ends them.
#[derive(Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) connections: usize,
    /// Calls of each connection.
    pub(crate) calls: usize,
    pub(crate) time: Duration,
    /// A file that a payload is appended to and synced before each call: a durable write by hand.
    pub(crate) append_to: Option<&'a Path>,
}

impl<'a> Load<'a> {
    /// Makes `calls` calls over one connection, for half a minute at most.
    pub(crate) fn one_by_one(calls: usize) -> Self {
        Self { connections: 1, calls, time: Duration::from_secs(30), append_to: None }
    }

    /// Makes each call after a durable append to this file.
    pub(crate) fn after_append_to(self, file: &'a Path) -> Self {
        Self { append_to: Some(file), ..self }
    }

    /// Makes as many calls as possible over `connections` connections.
    pub(crate) fn for_time(connections: usize, time: Duration) -> Self {
        Self { connections, calls: usize::MAX, time, append_to: None }
    }
}

/// The measurements of the clients.
pub(crate) struct LoadReport {
    pub(crate) calls: u64,
    /// The time of all calls together.
    pub(crate) took: Duration,
    /// The median time of one call.
    pub(crate) p50: Duration,
}

impl LoadReport {
    pub(crate) fn per_second(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }
}

/// Returns the bytes of a request.
pub(crate) fn request(method: &str, path: &str, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: device\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Returns a publish of one small message.
pub(crate) fn publish(pubsub: &str) -> Vec<u8> {
    let body = "x".repeat(PAYLOAD_BYTES);
    request("POST", &format!("/v1.0/publish/{pubsub}/bench"), "text/plain", &body)
}

/// Returns the bytes of a request without a body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: device\r\n\r\n").into_bytes()
}

/// Makes a request again and again, in a child process.
pub(crate) fn run(address: SocketAddr, load: Load<'_>, request: &[u8]) -> Result<LoadReport> {
    let Load { connections, calls, time, append_to } = load;
    let numbers = [connections.to_string(), calls.to_string(), time.as_millis().to_string()];
    let mut child = Command::new(std::env::current_exe()?)
        .args([CHILD, &address.to_string()])
        .args(numbers)
        .args(append_to)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().ok_or("a child without standard input")?.write_all(request)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err("the process that calls has failed".into());
    }
    let text = String::from_utf8(output.stdout)?;
    let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let [calls, took, p50] = numbers[..] else { return Err("the caller's report is cut".into()) };
    Ok(LoadReport { calls, took: Duration::from_nanos(took), p50: Duration::from_nanos(p50) })
}

/// Runs the child: reads the request from standard input and prints the report.
pub(crate) fn child(args: &[String]) -> Result<()> {
    let [address, connections, calls, millis, append_to @ ..] = args else {
        return Err("expected: address connections calls milliseconds [file]".into());
    };
    let address = address.parse()?;
    let append_to = append_to.first().map(PathBuf::from);
    let load = Load {
        connections: connections.parse()?,
        calls: calls.parse()?,
        time: Duration::from_millis(millis.parse()?),
        append_to: append_to.as_deref(),
    };
    let mut request = Vec::new();
    std::io::stdin().read_to_end(&mut request)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut times, took) = runtime.block_on(call(address, load, request.into()))?;
    times.sort_unstable();
    let p50 = times.get(times.len() / 2).copied().unwrap_or_default();
    println!("{} {} {}", times.len(), took.as_nanos(), p50.as_nanos());
    Ok(())
}

async fn call(
    address: SocketAddr,
    load: Load<'_>,
    request: Arc<[u8]>,
) -> Result<(Vec<Duration>, Duration)> {
    let mut streams = Vec::new();
    for _ in 0..load.connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for stream in streams {
        let append_to =
            load.append_to.map(|file| File::options().append(true).create(true).open(file));
        let caller = Caller {
            stream,
            calls: load.calls,
            end: started + load.time,
            append_to: append_to.transpose()?,
            request: Arc::clone(&request),
        };
        callers.spawn(caller.run());
    }
    let mut times = Vec::new();
    while let Some(caller) = callers.join_next().await {
        times.extend(caller??);
    }
    Ok((times, started.elapsed()))
}

/// One connection that makes the same request again and again.
struct Caller {
    stream: TcpStream,
    calls: usize,
    end: Instant,
    append_to: Option<File>,
    request: Arc<[u8]>,
}

impl Caller {
    /// Makes the calls. Returns how long each took.
    async fn run(mut self) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        let mut response = Vec::new();
        while times.len() < self.calls && Instant::now() < self.end {
            let called = Instant::now();
            if let Some(file) = &mut self.append_to {
                file.write_all(&[b'x'; PAYLOAD_BYTES])?;
                file.sync_data()?;
            }
            self.stream.write_all(&self.request).await?;
            read(&mut self.stream, &mut response).await?;
            times.push(called.elapsed());
        }
        Ok(times)
    }
}

/// Reads one response. Any but a 2xx is an error.
async fn read(stream: &mut TcpStream, response: &mut Vec<u8>) -> Result<()> {
    response.clear();
    loop {
        if stream.read_buf(response).await? == 0 || response.len() > MAX_RESPONSE_BYTES {
            return Err("a response is cut, or too long".into());
        }
        let Some(head) = response.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&response[..head])?;
        if response.len() < head + 4 + length(text)? {
            continue;
        }
        return match text.as_bytes().get(9) {
            Some(b'2') => Ok(()),
            _ => Err(String::from_utf8_lossy(response).into()),
        };
    }
}

/// Returns the Content-Length of a head; zero if it has none.
fn length(head: &str) -> Result<usize, Failure> {
    let field = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    Ok(field.map_or(Ok(0), str::parse)?)
}
