//! The app channel: how this program calls an app, and what it knows of the app's health.

mod connections;

use std::time::Duration;

use bytes::Bytes;
use config::model::HealthCheck;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tokio::net::TcpStream;
use tokio::sync::watch;

use self::connections::{CONNECT_TIMEOUT, Connections};
use crate::app::start::Subscriber;
use crate::app::{health, start};

/// Bytes of an answer: beyond it the app is at fault, and a small device's memory at risk.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;

/// How long an app has for an answer unless it is configured otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Where an app is, and how it is called.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// The app's id.
    pub app_id: String,
    /// The host or address it listens at.
    pub address: String,
    /// The port it listens at.
    pub port: u16,
    /// What we present to it as `dapr-api-token`.
    pub token: Option<String>,
    /// How long it has for an answer.
    pub timeout: Duration,
    /// Whether its health is probed: it counts as unhealthy until the first probe succeeds.
    pub probed: bool,
}

/// Why there is no channel to an app.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelOptionsError {
    /// The address is none.
    #[error("app {app_id}: {address:?} is no host or address: set the App's spec.address")]
    Address {
        /// The app.
        app_id: String,
        /// What was given.
        address: String,
    },
    /// The token can't be sent.
    #[error("app {app_id}: the app token holds characters that no HTTP header can carry")]
    Token {
        /// The app.
        app_id: String,
    },
}

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection can be made: the app has not seen the request.
    #[error("the app can't be reached: {0}")]
    Unreachable(String),
    /// The connection ended between the request and the end of the answer.
    #[error("the app closed the connection before it had answered: {0}")]
    Broken(String),
    /// No answer in time.
    #[error("the app did not answer within {0:?}")]
    TimedOut(Duration),
    /// The answer is too long.
    #[error("the app's answer has more than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// The request or the answer isn't HTTP.
    #[error("the call to the app failed: {0}")]
    Protocol(String),
}

/// What an app answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, all of it.
    pub body: Bytes,
}

/// What is known of an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppState {
    /// Its port accepted a connection, and has refused none since.
    pub listening: bool,
    /// Its probe succeeds, or it has none.
    pub healthy: bool,
    /// It was asked what it subscribes to since it came up.
    pub started: bool,
}

impl AppState {
    /// Whether messages may be delivered.
    #[must_use]
    pub fn takes_messages(&self) -> bool {
        self.listening && self.healthy && self.started
    }
}

/// The way to one app.
#[derive(Debug)]
pub struct AppChannel {
    app_id: String,
    /// Where it listens, as the `Host` header has it.
    authority: HeaderValue,
    address: String,
    token: Option<HeaderValue>,
    timeout: Duration,
    connections: Connections,
    state: watch::Sender<AppState>,
}

impl AppChannel {
    /// A channel; nothing is called yet.
    ///
    /// # Errors
    /// When the address or the token can't be used.
    pub fn new(options: ChannelOptions) -> Result<Self, ChannelOptionsError> {
        let ChannelOptions { app_id, address, port, token, timeout, probed } = options;
        let target = authority(&address, port);
        let host = HeaderValue::from_str(&target);
        let (Ok(_), Ok(authority)) = (target.parse::<http::uri::Authority>(), host) else {
            return Err(ChannelOptionsError::Address { app_id, address });
        };
        let token = match token.map(|token| HeaderValue::from_str(&token)).transpose() {
            Ok(mut token) => {
                token.iter_mut().for_each(|token| token.set_sensitive(true));
                token
            }
            Err(_) => return Err(ChannelOptionsError::Token { app_id }),
        };
        let state = AppState { healthy: !probed, ..AppState::default() };
        let state = watch::Sender::new(state);
        let connections = Connections::new(target.clone());
        Ok(Self { app_id, authority, address: target, token, timeout, connections, state })
    }

    /// The app's id.
    #[must_use]
    pub fn app_id(&self) -> &str {
        &self.app_id
    }

    /// Where the app listens: its address and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What is known of the app now.
    #[must_use]
    pub fn state(&self) -> AppState {
        *self.state.borrow()
    }

    /// Resolves once what is known of the app is as asked for.
    pub async fn wait_until(&self, wanted: impl FnMut(&AppState) -> bool) {
        // The sender is ours, so the channel can't close while we wait.
        let _ = self.state.subscribe().wait_for(wanted).await;
    }

    /// Sends a request with a JSON body, or another content type in `headers`.
    ///
    /// # Errors
    /// When there is no answer. After [`CallError::Unreachable`] the app counts as not listening; a
    /// connection that breaks says nothing about its port.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer, CallError> {
        self.call_within(self.timeout, method, path, headers, body).await
    }

    pub(crate) async fn call_within(
        &self,
        timeout: Duration,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer, CallError> {
        let request = self.request(method, path, headers, body)?;
        let answer = tokio::time::timeout(timeout, self.exchange(request)).await;
        let answer = answer.unwrap_or(Err(CallError::TimedOut(timeout)));
        if let Err(CallError::Unreachable(error)) = &answer {
            self.lost(error);
        }
        answer
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let uri = Uri::builder().path_and_query(path).build().map_err(protocol)?;
        let mut request =
            Request::builder().method(method).uri(uri).body(Full::new(body)).map_err(protocol)?;
        request.headers_mut().insert(header::HOST, self.authority.clone());
        for (name, value) in headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        if let Some(token) = &self.token {
            request.headers_mut().insert("dapr-api-token", token.clone());
        }
        Ok(request)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
        let (answer, connection) = self.connections.send(request).await?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                CallError::TooLong
            } else {
                connections::failure(error.as_ref())
            }
        })?;
        self.connections.keep(connection);
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
    }

    /// Whether the app's port accepts a connection.
    pub(crate) async fn accepts(&self) -> bool {
        let connect = TcpStream::connect(&self.address);
        matches!(tokio::time::timeout(CONNECT_TIMEOUT, connect).await, Ok(Ok(_)))
    }

    /// The port is closed: whatever comes back may be another version of the app.
    fn lost(&self, error: &str) {
        self.change(|state| {
            state.listening = false;
            state.started = false;
        });
        tracing::debug!(app_id = self.app_id, error, "the link to the app failed");
    }

    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.change(|state| {
            state.healthy = healthy;
            state.started &= healthy;
        });
    }

    pub(crate) fn set_listening(&self) {
        self.change(|state| state.listening = true);
    }

    pub(crate) fn set_started(&self) {
        self.change(|state| state.started = state.listening && state.healthy);
    }

    fn change(&self, change: impl FnOnce(&mut AppState)) {
        self.state.send_if_modified(|state| {
            let before = *state;
            change(state);
            *state != before
        });
    }
}

/// Watches over an app until `shutdown` resolves: probes it if asked to, starts it each time it comes
/// up; then stops its subscriptions and waits for what is in flight.
pub async fn serve(
    channel: &AppChannel,
    check: Option<&HealthCheck>,
    subscriber: &dyn Subscriber,
    shutdown: impl Future<Output = ()>,
) {
    let probe = async {
        match check {
            Some(check) => health::probe(channel, check).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = shutdown => {}
        never = probe => match never {},
        never = start::run(channel, subscriber) => match never {},
    }
    subscriber.stop().await;
}

fn authority(address: &str, port: u16) -> String {
    match address.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) => format!("{address}:{port}"),
    }
}

fn protocol(error: impl std::fmt::Display) -> CallError {
    CallError::Protocol(error.to_string())
}

#[cfg(test)]
pub(crate) mod tests;
