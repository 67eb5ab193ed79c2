//! The settings of the process, put together from flags and files, with every error at once.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blocks::app::DEFAULT_MAX_CALLS;
use config::model::{App, HealthCheck, Listeners, Node, NodeLimits, Origin, Resources, Secret};
use store_forward::ids::NodeId;
use store_forward::limits::Limits;

use crate::flags::RunArgs;
use crate::secret::reveal;

/// The default port of the first app's HTTP API, daprd's.
const HTTP_PORT: u16 = 3500;
/// The default port of `/metrics`, daprd's.
const METRICS_PORT: u16 = 9090;
/// The default id of an app.
const APP_ID: &str = "pannier";
/// The data directory of the packaged system service: `StateDirectory=` of its unit.
const SERVICE_DATA_DIR: &str = "/var/lib/pannier";
/// The default limit of concurrent client connections. Each takes up to 16 KiB of memory while it is
/// idle.
const MAX_CONNECTIONS: usize = 1024;
/// Bytes of a record beside the body that it carries.
const RECORD_OVERHEAD: u64 = 64 << 10;

/// The settings of the process.
pub struct Settings {
    /// The resources of all files.
    pub resources: Resources,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The node's id, if one is configured.
    pub node: Option<NodeId>,
    /// The store's limits.
    pub limits: Limits,
    /// The apps of the device; at least one.
    pub apps: Vec<AppSettings>,
    /// The addresses of the HTTP API.
    pub http_addresses: Vec<Address>,
    /// The addresses and the port of `/metrics`; `None` when metrics are off.
    pub metrics: Option<(Vec<Address>, u16)>,
    /// Bytes of a request's body at most.
    pub max_body: usize,
    /// Concurrent client connections to all ports together.
    pub max_connections: usize,
    /// The longest time that a shutdown may take.
    pub grace: Duration,
    /// Each call is logged.
    pub log_calls: bool,
    /// Flags that were given and have no effect.
    pub without_effect: Vec<String>,
}

/// The problems found while settings are put together.
#[derive(Debug, Default)]
pub struct Findings {
    /// Errors: nothing can be started with them.
    pub problems: Vec<String>,
    /// Missing secrets. Only a start needs them: systemd's credentials exist only while the service
    /// runs.
    pub absent: Vec<String>,
}

impl Findings {
    /// Returns all problems, for a start.
    #[must_use]
    pub fn at_a_start(self) -> Vec<String> {
        self.problems.into_iter().chain(self.absent).collect()
    }
}

/// An address to listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// All that `localhost` may stand for: 127.0.0.1, and ::1 where this machine has it.
    Loopback,
    /// A single address.
    Ip(IpAddr),
}

/// The settings of one app.
pub struct AppSettings {
    /// The app id.
    pub id: String,
    /// The port of the HTTP API for this app.
    pub http_port: u16,
    /// The port that the app listens at, if it can be called.
    pub port: Option<u16>,
    /// The address that the app listens at.
    pub address: String,
    /// Concurrent calls to the app; `None` stands for the default limit.
    pub max_concurrency: Option<usize>,
    /// The probes of the app's health; `None` turns them off.
    pub health: Option<HealthCheck>,
    /// The token that the app must present to the API.
    pub api_token: Option<String>,
    /// The token that calls to the app present.
    pub app_token: Option<String>,
}

impl AppSettings {
    /// Returns the limit of concurrent calls to the app.
    #[must_use]
    pub fn max_calls(&self) -> usize {
        self.max_concurrency.unwrap_or(DEFAULT_MAX_CALLS)
    }
}

/// Reads the named files and puts them together with the flags. If there are findings, the settings
/// serve only to look for more.
#[must_use]
pub fn read(args: &RunArgs) -> (Settings, Findings) {
    let paths: Vec<PathBuf> = args.resources_path.iter().chain(&args.config).cloned().collect();
    let (resources, errors) = config::load_with_errors(&paths);
    let mut found = Findings::default();
    found.problems.extend(errors.into_iter().flatten().map(|error| error.to_string()));

    let node = resources.node.clone().unwrap_or_default();
    let limits = limits(&node.limits, node.commit_delay, args.max_body_size, &mut found.problems);
    check_disk(&node, &limits, &mut found.problems);
    let settings = Settings {
        apps: apps(args, &resources, node.listeners.http_port, &mut found),
        data_dir: data_dir(args, &node, &mut found.problems),
        http_addresses: http_addresses(args, &node.listeners),
        metrics: metrics(args, &node.listeners, resources.configuration.metrics_enabled),
        node: node.id.map(NodeId),
        limits,
        max_body: args.max_body_size,
        max_connections: node.limits.max_connections.map_or(MAX_CONNECTIONS, |most| most as usize),
        grace: Duration::from_secs(args.dapr_graceful_shutdown_seconds),
        log_calls: args.enable_api_logging.or(resources.configuration.api_logging).unwrap_or(false),
        without_effect: args.without_effect.given(),
        resources,
    };
    (settings, found)
}

fn data_dir(args: &RunArgs, node: &Node, problems: &mut Vec<String>) -> PathBuf {
    let given = args.data_dir.clone().or_else(|| node.data_dir.clone());
    given.or_else(default_data_dir).unwrap_or_else(|| {
        problems.push("there is no home directory to keep data in: give --data-dir".into());
        PathBuf::new()
    })
}

/// Returns the addresses of the HTTP API. A flag wins over the node's resource.
fn http_addresses(args: &RunArgs, listeners: &Listeners) -> Vec<Address> {
    if args.dapr_listen_addresses.is_empty() {
        or_loopback(&listeners.http_addresses)
    } else {
        or_loopback(&args.dapr_listen_addresses)
    }
}

/// Returns the addresses and the port of `/metrics`. A flag wins over the resources.
fn metrics(
    args: &RunArgs,
    listeners: &Listeners,
    is_enabled: Option<bool>,
) -> Option<(Vec<Address>, u16)> {
    let port = args.metrics_port.or(listeners.metrics_port).unwrap_or(METRICS_PORT);
    let is_on = args.enable_metrics.or(is_enabled).unwrap_or(true) && port != 0;
    let addresses = match args.metrics_listen_address {
        Some(address) => or_loopback(&[address]),
        None => or_loopback(&listeners.metrics_addresses),
    };
    is_on.then_some((addresses, port))
}

/// Returns the given addresses, or loopback if there are none.
fn or_loopback(given: &[IpAddr]) -> Vec<Address> {
    match given {
        [] => vec![Address::Loopback],
        given => given.iter().copied().map(Address::Ip).collect(),
    }
}

/// Returns the default data directory: systemd's state directory, or one of the user.
#[must_use]
pub fn default_data_dir() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(state) = var("STATE_DIRECTORY") {
        return Some(PathBuf::from(state));
    }
    let data = var("XDG_DATA_HOME").map(PathBuf::from);
    let home = || var("HOME").map(|home| Path::new(&home).join(".local/share"));
    data.or_else(home).map(|data| data.join("pannier"))
}

/// Returns the data directory of the process that the command line asks by default: the user's own,
/// or the system service's if only that one exists.
#[must_use]
pub fn data_dir_to_ask() -> Option<PathBuf> {
    own_or_service(default_data_dir(), Path::new(SERVICE_DATA_DIR))
}

/// Returns the service's directory if only that one exists.
fn own_or_service(own: Option<PathBuf>, service: &Path) -> Option<PathBuf> {
    let has_own = own.as_ref().is_some_and(|own| own.exists());
    if !has_own && service.exists() { Some(service.into()) } else { own }
}

/// Puts together the apps of flags and files, and reports ids and ports that occur twice.
fn apps(
    args: &RunArgs,
    resources: &Resources,
    node_port: Option<u16>,
    found: &mut Findings,
) -> Vec<AppSettings> {
    let first = args.dapr_http_port.or(node_port).unwrap_or(HTTP_PORT);
    let mut apps = Vec::new();
    if args.app_id.is_some() || resources.apps.is_empty() {
        apps.push(from_flags(args, first));
    }
    for app in &resources.apps {
        let counted = u16::try_from(apps.len()).unwrap_or(u16::MAX);
        apps.push(from_file(app, first.saturating_add(counted), found));
    }
    for (at, app) in apps.iter().enumerate() {
        let before = &apps[..at];
        if before.iter().any(|other| other.id == app.id) {
            found.problems.push(format!("two apps have the id {:?}: give each its own", app.id));
        }
        if app.http_port != 0 && before.iter().any(|other| other.http_port == app.http_port) {
            let AppSettings { id, http_port, .. } = app;
            found.problems.push(format!(
                "app {id:?}: HTTP port {http_port} is another app's: set spec.httpPort"
            ));
        }
    }
    apps
}

/// Puts together the app of the command line.
fn from_flags(args: &RunArgs, http_port: u16) -> AppSettings {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    AppSettings {
        id: args.app_id.clone().unwrap_or_else(|| APP_ID.into()),
        http_port,
        port: args.app_port,
        address: args.app_channel_address.clone(),
        max_concurrency: usize::try_from(args.app_max_concurrency).ok().filter(|most| *most > 0),
        health: args.enable_app_health_check.then(|| HealthCheck {
            path: args.app_health_check_path.clone(),
            interval: Duration::from_secs(args.app_health_probe_interval),
            timeout: Duration::from_millis(args.app_health_probe_timeout),
            threshold: args.app_health_threshold,
        }),
        api_token: var("DAPR_API_TOKEN"),
        app_token: var("APP_API_TOKEN"),
    }
}

/// Puts together an app of the files.
fn from_file(app: &App, http_port: u16, found: &mut Findings) -> AppSettings {
    AppSettings {
        api_token: token(&app.origin, "apiToken", app.api_token.as_ref(), found),
        app_token: token(&app.origin, "appToken", app.app_token.as_ref(), found),
        id: app.id.clone(),
        http_port: app.http_port.unwrap_or(http_port),
        port: app.port,
        address: app.address.clone(),
        max_concurrency: app.max_concurrency,
        health: app.health.clone(),
    }
}

/// Reads an app's token. An empty one is an error, because it would protect nothing.
fn token(
    origin: &Origin,
    field: &str,
    secret: Option<&Secret>,
    found: &mut Findings,
) -> Option<String> {
    let error = match reveal(secret?) {
        Ok(token) => return Some(token),
        Err(error) => error,
    };
    let text = format!("{}:{}: spec.{field}: {error}", origin.file.display(), origin.line);
    let list = if error.may_come() { &mut found.absent } else { &mut found.problems };
    list.push(text);
    None
}

/// Puts together the store's limits, and reports those that a body of the largest size doesn't fit in.
fn limits(
    given: &NodeLimits,
    commit_delay: Option<Duration>,
    max_body: usize,
    problems: &mut Vec<String>,
) -> Limits {
    let base = Limits::default();
    let size = |bytes: Option<u64>, default: usize| {
        bytes.map_or(default, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    };
    let limits = Limits {
        segment_bytes: given.journal_segment.unwrap_or(base.segment_bytes),
        checkpoint_bytes: given.checkpoint_bytes.unwrap_or(base.checkpoint_bytes),
        checkpoint_interval: given.checkpoint_interval.unwrap_or(base.checkpoint_interval),
        commit_delay: commit_delay.unwrap_or(base.commit_delay),
        cache_bytes: size(given.cache, base.cache_bytes),
        max_key_bytes: size(given.max_key, base.max_key_bytes),
        max_value_bytes: size(given.max_value, base.max_value_bytes.max(max_body)),
        max_topic_bytes: size(given.max_topic, base.max_topic_bytes),
        max_streams: given.max_streams.unwrap_or(base.max_streams),
        max_consumers: given.max_consumers.unwrap_or(base.max_consumers),
        max_queued_requests: given
            .max_queued_requests
            .map_or(base.max_queued_requests, |most| most as usize),
        disk_bytes: given.disk.unwrap_or(base.disk_bytes),
        reserve_bytes: given.reserve.unwrap_or(base.reserve_bytes),
        unclaimed_retention: given.unclaimed_retention.unwrap_or(base.unclaimed_retention),
        inactive_grace: given.inactive_grace.unwrap_or(base.inactive_grace),
        inactive_retention: given.inactive_retention.or(base.inactive_retention),
    };
    let needed = max_body as u64 + RECORD_OVERHEAD;
    if limits.segment_bytes < needed {
        problems.push(format!(
            "a body of {max_body} bytes does not fit in a journal segment of {}: lower --max-body-size, or raise spec.limits.journalSegment in the Node resource to {needed}",
            limits.segment_bytes
        ));
    }
    limits
}

/// Refuses a limit of the disk that even an empty store exceeds: every write would fail.
fn check_disk(node: &Node, limits: &Limits, problems: &mut Vec<String>) {
    let Limits { segment_bytes, reserve_bytes, disk_bytes, .. } = *limits;
    // Two journal segments, the reserve, and tables that hold something.
    let needed = segment_bytes.saturating_mul(3).saturating_add(reserve_bytes);
    if disk_bytes >= needed {
        return;
    }
    let file = node.origin.file.display();
    let line = node.origin.line;
    problems.push(format!(
        "{file}:{line}: spec.limits.disk: {disk_bytes} bytes are less than the store needs: write at least {needed}, or lower journalSegment ({segment_bytes}, needed three times) or reserve ({reserve_bytes})"
    ));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_service_is_asked_if_the_user_has_no_data_directory() {
        let here = std::env::current_dir().unwrap();
        let nowhere = PathBuf::from("/no/such/place");
        let service = std::env::temp_dir();
        assert_eq!(own_or_service(Some(here.clone()), &service), Some(here));
        assert_eq!(own_or_service(Some(nowhere.clone()), &service), Some(service.clone()));
        assert_eq!(own_or_service(None, &service), Some(service));
        let other = PathBuf::from("/no/such/service");
        assert_eq!(own_or_service(Some(nowhere.clone()), &other), Some(nowhere));
    }
}
