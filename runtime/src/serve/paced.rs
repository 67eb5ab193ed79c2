//! Wrappers of a client's socket and a request's body that report to the connection's pace.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};

use super::pace::{PATIENCE, Pace, Phase};
use super::room::{FREE_BYTES, SHARED_BYTES};

/// A client's socket. Reads are limited to the room that the request has.
pub(super) struct PacedIo<I> {
    io: Take<I>,
    pace: Arc<Pace>,
}

impl<I: AsyncRead> PacedIo<I> {
    pub(super) fn new(io: I, pace: Arc<Pace>) -> Self {
        Self { io: io.take(0), pace }
    }
}

impl<I: AsyncRead + Unpin> PacedIo<I> {
    fn inner(&mut self) -> Pin<&mut I> {
        Pin::new(self.io.get_mut())
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for PacedIo<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = ready!(self.pace.poll_room(context));
        self.io.set_limit(room as u64);
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(context, buffer));
        let count = buffer.filled().len() - before;
        if count > 0 {
            self.pace.bytes_came(count);
        }
        Poll::Ready(read)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for PacedIo<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write(context, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(context)
    }
}

/// The error that ends a body early: its client paused while others waited for its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled;

impl Stalled {
    /// Returns whether it is `error` or one of the causes of `error`.
    pub fn is_cause_of(error: &(dyn std::error::Error + 'static)) -> bool {
        error.is::<Self>() || error.source().is_some_and(Self::is_cause_of)
    }
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the request's body paused for {} ms while others waited: requests of more than {} KiB \
             share {} MiB of memory: send it again without a pause",
            PATIENCE.as_millis(),
            FREE_BYTES >> 10,
            SHARED_BYTES >> 20
        )
    }
}

impl std::error::Error for Stalled {}

/// A request's body, which reports to the pace when it is complete or dropped.
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
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.waits && self.pace.is_refused() {
            return Poll::Ready(Some(Err(Stalled.into())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if self.body.is_end_stream() || !matches!(frame, Some(Ok(_))) {
            self.finish();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
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
