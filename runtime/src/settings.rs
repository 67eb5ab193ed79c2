//! What the process is to do: flags and files together, every error at once.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::model::{App, HealthCheck, Node, NodeLimits, Origin, Resources, Secret};
use store_forward::ids::NodeId;
use store_forward::limits::Limits;

use crate::flags::RunArgs;
use crate::secret::reveal;

/// The port of the first app's HTTP API, daprd's.
const HTTP_PORT: u16 = 3500;
/// The port of `/metrics`, daprd's.
const METRICS_PORT: u16 = 9090;
/// The id of an app that was given none.
const APP_ID: &str = "pannier";
/// Where the service of the system's package keeps its data: `StateDirectory=` of its unit.
const SERVICE_DATA_DIR: &str = "/var/lib/pannier";
/// Clients' connections at a time: each takes up to 16 KiB of memory while it waits.
const MAX_CONNECTIONS: usize = 1024;
/// What a record needs beside the body it carries.
const RECORD_OVERHEAD: u64 = 64 << 10;

/// What the process is to do.
pub struct Settings {
    /// Everything that was read from files.
    pub resources: Resources,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The node's name, if it was given one.
    pub node: Option<NodeId>,
    /// The store's bounds.
    pub limits: Limits,
    /// The apps of the device; at least one.
    pub apps: Vec<AppSettings>,
    /// Where the HTTP API listens.
    pub http_addresses: Vec<Address>,
    /// Where `/metrics` listens; none when it is off.
    pub metrics: Option<(Vec<Address>, u16)>,
    /// Bytes of a body at most.
    pub max_body: usize,
    /// Clients' connections at a time, to all ports together.
    pub max_connections: usize,
    /// How long a shutdown may take.
    pub grace: Duration,
    /// Whether each call is logged.
    pub log_calls: bool,
    /// Flags that were given and have no effect.
    pub without_effect: Vec<String>,
}

/// What is found while settings are put together.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is wrong: nothing can be started with it.
    pub problems: Vec<String>,
    /// Secrets that aren't there. systemd's credentials exist only while its service runs, so only
    /// a start needs them.
    pub absent: Vec<String>,
}

impl Findings {
    /// All of it, for a start.
    #[must_use]
    pub fn at_a_start(self) -> Vec<String> {
        self.problems.into_iter().chain(self.absent).collect()
    }
}

/// Where a port is listened at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// What `localhost` may stand for: 127.0.0.1, and ::1 where this machine has it.
    Loopback,
    /// This address.
    Ip(IpAddr),
}

/// One app.
pub struct AppSettings {
    /// Its id.
    pub id: String,
    /// The port of its HTTP API.
    pub http_port: u16,
    /// Where it listens.
    pub port: Option<u16>,
    /// The address it listens at.
    pub address: String,
    /// Calls to it in flight.
    pub max_concurrency: Option<usize>,
    /// How its health is probed.
    pub health: Option<HealthCheck>,
    /// What it presents to us.
    pub api_token: Option<String>,
    /// What we present to it.
    pub app_token: Option<String>,
}

/// Reads the files that are named and puts them together with the flags. Beside the settings
/// stands everything that is wrong; with anything there they are good only for finding more.
#[must_use]
pub fn read(args: &RunArgs) -> (Settings, Findings) {
    let paths: Vec<PathBuf> = args.resources_path.iter().chain(&args.config).cloned().collect();
    let (resources, errors) = config::load_what_can_be_read(&paths);
    let mut found = Findings::default();
    found.problems.extend(errors.into_iter().flatten().map(|error| error.to_string()));
    let node = resources.node.clone().unwrap_or_default();
    let limits = limits(&node.limits, node.commit_delay, args.max_body_size, &mut found.problems);
    check_disk(&node, &limits, &mut found.problems);
    let apps = apps(args, &resources, node.listeners.http_port, &mut found);
    let data_dir = args.data_dir.clone().or_else(|| node.data_dir.clone());
    let data_dir = data_dir.or_else(default_data_dir).unwrap_or_else(|| {
        found.problems.push("there is no home directory to keep data in: give --data-dir".into());
        PathBuf::new()
    });
    let http = if args.dapr_listen_addresses.is_empty() {
        &node.listeners.http_addresses
    } else {
        &args.dapr_listen_addresses
    };
    let metrics_addresses = args.metrics_listen_address.map(|address| vec![address]);
    let metrics_addresses = metrics_addresses.unwrap_or(node.listeners.metrics_addresses);
    let metrics_port = args.metrics_port.or(node.listeners.metrics_port).unwrap_or(METRICS_PORT);
    let metrics_on = args.enable_metrics.or(resources.configuration.metrics_enabled);
    let metrics_on = metrics_on.unwrap_or(true) && metrics_port != 0;
    let settings = Settings {
        data_dir,
        node: node.id.map(NodeId),
        limits,
        apps,
        http_addresses: or_loopback(http),
        metrics: metrics_on.then(|| (or_loopback(&metrics_addresses), metrics_port)),
        max_body: args.max_body_size,
        max_connections: node.limits.max_connections.map_or(MAX_CONNECTIONS, |most| most as usize),
        grace: Duration::from_secs(args.dapr_graceful_shutdown_seconds),
        log_calls: args.enable_api_logging.or(resources.configuration.api_logging).unwrap_or(false),
        without_effect: args.without_effect.given(),
        resources,
    };
    (settings, found)
}

fn or_loopback(given: &[IpAddr]) -> Vec<Address> {
    match given {
        [] => vec![Address::Loopback],
        given => given.iter().copied().map(Address::Ip).collect(),
    }
}

/// Where data is kept when nothing says otherwise: systemd's state directory, or the user's.
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

/// Where the process to ask keeps its data when nothing says otherwise: the user's own directory,
/// or the system service's where that one exists alone.
#[must_use]
pub fn data_dir_to_ask() -> Option<PathBuf> {
    first_that_exists(default_data_dir(), Path::new(SERVICE_DATA_DIR))
}

fn first_that_exists(own: Option<PathBuf>, service: &Path) -> Option<PathBuf> {
    let has_own = own.as_ref().is_some_and(|own| own.exists());
    if !has_own && service.exists() { Some(service.into()) } else { own }
}

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
            let (id, port) = (&app.id, app.http_port);
            found
                .problems
                .push(format!("app {id:?}: HTTP port {port} is another app's: set spec.httpPort"));
        }
    }
    apps
}

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

/// An empty token would leave open what it is to protect, so it is wrong.
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

/// A limit that an empty store is over already would refuse every write.
fn check_disk(node: &Node, limits: &Limits, problems: &mut Vec<String>) {
    let Limits { segment_bytes, reserve_bytes, disk_bytes, .. } = *limits;
    // Two segments of the journal, what is held back, and tables with something in them.
    let needed = segment_bytes.saturating_mul(3).saturating_add(reserve_bytes);
    if disk_bytes >= needed {
        return;
    }
    let (file, line) = (node.origin.file.display(), node.origin.line);
    problems.push(format!(
        "{file}:{line}: spec.limits.disk: {disk_bytes} bytes are less than the store needs: write at least {needed}, or lower journalSegment ({segment_bytes}, needed three times) or reserve ({reserve_bytes})"
    ));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_service_is_asked_where_the_user_keeps_nothing() {
        let (here, nowhere) = (std::env::current_dir().unwrap(), PathBuf::from("/no/such/place"));
        let service = std::env::temp_dir();
        assert_eq!(first_that_exists(Some(here.clone()), &service), Some(here));
        assert_eq!(first_that_exists(Some(nowhere.clone()), &service), Some(service.clone()));
        assert_eq!(first_that_exists(None, &service), Some(service));
        let other = PathBuf::from("/no/such/service");
        assert_eq!(first_that_exists(Some(nowhere.clone()), &other), Some(nowhere));
    }
}
