//! An HTTP/1.1 server that bounds the number of connections, and the time that each waits for its client.
//!
//! Waiting for the store or for an app has no limit here. Waiting for the client has one in each phase
//! (`pace`, `on_time`), and at the limit of connections the one that has waited longest for its client
//! is closed in favour of a new one (`connections`). All requests share a bounded memory (`room`,
//! `heads`); one that stalls there is ended in favour of others.

mod connections;
mod heads;
mod milestone;
mod on_time;
mod pace;
mod paced;
mod room;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use axum::serve::Listener;
use components::stop::Stop;
use http::header::CONNECTION;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tower_service::Service;

pub use connections::{Connections, Counts};
pub use paced::Stalled;

use connections::Seat;
use on_time::{End, on_time};
use pace::Phase;
use paced::{PacedBody, PacedIo};
use room::FREE_BYTES;

/// Bytes of a request's head at most. Dapr's own limit of a head is 4 KiB.
const BUFFER_BYTES: usize = 64 << 10;

/// Connections that are being refused at the same time. Each takes a file descriptor.
const MOST_REFUSALS: usize = 32;

/// The longest time that refusing a connection may take.
const REFUSAL: Duration = Duration::from_secs(1);

/// The body of the response to a refused connection.
const TOO_MANY: &str = "{\"errorCode\":\"ERR_TOO_MANY_CONNECTIONS\",\"message\":\"all connections \
    are in use and none of them waits for its client: try again, or raise \
    spec.limits.maxConnections in the Node resource\"}";

/// A service that answers requests, always at once ready for the next.
pub trait Served:
    Service<Request<Body>, Response = Response, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Served for S where
    S: Service<Request<Body>, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Serves until a stop is requested, then finishes the requests that are under way.
pub async fn serve<L, S>(mut listener: L, service: S, connections: Arc<Connections>, stop: Stop)
where
    L: Listener,
    S: Served,
{
    let mut stopped = pin!(stop.requested());
    // Dropping `refused` ends the refusals that are under way, while `open` is waited for.
    let mut open = JoinSet::new();
    let mut refused = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped.as_mut() => break,
            (io, _) = listener.accept() => match connections.admit() {
                Some(seat) => {
                    open.spawn(connection(io, service.clone(), seat, stop.clone()));
                }
                None if refused.len() < MOST_REFUSALS => {
                    refused.spawn(tokio::time::timeout(REFUSAL, refuse(io)));
                }
                None => {}
            },
            Some(_) = open.join_next() => {}
            Some(_) = refused.join_next() => {}
        }
    }
    // Close the socket first, so that new clients fail at once, then finish the open connections.
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Serves one connection until it is closed, its client is too slow, or it is evicted.
async fn connection<I, S>(io: I, service: S, seat: Seat, stop: Stop)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Served,
{
    let pace = Arc::clone(seat.pace());
    let io = TokioIo::new(PacedIo::new(io, Arc::clone(&pace)));
    let service = service_fn(|request| respond(service.clone(), &seat, request));
    let mut http = http1::Builder::new();
    let served = http.max_buf_size(BUFFER_BYTES).serve_connection(io, service);
    let mut served = pin!(on_time(served, &pace));
    let mut stopped = pin!(stop.requested());
    let mut stopping = false;
    loop {
        tokio::select! {
            end = served.as_mut() => {
                if end == End::Slow {
                    seat.count_slow();
                }
                return;
            }
            () = pace.evicted() => return,
            () = stopped.as_mut(), if !stopping => {
                // Finish the request that is under way, and then the connection.
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Answers a request, and records meanwhile whom its connection waits for.
async fn respond<S: Served>(
    mut service: S,
    seat: &Seat,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let pace = seat.pace();
    let is_large = pace.read() > FREE_BYTES && head_bytes(&request) > FREE_BYTES;
    pace.enter(Phase::Serving);
    let request = request.map(|body| Body::new(PacedBody::new(body, Arc::clone(pace))));
    let Ok(mut response) = service.call(request).await;
    if is_large {
        // Close the connection: hyper would keep the buffer that it enlarged for the head.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    pace.finish();
    Ok(response)
}

/// Estimates the bytes of a request's head. The estimate is a few bytes low.
fn head_bytes(request: &Request<Incoming>) -> usize {
    let fields = request.headers().iter();
    let fields: usize = fields.map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    fields + request.uri().path_and_query().map_or(0, |path| path.as_str().len())
}

/// Answers 503 to a client. Its request is read first, because closing a connection with unread data may
/// lose the response.
async fn refuse<I: AsyncRead + AsyncWrite + Unpin>(mut io: I) {
    let _ = io.read(&mut [0; 4096]).await;
    let response = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{TOO_MANY}",
        TOO_MANY.len()
    );
    let _ = io.write_all(response.as_bytes()).await;
    let _ = io.shutdown().await;
}

#[cfg(test)]
mod tests;
