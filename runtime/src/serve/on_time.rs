//! Ends connections whose clients are too slow.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Incoming};
use tokio::time::{Instant, Sleep};

use super::pace::{Pace, Verdict};

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client or a shutdown closed it.
    Served,
    /// The client was too slow.
    Slow,
    /// The request stalled while others waited for its room.
    Stalled,
}

/// Drives `served` until it ends or its client is too slow.
pub(super) fn on_time<F>(served: F, pace: &Pace) -> OnTime<'_, F> {
    OnTime { served: Box::pin(served), pace, alarm: None }
}

/// The future of [`on_time`].
pub(super) struct OnTime<'a, F> {
    served: Pin<Box<F>>,
    pace: &'a Pace,
    /// A timer that fires at the deadline or earlier. Most phases end long before their limit, so moving
    /// the timer with each deadline would be a waste.
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
    /// Finishes the request that is under way, and then the connection.
    pub(super) fn graceful_shutdown(mut self: Pin<&mut Self>) {
        self.served.as_mut().graceful_shutdown();
    }
}

impl<F: Future> Future for OnTime<'_, F> {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        let this = &mut *self;
        // Poll before looking at the clock, so that the client gets credit for bytes that arrived while
        // this task waited to be scheduled.
        if this.served.as_mut().poll(context).is_ready() {
            return Poll::Ready(End::Served);
        }
        // Phases change only while `served` is polled, so this sees every deadline.
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
