//! Publishers on a thread of their own: what they allocate isn't counted.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::Result;

const PUBLISHERS: usize = 64;
/// Calls of each publisher until buffers have the sizes that they keep.
const WARM_CALLS: usize = 20;
/// Calls of each publisher that are counted.
const CALLS: usize = 200;
/// All calls that are counted.
pub(crate) const MEASURED_CALLS: usize = PUBLISHERS * CALLS;

const PAYLOAD_BYTES: usize = 256;
/// Time limit for the start of the server.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries to connect to a server that starts.
const PAUSE: Duration = Duration::from_millis(10);

/// A thread of publishers, and what it tells.
pub(crate) struct Clients {
    /// All of them are connected and have made the calls that don't count.
    pub(crate) warm: oneshot::Receiver<()>,
    /// All calls are answered.
    pub(crate) done: oneshot::Receiver<()>,
    pub(crate) thread: JoinHandle<Result<()>>,
}

impl Clients {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let (is_warm, warm) = oneshot::channel();
        let (is_done, done) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut streams = Vec::new();
                for _ in 0..PUBLISHERS {
                    streams.push(connect(address).await?);
                }
                let streams = call(streams, WARM_CALLS).await?;
                let _ = is_warm.send(());
                // Connections stay open until the server has counted.
                let _streams = call(streams, CALLS).await?;
                let _ = is_done.send(());
                Ok(())
            })
        });
        Self { warm, done, thread }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let started = Instant::now();
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) if started.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Has each connection make so many calls, all connections at the same time.
async fn call(streams: Vec<TcpStream>, calls: usize) -> Result<Vec<TcpStream>> {
    let mut callers = JoinSet::new();
    for stream in streams {
        callers.spawn(call_again(stream, calls));
    }
    callers.join_all().await.into_iter().collect()
}

async fn call_again(mut stream: TcpStream, calls: usize) -> Result<TcpStream> {
    let request = request();
    let mut answer = Vec::new();
    for _ in 0..calls {
        stream.write_all(&request).await?;
        answer.clear();
        // An answer of 204 has no body.
        while !answer.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err("an answer is cut".into());
            }
        }
        if !answer.starts_with(b"HTTP/1.1 204 ") {
            return Err(String::from_utf8_lossy(&answer).into());
        }
    }
    Ok(stream)
}

fn request() -> Vec<u8> {
    let body = "x".repeat(PAYLOAD_BYTES);
    format!(
        "POST /v1.0/publish/pubsub/bench HTTP/1.1\r\nHost: device\r\n\
         Content-Type: text/plain\r\nContent-Length: {PAYLOAD_BYTES}\r\n\r\n{body}"
    )
    .into_bytes()
}
