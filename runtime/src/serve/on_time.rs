//! Ends connections whose clients are too slow.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Incoming};
use tokio::time::{Instant, Sleep};

use super::pace::{Pace, Verdict};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself.
    Served,
    /// Its client was too slow.
    Slow,
    /// Its request stalled while others waited for the room it took.
    Stalled,
}

/// Drives `served` to its end, or until its client is too slow.
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
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        let this = &mut *self;
        // Polled before the clock is asked: bytes that came while this task waited for its turn
        // are counted for the client.
        if this.served.as_mut().poll(context).is_ready() {
            return Poll::Ready(End::Served);
        }
        // All phases change while `served` is polled, so none is missed here.
        while let Some(deadline) = this.pace.deadline() {
            let alarm =
                this.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if alarm.deadline() > deadline {
                alarm.as_mut().reset(deadline);
            }
            ready!(alarm.as_mut().poll(context));
            this.alarm = None;
            match this.pace.look(Instant::now()) {
                Verdict::Wait => {}
                Verdict::Slow => return Poll::Ready(End::Slow),
                Verdict::Stalled => return Poll::Ready(End::Stalled),
                Verdict::Refused => {
                    if this.served.as_mut().poll(context).is_ready() {
                        return Poll::Ready(End::Served);
                    }
                }
            }
        }
        Poll::Pending
    }
}
