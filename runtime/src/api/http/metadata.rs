//! `/v1.0/metadata`: this process and its components, in Dapr's shape; and `/v1.0/shutdown`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::ApiError;
use super::request::{Body, PathParameter};
use super::{ApiState, json};

/// The version of Dapr's API that is served: SDKs refuse those that they don't know.
pub const DAPR_VERSION: &str = "1.18.0";

/// Attributes that an app may set: each stays in memory.
const MAX_ATTRIBUTES: usize = 100;

/// Bytes of an attribute's name and value.
const MAX_ATTRIBUTE_BYTES: usize = 16 << 10;

/// Delay of a forced shutdown, so that its own answer is sent first: Dapr's.
const FORCED_SHUTDOWN_DELAY: Duration = Duration::from_millis(100);

/// A component, as an app is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComponentInfo {
    /// `metadata.name`.
    pub name: String,
    /// `spec.type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `spec.version`.
    pub version: String,
    /// Its abilities, in Dapr's words.
    pub capabilities: Vec<&'static str>,
}

/// A subscription, as an app is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubscriptionInfo {
    /// The pub/sub component.
    #[serde(rename = "pubsubname")]
    pub pubsub: String,
    /// The topic.
    pub topic: String,
    /// Its metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Rules in order; the default route is one without a match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleInfo>,
    /// The dead letter topic, or nothing.
    #[serde(rename = "deadLetterTopic")]
    pub dead_letter_topic: String,
    /// `DECLARATIVE` or `PROGRAMMATIC`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// A routing rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleInfo {
    /// The expression.
    #[serde(rename = "match", skip_serializing_if = "String::is_empty")]
    pub matches: String,
    /// The path.
    pub path: String,
}

/// The way to the app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppConnection {
    /// The app's port; without one the app only calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'static str>,
    /// The app's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_address: Option<String>,
    /// Calls in flight at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<usize>,
    /// The probes of the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthInfo>,
}

/// The probes of an app; durations as Go writes them (`5s`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthInfo {
    /// The path.
    pub health_check_path: String,
    /// Between probes.
    pub health_probe_interval: String,
    /// For one probe.
    pub health_probe_timeout: String,
    /// Failures in a row.
    pub health_threshold: u32,
}

/// The parts of `/v1.0/metadata` that change while the process runs.
#[derive(Debug, Default)]
pub struct Described {
    subscriptions: Mutex<Vec<SubscriptionInfo>>,
    attributes: Mutex<BTreeMap<String, String>>,
}

impl Described {
    /// Replaces the app's subscriptions.
    pub fn set_subscriptions(&self, subscriptions: Vec<SubscriptionInfo>) {
        *lock(&self.subscriptions) = subscriptions;
    }

    fn set_attribute(&self, name: String, value: String) -> Result<(), ApiError> {
        let mut attributes = lock(&self.attributes);
        if attributes.len() >= MAX_ATTRIBUTES && !attributes.contains_key(&name) {
            return Err(ApiError::malformed(format!(
                "there are {MAX_ATTRIBUTES} metadata attributes already, no more are kept: set one of them anew"
            )));
        }
        attributes.insert(name, value);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetadataAnswer<'a> {
    id: &'a str,
    runtime_version: &'static str,
    enabled_features: [&'static str; 0],
    components: &'a [ComponentInfo],
    extended: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions: Vec<SubscriptionInfo>,
    app_connection_properties: &'a AppConnection,
    actor_runtime: ActorRuntime,
}

/// There are no actors; SDKs look at the status all the same.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActorRuntime {
    runtime_status: &'static str,
    host_ready: bool,
}

pub(super) async fn get_metadata(State(api): State<ApiState>) -> Response {
    let mut extended = lock(&api.described.attributes).clone();
    extended.insert("daprRuntimeVersion".to_owned(), DAPR_VERSION.to_owned());
    extended.insert("pannierVersion".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    json(&MetadataAnswer {
        id: &api.app_id,
        runtime_version: DAPR_VERSION,
        enabled_features: [],
        components: &api.components,
        extended,
        subscriptions: lock(&api.described.subscriptions).clone(),
        app_connection_properties: &api.app,
        actor_runtime: ActorRuntime { runtime_status: "DISABLED", host_ready: false },
    })
}

pub(super) async fn put_metadata(
    State(api): State<ApiState>,
    PathParameter(name): PathParameter,
    Body(value): Body,
) -> Result<StatusCode, ApiError> {
    if name.len() + value.len() > MAX_ATTRIBUTE_BYTES {
        return Err(ApiError::oversize(MAX_ATTRIBUTE_BYTES));
    }
    let value = String::from_utf8(value.into())
        .map_err(|_| ApiError::malformed(format!("the value of {name:?} is no UTF-8 text")))?;
    api.described.set_attribute(name, value)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn shutdown(State(api): State<ApiState>, headers: HeaderMap) -> Response {
    let forced = headers.get("dapr-force-shutdown").is_some_and(|value| value == "true");
    if forced {
        tokio::spawn(async {
            tokio::time::sleep(FORCED_SHUTDOWN_DELAY).await;
            tracing::warn!("exiting at once, as a shutdown request asked");
            crate::logs::exit(1);
        });
    } else {
        api.shutdown.request();
    }
    StatusCode::NO_CONTENT.into_response()
}
