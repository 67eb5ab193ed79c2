//! What the files say, as typed values: a value that exists is valid.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that was read, merged over all files.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Resources {
    /// The device; at most one.
    pub node: Option<Node>,
    /// Apps of this device.
    pub apps: Vec<App>,
    /// Ways out of this device.
    pub uplinks: Vec<Uplink>,
    /// Dapr components.
    pub components: Vec<Component>,
    /// Declarative subscriptions, v1alpha1 and v2alpha1.
    pub subscriptions: Vec<Subscription>,
    /// The Dapr configuration, if there is one.
    pub configuration: Configuration,
    /// Files that were read.
    pub files: usize,
    /// Documents of a known kind in them, with those that are wrong.
    pub documents: usize,
    /// What was read and isn't acted on: kinds, fields; each with file and line.
    pub warnings: Vec<String>,
}

/// Where a resource was read: for errors that are found later (an unknown component type, say).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file as it was named.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

/// A Dapr `Component`.
#[derive(Clone, Debug)]
pub struct Component {
    /// `metadata.name`.
    pub name: String,
    /// `spec.type`, for example `state.redb`.
    pub kind: String,
    /// `spec.version`.
    pub version: String,
    /// `spec.ignoreErrors`.
    pub ignore_errors: bool,
    /// `spec.metadata`, in the file's order.
    pub metadata: Vec<MetadataItem>,
    /// `scopes`: app ids that may use it; empty means all.
    pub scopes: Vec<String>,
    /// `auth.secretStore`.
    pub secret_store: Option<String>,
    /// Where it was read.
    pub origin: Origin,
}

/// One entry of a component's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataItem {
    /// The name, as written.
    pub name: String,
    /// The value.
    pub value: MetadataValue,
    /// Line of the entry.
    pub line: usize,
}

/// Where a metadata value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataValue {
    /// In the file. Numbers and booleans are kept as they were written. Templates (`{appID}`, `{uuid}`, ...) are not replaced.
    Literal(String),
    /// `secretKeyRef`: the key defaults to the name.
    Secret {
        /// The secret's name.
        name: String,
        /// The key within it.
        key: String,
    },
    /// `envRef`; `DAPR_*` and `APP_API_TOKEN` are refused when read.
    Env(String),
}

/// A declarative subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// `metadata.name`.
    pub name: String,
    /// What is subscribed to.
    pub spec: SubscriptionSpec,
    /// App ids it is for; empty means all.
    pub scopes: Vec<String>,
    /// Where it was read.
    pub origin: Origin,
}

/// What is subscribed to, and how it is to come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriptionSpec {
    /// The pub/sub component.
    pub pubsub: String,
    /// The topic.
    pub topic: String,
    /// Rules in order; `v1alpha1`'s one route becomes `default_route`.
    pub rules: Vec<Rule>,
    /// Where an event goes that no rule matched.
    pub default_route: Option<String>,
    /// Metadata, Dapr's and ours.
    pub metadata: BTreeMap<String, String>,
    /// Where a message goes that the app can't digest.
    pub dead_letter_topic: Option<String>,
    /// Whether messages come in bulk.
    pub bulk: Option<Bulk>,
}

/// A routing rule: a CEL expression over `event`, and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The expression.
    pub matches: String,
    /// The path to post to.
    pub path: String,
}

/// Bulk subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// Messages in one call, 1 to 10,000; default 100.
    pub max_messages: usize,
    /// How long to wait for that many; default 1 s.
    pub max_await: Duration,
}

impl Bulk {
    /// Messages in one call, if nothing is said: Dapr's.
    pub const DEFAULT_MESSAGES: usize = 100;
    /// The most that one call may hold: each is in memory at once.
    pub const MAX_MESSAGES: usize = 10_000;
    /// How long a call waits to become full, if nothing is said: Dapr's.
    pub const DEFAULT_AWAIT: Duration = Duration::from_secs(1);
}

/// The parts of a Dapr `Configuration` that this version acts on.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Configuration {
    /// `spec.metric.enabled` / `spec.metrics.enabled`.
    pub metrics_enabled: Option<bool>,
    /// `spec.logging.apiLogging.enabled`.
    pub api_logging: Option<bool>,
    /// `spec.components.deny`: component types that may not be loaded.
    pub denied_components: Vec<String>,
}

/// The device (`pannier.dev/v1`, kind `Node`).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// `spec.id`, the first part of every record's identity; default: drawn once and kept in the store.
    pub id: Option<String>,
    /// `spec.dataDir`.
    pub data_dir: Option<PathBuf>,
    /// `spec.limits`.
    pub limits: NodeLimits,
    /// `spec.commitDelay`.
    pub commit_delay: Option<Duration>,
    /// `spec.listeners`.
    pub listeners: Listeners,
    /// Where it was read.
    pub origin: Origin,
}

/// `Node.spec.limits`: what is left out keeps its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeLimits {
    /// `disk`: bytes that the store may use (`512Mi`).
    pub disk: Option<u64>,
    /// `reserve`: bytes held back for acknowledgements on a full disk.
    pub reserve: Option<u64>,
    /// `cache`: bytes of the page cache.
    pub cache: Option<u64>,
    /// `journalSegment`: bytes of a journal segment.
    pub journal_segment: Option<u64>,
    /// `checkpointBytes`.
    pub checkpoint_bytes: Option<u64>,
    /// `checkpointInterval`.
    pub checkpoint_interval: Option<Duration>,
    /// `maxKey`: bytes.
    pub max_key: Option<u64>,
    /// `maxValue`: bytes of a value or a payload.
    pub max_value: Option<u64>,
    /// `maxTopic`: bytes of a topic's name, at most 65,535.
    pub max_topic: Option<u64>,
    /// `maxStreams`.
    pub max_streams: Option<u32>,
    /// `maxConsumers`.
    pub max_consumers: Option<u32>,
    /// `maxQueuedRequests`: requests waiting for the writer.
    pub max_queued_requests: Option<u32>,
    /// `maxConnections`: clients' connections to all ports together.
    pub max_connections: Option<u32>,
    /// `unclaimedRetention`.
    pub unclaimed_retention: Option<Duration>,
    /// `inactiveGrace`.
    pub inactive_grace: Option<Duration>,
    /// `inactiveRetention`; zero is for ever.
    pub inactive_retention: Option<Duration>,
}

/// `Node.spec.listeners`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listeners {
    /// `http.port`.
    pub http_port: Option<u16>,
    /// `http.addresses`; loopback by default.
    pub http_addresses: Vec<IpAddr>,
    /// `metrics.port`; 0 switches it off.
    pub metrics_port: Option<u16>,
    /// `metrics.addresses`; loopback by default.
    pub metrics_addresses: Vec<IpAddr>,
}

/// An app of this device (`pannier.dev/v1`, kind `App`); `metadata.name` is the app id unless `spec.id` is given.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct App {
    /// The app id.
    pub id: String,
    /// `spec.port`: where the app listens.
    pub port: Option<u16>,
    /// `spec.protocol`.
    pub protocol: AppProtocol,
    /// `spec.address`: where the app listens, default 127.0.0.1.
    pub address: String,
    /// `spec.httpPort`: where this app calls us; default 3500 for the first app, counted up.
    pub http_port: Option<u16>,
    /// `spec.apiToken`: what this app must present; `{env: NAME}` or `{file: PATH}` or a literal.
    pub api_token: Option<Secret>,
    /// `spec.appToken`: what we present to this app.
    pub app_token: Option<Secret>,
    /// `spec.maxConcurrency`; default no bound.
    pub max_concurrency: Option<usize>,
    /// `spec.healthCheck`, when enabled.
    pub health: Option<HealthCheck>,
    /// Where it was read.
    pub origin: Origin,
}

/// How we speak to an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppProtocol {
    /// HTTP/1.1.
    #[default]
    Http,
}

/// App health probing; daprd's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `path`, default `/healthz`.
    pub path: String,
    /// `interval`, default 5 s.
    pub interval: Duration,
    /// `timeout`, default 500 ms.
    pub timeout: Duration,
    /// `threshold`: failures in a row, default 3.
    pub threshold: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/healthz".into(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_millis(500),
            threshold: 3,
        }
    }
}

/// A secret in our own kinds: never printed.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Secret {
    /// Written in the file.
    Literal(String),
    /// In an environment variable.
    Env(String),
    /// In a file of its own; one `\n` or `\r\n` at its end is cut off. Read again at each use.
    File(PathBuf),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal(***)"),
            Self::Env(name) => write!(f, "Env({name})"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// A way out of the device (`pannier.dev/v1`, kind `Uplink`).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Uplink {
    /// `metadata.name`.
    pub name: String,
    /// `spec.mqtt` (the one kind of this version).
    pub mqtt: MqttUplink,
    /// `spec.routes`: what goes up.
    pub routes: Vec<Route>,
    /// `spec.downlinks`: what comes down.
    pub downlinks: Vec<Downlink>,
    /// `spec.window`: messages in flight at most; default 100, and never over the broker's Receive Maximum.
    pub window: usize,
    /// `spec.backoff`: between attempts to connect and to deliver.
    pub backoff: BackoffSpec,
    /// `spec.maxAttempts`: refusals with a reason before a message goes to `deadLetter`; default: no bound.
    pub max_attempts: Option<u32>,
    /// `spec.deadLetter`: `{pubsub, topic}` on this device.
    pub dead_letter: Option<TopicRef>,
    /// Where it was read.
    pub origin: Origin,
}

/// A topic of a local pub/sub component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRef {
    /// The pub/sub component.
    pub pubsub: String,
    /// The topic.
    pub topic: String,
}

/// What goes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `pubsub`: the local component, default `pubsub`.
    pub pubsub: String,
    /// `topic`: a topic or an MQTT filter (`sensors/+/temperature`, `#`).
    pub topic: String,
    /// `to`: the remote topic; `{topic}`, `{rest}`, `{pubsub}` and `{node}` are replaced; default `{topic}`.
    pub to: String,
    /// `format`: what is sent.
    pub format: Format,
    /// `retain`.
    pub retain: bool,
}

/// What an upstream publish carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The CloudEvent as JSON, as Dapr's own MQTT component does.
    #[default]
    CloudEvent,
    /// The payload alone.
    Raw,
}

/// What comes down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downlink {
    /// `from`: the remote topic filter; `{node}` is replaced.
    pub from: String,
    /// `pubsub`: the local component, default `pubsub`.
    pub pubsub: String,
    /// `to`: the local topic; `{topic}` is the remote one, `{rest}` what the filter's `#` or last `+`
    /// matched of it; `{pubsub}` and `{node}` are replaced too; default `{topic}`.
    pub to: String,
}

/// `spec.mqtt` of an uplink.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MqttUplink {
    /// `url` parsed: `mqtt://`, `tcp://` (1883), `mqtts://`, `ssl://` (8883).
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// `version`: 5 (default) or 3.1.1.
    pub version: MqttVersion,
    /// `clientId`; default the node id and the uplink's name.
    pub client_id: Option<String>,
    /// `username`.
    pub username: Option<String>,
    /// `password`.
    pub password: Option<Secret>,
    /// `caCert`: PEM file; default the system's roots.
    pub ca_cert: Option<PathBuf>,
    /// `clientCert`: PEM file; needs `clientKey`.
    pub client_cert: Option<PathBuf>,
    /// `clientKey`: PEM file.
    pub client_key: Option<PathBuf>,
    /// `keepAlive`, default 30 s; at least 5 s.
    pub keep_alive: Duration,
    /// `connectTimeout`, default 20 s: a satellite handshake takes its time.
    pub connect_timeout: Duration,
}

/// The protocol spoken to the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MqttVersion {
    /// MQTT 5.
    #[default]
    V5,
    /// MQTT 3.1.1.
    V311,
}

/// A jittered exponential backoff.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffSpec {
    /// `initial`, default 1 s.
    pub initial: Duration,
    /// `max`, default 60 s.
    pub max: Duration,
}

impl Default for BackoffSpec {
    fn default() -> Self {
        Self { initial: Duration::from_secs(1), max: Duration::from_secs(60) }
    }
}
