//! What a connection waits for, and how long it may.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

/// How long a client may keep a connection that it doesn't use: longer than the pools of HTTP
/// clients do, and it ends what a client left that vanished without a word.
const IDLE: Duration = Duration::from_secs(600);

/// How long the head of a request may take, from its first byte on.
const HEAD: Duration = Duration::from_secs(10);

/// How long a body may take: the largest one over a slow network.
const BODY: Duration = Duration::from_secs(30);

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The client's next request.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The rest of a request's body.
    Body,
    /// An answer to the client: as long as it takes.
    Serving,
}

impl Phase {
    fn limit(self) -> Option<Duration> {
        match self {
            Self::Idle => Some(IDLE),
            Self::Head => Some(HEAD),
            Self::Body => Some(BODY),
            Self::Serving => None,
        }
    }
}

/// The phase of one connection, and since when.
#[derive(Debug)]
pub(super) struct Pace {
    now: Mutex<(Phase, Instant)>,
    evicted: Notify,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { now: Mutex::new((Phase::Idle, Instant::now())), evicted: Notify::new() }
    }

    pub(super) fn enter(&self, phase: Phase) {
        *self.lock() = (phase, Instant::now());
    }

    /// Since when the client is waited for; `None` while it waits for us.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        let (phase, since) = *self.lock();
        (phase != Phase::Serving).then_some(since)
    }

    /// Has the connection closed.
    pub(super) fn evict(&self) {
        self.evicted.notify_one();
    }

    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn deadline(&self) -> Option<Instant> {
        let (phase, since) = *self.lock();
        Some(since + phase.limit()?)
    }

    /// A byte ends the wait for a request, and begins its head.
    fn bytes_came(&self) {
        let mut now = self.lock();
        if now.0 == Phase::Idle {
            *now = (Phase::Head, Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Phase, Instant)> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drives `served` to its end and says true, or false once its client is too slow.
pub(super) fn on_time<F>(served: F, pace: &Pace) -> OnTime<'_, F> {
    OnTime { served: Box::pin(served), pace, alarm: None }
}

/// See [`on_time`].
pub(super) struct OnTime<'a, F> {
    served: Pin<Box<F>>,
    pace: &'a Pace,
    /// Never later than the deadline. It may be earlier: most phases end long before their limit,
    /// so it is moved only when it must be.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<I, S> OnTime<'_, hyper::server::conn::http1::Connection<I, S>>
where
    S: hyper::service::HttpService<Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S::ResBody: Body + 'static,
    <S::ResBody as Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Finishes what is under way, and then the connection.
    pub(super) fn graceful_shutdown(mut self: Pin<&mut Self>) {
        self.served.as_mut().graceful_shutdown();
    }
}

impl<F: Future> Future for OnTime<'_, F> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        if this.served.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        // All phases change while `served` is polled, so none is missed here.
        while let Some(deadline) = this.pace.deadline() {
            let alarm =
                this.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if alarm.deadline() > deadline {
                alarm.as_mut().reset(deadline);
            }
            ready!(alarm.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(false);
            }
            this.alarm = None;
        }
        Poll::Pending
    }
}

/// A client's socket, which tells when bytes come.
pub(super) struct PacedIo<I> {
    io: I,
    pace: Arc<Pace>,
}

impl<I> PacedIo<I> {
    pub(super) fn new(io: I, pace: Arc<Pace>) -> Self {
        Self { io, pace }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for PacedIo<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.pace.bytes_came();
        }
        Poll::Ready(read)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for PacedIo<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// A request's body, which tells when all of it is there, or nobody wants it any more.
pub(super) struct PacedBody {
    body: Incoming,
    pace: Arc<Pace>,
    waits: bool,
}

impl PacedBody {
    pub(super) fn new(body: Incoming, pace: Arc<Pace>) -> Self {
        let waits = !body.is_end_stream();
        pace.enter(if waits { Phase::Body } else { Phase::Serving });
        Self { body, pace, waits }
    }

    fn finish(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.pace.enter(Phase::Serving);
        }
    }
}

impl Body for PacedBody {
    type Data = bytes::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if self.body.is_end_stream() || !matches!(frame, Some(Ok(_))) {
            self.finish();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for PacedBody {
    fn drop(&mut self) {
        self.finish();
    }
}
