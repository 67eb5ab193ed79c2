//! Calls to an app over HTTP/1.1, as Dapr makes them.

pub mod answer;
mod connections;
pub mod subscriptions;

use async_trait::async_trait;
use blocks::app::channel::{AppChannel, BatchCall, CallError, Cause, DeclaredByApp, EventCall};
use blocks::pubsub::cloudevent::CONTENT_TYPE;
use bytes::Bytes;
use components::port::pubsub::Outcome;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;

use self::connections::{CONNECT_TIMEOUT, Connections};

/// Maximum bytes of an answer. A larger one is the app's fault, and a risk to a small device's memory.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The address of an app, and the settings of calls to it.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// The app's id.
    pub app_id: String,
    /// The host or address at which it listens.
    pub address: String,
    /// The port at which it listens.
    pub port: u16,
    /// The token that is sent to it as `dapr-api-token`.
    pub token: Option<String>,
    /// The path of its health check.
    pub health_path: String,
}

/// Options with which no channel can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelOptionsError {
    /// The address is invalid.
    #[error("app {app_id}: {address:?} is no host or address: set the App's spec.address")]
    Address {
        /// The app.
        app_id: String,
        /// The address as given.
        address: String,
    },
    /// The token can't be sent in a header.
    #[error("app {app_id}: the app token holds characters that no HTTP header can carry")]
    Token {
        /// The app.
        app_id: String,
    },
}

/// The answer of an app to a request.
#[derive(Clone, Debug)]
struct AppAnswer {
    status: StatusCode,
    body: Bytes,
}

/// The HTTP/1.1 client of one app.
#[derive(Debug)]
pub struct HttpChannel {
    /// The app's address for the `Host` header.
    authority: HeaderValue,
    address: String,
    token: Option<HeaderValue>,
    health_path: String,
    connections: Connections,
}

impl HttpChannel {
    /// Creates a channel; calls nothing yet.
    ///
    /// # Errors
    ///
    /// When the address or the token can't be used.
    pub fn new(options: ChannelOptions) -> Result<Self, ChannelOptionsError> {
        let ChannelOptions { app_id, address, port, token, health_path } = options;
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
        let health_path = format!("/{}", health_path.trim_start_matches('/'));
        let connections = Connections::new(target.clone());
        Ok(Self { authority, address: target, token, health_path, connections })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<AppAnswer, CallError> {
        let request = self.request(method, path, headers, body)?;
        let (answer, connection) = self.connections.send(request).await?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                CallError::TooLong { limit: MAX_ANSWER_BYTES }
            } else {
                connections::failure(error)
            }
        })?;
        self.connections.keep(connection);
        Ok(AppAnswer { status: parts.status, body: body.to_bytes() })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let uri = Uri::builder().path_and_query(path).build().map_err(protocol)?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::HOST, self.authority.clone());
        if let Some(token) = &self.token {
            request.headers_mut().insert("dapr-api-token", token.clone());
        }
        Ok(request)
    }

    async fn get(&self, path: &str) -> Result<AppAnswer, CallError> {
        self.call(Method::GET, path, HeaderMap::new(), Vec::new()).await
    }
}

#[async_trait]
impl AppChannel for HttpChannel {
    fn address(&self) -> &str {
        &self.address
    }

    async fn accepts(&self) -> bool {
        let connect = TcpStream::connect(&self.address);
        matches!(tokio::time::timeout(CONNECT_TIMEOUT, connect).await, Ok(Ok(_)))
    }

    async fn deliver(&self, event: EventCall<'_>) -> Result<Outcome, CallError> {
        let headers = headers(&event);
        let EventCall { path, event, .. } = event;
        let answer = self.call(Method::POST, path, headers, event).await?;
        Ok(answer::outcome(answer.status, &answer.body))
    }

    async fn deliver_batch(&self, batch: BatchCall<'_>) -> Result<Vec<Outcome>, CallError> {
        let ids: Vec<&str> = batch.entries.iter().map(|entry| entry.id.as_str()).collect();
        let body = serde_json::to_vec(&WireBatch::of(&batch));
        let body = body.expect("strings and JSON texts are always JSON");
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json)]);
        let answer = self.call(Method::POST, batch.path, headers, body).await?;
        Ok(answer::bulk_outcomes(answer.status, &answer.body, &ids))
    }

    async fn subscriptions(&self) -> Result<Option<DeclaredByApp>, CallError> {
        let answer = self.get("/dapr/subscribe").await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let declared = subscriptions::parse(&answer.body);
                declared.map(Some).map_err(|error| CallError::Answered(error.into()))
            }
            status => {
                let message = format!("the app answered GET /dapr/subscribe with status {status}");
                Err(CallError::Answered(message.into()))
            }
        }
    }

    async fn probe(&self) -> Result<(), CallError> {
        let status = self.get(&self.health_path).await?.status;
        if status.is_success() {
            return Ok(());
        }
        let message = format!("the app answered GET {} with status {status}", self.health_path);
        Err(CallError::Answered(message.into()))
    }
}

/// Returns the headers of an event. Values that no header can carry are left out; the event has them.
fn headers(event: &EventCall<'_>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert("pannier-sequence", HeaderValue::from(event.sequence));
    headers.insert("pannier-attempt", HeaderValue::from(event.attempt));
    let texts = [
        ("pubsubname", Some(event.pubsub)),
        ("partitionkey", event.key),
        ("traceparent", event.traceparent),
        ("tracestate", event.tracestate),
    ];
    for (name, text) in texts {
        let value = text.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok());
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// A bulk of events in Dapr's format.
#[derive(Serialize)]
struct WireBatch<'a> {
    id: String,
    entries: Vec<WireEntry<'a>>,
    metadata: WireBatchMetadata<'a>,
    topic: &'a str,
    pubsubname: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct WireBatchMetadata<'a> {
    #[serde(rename = "pubsubName")]
    pubsub_name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireEntry<'a> {
    entry_id: &'a str,
    event: &'a RawValue,
    metadata: WireEntryMetadata<'a>,
    content_type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireEntryMetadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_key: Option<&'a str>,
    attempt: String,
}

impl<'a> WireBatch<'a> {
    fn of(batch: &BatchCall<'a>) -> Self {
        let entries = batch.entries.iter().map(|entry| WireEntry {
            entry_id: &entry.id,
            event: &entry.event,
            metadata: WireEntryMetadata {
                partition_key: entry.key,
                attempt: entry.attempt.to_string(),
            },
            content_type: CONTENT_TYPE,
        });
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            entries: entries.collect(),
            metadata: WireBatchMetadata { pubsub_name: batch.pubsub },
            topic: batch.topic,
            pubsubname: batch.pubsub,
            kind: "com.dapr.event.sent.bulk",
        }
    }
}

fn authority(address: &str, port: u16) -> String {
    match address.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) => format!("{address}:{port}"),
    }
}

fn protocol(error: impl Into<Cause>) -> CallError {
    CallError::Protocol(error.into())
}

#[cfg(test)]
pub(crate) mod tests;
