//! Messages of the control socket: requests and answers, as JSON over HTTP/1.1. The two ends may be
//! of different versions: a reader ignores fields that it doesn't know, and fills in those that are
//! missing.

use std::collections::BTreeMap;

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use store_forward::store;

use crate::uplink::UplinkSnapshot;

/// The query of a [`ForgetConsumer`] with `force`.
const FORCE: &str = "force=true";

/// A request to the running process.
pub trait AdminRequest {
    /// The answer to a request that succeeds.
    type Answer: Serialize + DeserializeOwned;

    /// The HTTP method.
    const METHOD: Method;

    /// The path, as the server's router matches it.
    const ROUTE: &'static str;

    /// Returns the path and query to send.
    fn uri(&self) -> String;
}

/// Asks for the status of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetStatus;

impl AdminRequest for GetStatus {
    type Answer = Status;

    const METHOD: Method = Method::GET;
    const ROUTE: &'static str = "/status";

    fn uri(&self) -> String {
        Self::ROUTE.into()
    }
}

/// Forgets a consumer and deletes the messages that wait for it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgetConsumer {
    /// The consumer's name.
    pub consumer: String,
    /// Also delete the backlog of a consumer that is in use; it goes on with the next message.
    pub force: bool,
}

impl ForgetConsumer {
    /// Reads the request from a path that matched the route, and from the query.
    #[must_use]
    pub fn read(consumer: String, query: Option<&str>) -> Self {
        Self { consumer, force: query == Some(FORCE) }
    }
}

impl AdminRequest for ForgetConsumer {
    type Answer = ForgottenBacklog;

    const METHOD: Method = Method::DELETE;
    const ROUTE: &'static str = CONSUMER_ROUTE;

    fn uri(&self) -> String {
        let path = consumer_path(&self.consumer);
        if self.force { format!("{path}?{FORCE}") } else { path }
    }
}

/// Tries a consumer's held messages again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryConsumer {
    /// The consumer's name.
    pub consumer: String,
}

impl AdminRequest for RetryConsumer {
    /// The number of held messages.
    type Answer = u64;

    const METHOD: Method = Method::POST;
    const ROUTE: &'static str = CONSUMER_ROUTE;

    fn uri(&self) -> String {
        consumer_path(&self.consumer)
    }
}

const CONSUMER_ROUTE: &str = "/consumers/{*consumer}";

fn consumer_path(consumer: &str) -> String {
    format!("/consumers/{}", utf8_percent_encode(consumer, NON_ALPHANUMERIC))
}

/// The backlog of a consumer that was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgottenBacklog {
    /// Messages that nobody else waits for: they are deleted.
    pub deleted: u64,
    /// Messages that stay for others.
    pub kept: u64,
}

/// The status of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The version of pannier.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// The apps.
    pub apps: Vec<AppStatus>,
    /// The components.
    pub components: Vec<ComponentStatus>,
    /// The store, if one is open.
    #[serde(flatten, deserialize_with = "read_store")]
    pub store: Option<store::Status>,
    /// Bytes on disk that the store may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_limit: Option<u64>,
    /// The uplinks.
    pub uplinks: Vec<UplinkSnapshot>,
    /// Messages lost since the start, by reason.
    pub lost_since_start: BTreeMap<String, u64>,
    /// Log lines that could not be written since the start.
    pub log_lines_lost: u64,
}

/// Reads the store's part of a status. Serde's own way to flatten an `Option` would take a part that
/// is wrong for one that is absent.
fn read_store<'de, D: Deserializer<'de>>(from: D) -> Result<Option<store::Status>, D::Error> {
    let fields = Map::deserialize(from)?;
    if !fields.contains_key("node") {
        return Ok(None);
    }
    store::Status::deserialize(Value::Object(fields)).map(Some).map_err(D::Error::custom)
}

/// The status of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppStatus {
    /// The app's id.
    pub id: String,
    /// The port of its API.
    pub http_port: u16,
    /// The port at which the app listens; `None` if it is not called.
    pub app_port: Option<u16>,
    /// Readiness of the app to take messages.
    pub state: AppReadiness,
}

/// Readiness of an app to take messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum AppReadiness {
    /// The app has no port.
    #[default]
    NotCalled,
    /// Nothing listens at the app's port.
    WaitingForPort,
    /// The health check fails.
    Unhealthy,
    /// The app has not answered which topics it subscribes to.
    AskedForSubscriptions,
    /// The app takes messages.
    TakesMessages,
    /// A state that only another version of pannier knows.
    Other(String),
}

impl AppReadiness {
    const KNOWN: [Self; 5] = [
        Self::NotCalled,
        Self::WaitingForPort,
        Self::Unhealthy,
        Self::AskedForSubscriptions,
        Self::TakesMessages,
    ];

    /// Returns the state's name in JSON and in the text of the status.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::NotCalled => "not called",
            Self::WaitingForPort => "waiting for its port",
            Self::Unhealthy => "unhealthy",
            Self::AskedForSubscriptions => "asked for its subscriptions",
            Self::TakesMessages => "takes messages",
            Self::Other(name) => name,
        }
    }
}

impl From<String> for AppReadiness {
    fn from(name: String) -> Self {
        let known = Self::KNOWN.into_iter().find(|known| known.name() == name);
        known.unwrap_or(Self::Other(name))
    }
}

impl From<AppReadiness> for String {
    fn from(readiness: AppReadiness) -> Self {
        readiness.name().into()
    }
}

/// The status of a component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ComponentStatus {
    /// The component's name.
    pub name: String,
    /// The component's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// True if its contents outlive the process.
    pub durable: bool,
}

#[cfg(test)]
mod tests;
