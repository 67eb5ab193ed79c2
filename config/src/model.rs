//! The typed values of all resources. A value that exists is valid.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The resources of all files.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Resources {
    /// The device; at most one.
    pub node: Option<Node>,
    /// The apps of the device.
    pub apps: Vec<App>,
    /// The connections to remote brokers.
    pub uplinks: Vec<Uplink>,
    /// Dapr components.
    pub components: Vec<Component>,
    /// Declarative subscriptions, v1alpha1 and v2alpha1.
    pub subscriptions: Vec<Subscription>,
    /// The Dapr configuration, if there is one.
    pub configuration: Configuration,
    /// Number of files that were read.
    pub files: usize,
    /// Number of documents of a known kind in them, including wrong ones.
    pub documents: usize,
    /// Kinds and fields that have no effect, each with file and line.
    pub warnings: Vec<String>,
}

/// The place that a resource was read from, for errors that are found later (an unknown component
/// type, say).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file, as it was named.
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
    /// `scopes`: ids of the apps that may use it; empty means all.
    pub scopes: Vec<String>,
    /// `auth.secretStore`.
    pub secret_store: Option<String>,
    /// The place that it was read from.
    pub origin: Origin,
}

/// One entry of a component's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataItem {
    /// The name, as written.
    pub name: String,
    /// The value.
    pub value: MetadataValue,
    /// The line, from 1.
    pub line: usize,
}

/// The source of a metadata value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataValue {
    /// Written in the file. Numbers and booleans are kept as text. Templates (`{appID}`, `{uuid}`, ...)
    /// are not replaced.
    Literal(String),
    /// `secretKeyRef`: in a secret store.
    Secret {
        /// The secret's name.
        name: String,
        /// The key within the secret; the name by default.
        key: String,
    },
    /// `envRef`: in an environment variable, which is none of `DAPR_*` and `APP_API_TOKEN`.
    Env(String),
}

/// A declarative subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// `metadata.name`.
    pub name: String,
    /// The subscription itself.
    pub spec: SubscriptionSpec,
    /// Ids of the apps that it is for; empty means all.
    pub scopes: Vec<String>,
    /// The place that it was read from.
    pub origin: Origin,
}

/// The topic of a subscription, and how its messages are delivered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriptionSpec {
    /// The pub/sub component.
    pub pubsub: String,
    /// The topic.
    pub topic: String,
    /// Routing rules in order.
    pub rules: Vec<Rule>,
    /// The path of events that no rule matches; the only route of `v1alpha1`.
    pub default_route: Option<String>,
    /// Metadata, Dapr's and Pannier's own.
    pub metadata: BTreeMap<String, String>,
    /// The topic of messages that the app rejects.
    pub dead_letter_topic: Option<String>,
    /// The bounds of bulk delivery; `None` delivers messages one by one.
    pub bulk: Option<Bulk>,
}

/// A routing rule: a CEL expression over `event`, and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The expression.
    pub matches: String,
    /// The path that matching events are posted to.
    pub path: String,
}

/// Bounds of a bulk subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// Messages in one call, 1 to 10,000; default 100.
    pub max_messages: usize,
    /// The longest wait for that many; default 1 s.
    pub max_await: Duration,
}

impl Bulk {
    /// The default number of messages in one call, Dapr's.
    pub const DEFAULT_MESSAGES: usize = 100;
    /// The most messages in one call, all of which are in memory at once.
    pub const MAX_MESSAGES: usize = 10_000;
    /// The default time that a call waits to become full, Dapr's.
    pub const DEFAULT_AWAIT: Duration = Duration::from_secs(1);
}

/// The parts of a Dapr `Configuration` that have an effect.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Configuration {
    /// `spec.metric.enabled` / `spec.metrics.enabled`.
    pub metrics_enabled: Option<bool>,
    /// `spec.logging.apiLogging.enabled`.
    pub api_logging: Option<bool>,
    /// `spec.components.deny`: component types that must not be loaded.
    pub denied_components: Vec<String>,
}

/// The device (`pannier.dev/v1`, kind `Node`).
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// `spec.id`, the first part of every record's identity; by default a random one, which is kept in
    /// the store.
    pub id: Option<String>,
    /// `spec.dataDir`.
    pub data_dir: Option<PathBuf>,
    /// `spec.limits`.
    pub limits: NodeLimits,
    /// `spec.commitDelay`.
    pub commit_delay: Option<Duration>,
    /// `spec.listeners`.
    pub listeners: Listeners,
    /// The place that it was read from.
    pub origin: Origin,
}

/// `Node.spec.limits`. `None` stands for the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeLimits {
    /// `disk`: bytes that the store may use.
    pub disk: Option<u64>,
    /// `reserve`: bytes kept free for acknowledgements on a full disk.
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
    /// `inactiveRetention`; zero means for ever.
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
    /// `metrics.port`; 0 turns metrics off.
    pub metrics_port: Option<u16>,
    /// `metrics.addresses`; loopback by default.
    pub metrics_addresses: Vec<IpAddr>,
}

/// An app of this device (`pannier.dev/v1`, kind `App`). `metadata.name` is the app id unless `spec.id`
/// is given.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct App {
    /// The app id.
    pub id: String,
    /// `spec.port`: the port that the app listens at.
    pub port: Option<u16>,
    /// `spec.protocol`.
    pub protocol: AppProtocol,
    /// `spec.address`: the address that the app listens at; default 127.0.0.1.
    pub address: String,
    /// `spec.httpPort`: the port of the API for this app; default 3500 for the first app, one more for
    /// each further app.
    pub http_port: Option<u16>,
    /// `spec.apiToken`: the token that this app must present to the API.
    pub api_token: Option<Secret>,
    /// `spec.appToken`: the token that calls to this app present.
    pub app_token: Option<Secret>,
    /// `spec.maxConcurrency`: concurrent calls to the app; `None` stands for the default limit.
    pub max_concurrency: Option<usize>,
    /// `spec.healthCheck`, when enabled.
    pub health: Option<HealthCheck>,
    /// The place that it was read from.
    pub origin: Origin,
}

/// The protocol of calls to an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppProtocol {
    /// HTTP/1.1.
    #[default]
    Http,
}

/// Health probes of an app, with Dapr's defaults.
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

/// A secret in one of Pannier's own kinds. Its text is never printed.
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

/// A connection to a remote broker (`pannier.dev/v1`, kind `Uplink`).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Uplink {
    /// `metadata.name`.
    pub name: String,
    /// `spec.mqtt`, the only protocol of this version.
    pub mqtt: MqttUplink,
    /// `spec.routes`: the topics that are sent.
    pub routes: Vec<Route>,
    /// `spec.downlinks`: the topics that are received.
    pub downlinks: Vec<Downlink>,
    /// `spec.window`: messages in flight at most; default 100, and never more than the broker's Receive
    /// Maximum.
    pub window: usize,
    /// `spec.backoff`: between attempts to connect and to deliver.
    pub backoff: BackoffSpec,
    /// `spec.maxAttempts`: refusals with a reason before a message goes to `deadLetter`; `None` stands for
    /// no bound.
    pub max_attempts: Option<u32>,
    /// `spec.deadLetter`: a topic of this device.
    pub dead_letter: Option<TopicRef>,
    /// The place that it was read from.
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

/// Local topics that an uplink sends to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `pubsub`: the local component, default `pubsub`.
    pub pubsub: String,
    /// `topic`: a topic or an MQTT filter (`sensors/+/temperature`, `#`).
    pub topic: String,
    /// `to`: the remote topic; `{topic}`, `{rest}`, `{pubsub}` and `{node}` are replaced; default
    /// `{topic}`.
    pub to: String,
    /// `format`: the form in which messages are sent.
    pub format: Format,
    /// `retain`: the retain flag of the messages.
    pub retain: bool,
}

/// The form in which a message is sent to the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The CloudEvent as JSON, as Dapr's own MQTT component does.
    #[default]
    CloudEvent,
    /// The payload alone.
    Raw,
}

/// Remote topics that an uplink receives from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downlink {
    /// `from`: the remote topic filter; `{node}` is replaced.
    pub from: String,
    /// `pubsub`: the local component, default `pubsub`.
    pub pubsub: String,
    /// `to`: the local topic; `{topic}` stands for the remote one, `{rest}` for its part that the filter's
    /// `#` or last `+` matched; `{pubsub}` and `{node}` are replaced too; default `{topic}`.
    pub to: String,
}

/// `spec.mqtt` of an uplink.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MqttUplink {
    /// The host of `url`.
    pub host: String,
    /// The port of `url`; default 1883, or 8883 with TLS.
    pub port: u16,
    /// TLS is spoken: the scheme of `url` is `mqtts` or `ssl`.
    pub tls: bool,
    /// `version`: 5 (default) or 3.1.1.
    pub version: MqttVersion,
    /// `clientId`; default the node id, a dash and the uplink's name.
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
    /// `connectTimeout`, default 20 s, because handshakes over a satellite are slow.
    pub connect_timeout: Duration,
}

/// The version of the protocol.
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
