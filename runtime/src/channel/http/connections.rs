//! Connections to an app, kept from call to call.
//!
//! A general pool would not do: an error must tell a connection that can't be made from one that ends
//! while the app has the request.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use blocks::app::channel::{CallError, Cause};

/// Time limit for connecting to the app.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for which an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum idle connections. Each takes a file descriptor in two processes.
const IDLE_MAX: usize = 64;

/// Time limit for a kept connection to be ready for its next request. It is ready at once unless the
/// app answered without reading the last one.
const READY_WITHIN: Duration = Duration::from_millis(50);

/// The connections to one app.
#[derive(Debug)]
pub(super) struct Connections {
    authority: String,
    idle: Mutex<Vec<Connection>>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Set once the app has sent something since the flag was last cleared.
    heard: Arc<AtomicBool>,
    idle_since: Instant,
}

impl Connections {
    pub(super) fn new(authority: String) -> Self {
        Self { authority, idle: Mutex::default() }
    }

    /// Sends a request; returns the answer's head, and the connection that carries its body.
    ///
    /// The app may have closed a kept connection for being idle too long. If one ends before the first
    /// byte of an answer, the request is sent once more on a new connection.
    pub(super) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Connection), CallError> {
        if let Some(mut kept) = self.take().await {
            match kept.send(request.clone()).await {
                Ok(response) => return Ok((response, kept)),
                Err(error) if kept.has_heard() || !is_broken(&error) => {
                    return Err(failure(error));
                }
                Err(_) => {}
            }
        }
        let mut fresh = self.connect().await?;
        let response = fresh.send(request).await.map_err(failure)?;
        Ok((response, fresh))
    }

    /// Keeps a connection for the next call, once the answer's body is read.
    pub(super) fn keep(&self, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut idle = self.idle();
        idle.retain(|kept| kept.is_fresh() && !kept.sender.is_closed());
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }

    async fn take(&self) -> Option<Connection> {
        loop {
            let mut kept = self.idle().pop()?;
            let ready = timeout(READY_WITHIN, kept.sender.ready());
            if kept.idle_since.elapsed() < IDLE_TIMEOUT && matches!(ready.await, Ok(Ok(()))) {
                return Some(kept);
            }
        }
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.authority)).await;
        let stream = connected
            .map_err(|_| unreachable(format!("no connection in {CONNECT_TIMEOUT:?}")))?
            .map_err(unreachable)?;
        // A failure only makes calls slower.
        let _ = stream.set_nodelay(true);
        let heard = Arc::new(AtomicBool::new(false));
        let stream = Watched { stream, heard: Arc::clone(&heard) };
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
        // The connection task ends when the sender is dropped; pending calls then get an error.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender, heard, idle_since: Instant::now() })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.heard.store(false, Ordering::Relaxed);
        self.sender.send_request(request).await
    }

    fn has_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    fn is_fresh(&self) -> bool {
        self.idle_since.elapsed() < IDLE_TIMEOUT
    }
}

/// Maps an error on an established connection to a [`CallError`].
pub(super) fn failure(error: impl Into<Cause>) -> CallError {
    let error = error.into();
    if is_broken(&*error) { CallError::Broken(error) } else { CallError::Protocol(error) }
}

fn unreachable(error: impl Into<Cause>) -> CallError {
    CallError::Unreachable(error.into())
}

/// Returns whether the error means that the connection has ended.
fn is_broken(error: &(dyn StdError + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| {
        let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
        let hyper = error.downcast_ref::<hyper::Error>();
        hyper.is_some_and(|error| {
            error.is_incomplete_message() || error.is_canceled() || error.is_closed()
        }) || matches!(
            io,
            Some(
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::NotConnected
                    | io::ErrorKind::UnexpectedEof
            )
        )
    })
}

/// A stream that records when bytes arrive.
struct Watched {
    stream: TcpStream,
    heard: Arc<AtomicBool>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
