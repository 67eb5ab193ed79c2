//! Ownership: builds all parts, runs them until the shutdown, and drains them in order.

mod app;
mod leftovers;
mod listen;
mod uplinks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use components::Embedded;
use components::stop::{Stop, Stopper};
use store_forward::Store;
use store_forward::clock::OsClock;
use store_forward::disk::{DiskError, OsDisk};
use store_forward::ids::NodeId;
use store_forward::store::{OpenError, Options};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use crate::admin::{ComponentStatus, Control, losses};
use crate::assemble::{AssembleError, Assembly, DescribedComponent, assemble, assembly_context};
use crate::metrics::{self, Calls};
use crate::ready::Ready;
use crate::serve::{self, Connections};
use crate::settings::Settings;
use crate::systemd::{self, Notice};
use crate::uplink::UplinkStatus;

pub use listen::ListenError;

/// Maximum connections to the control socket, which serves people and their scripts.
const MAX_ASKERS: usize = 16;

/// A start that failed, or a run that ended with an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Invalid flags or files; each line names the place, the problem and the remedy.
    #[error("{}", .0.join("\n"))]
    Configuration(Vec<String>),
    /// A data directory that can't be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A store that can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A store that had to stop writing while the process ran.
    #[error(
        "shutdown complete, but the store had stopped writing ({cause}): what was acknowledged before that is kept; fix the disk or put the directory back, then start again"
    )]
    Poisoned {
        /// The failure.
        cause: String,
    },
    /// A port that can't be listened at.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A control socket that can't be made.
    #[error(
        "cannot make the control socket {path}: {cause}; choose another directory with --data-dir"
    )]
    Socket {
        /// The socket's path.
        path: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
}

impl From<AssembleError> for StartError {
    fn from(error: AssembleError) -> Self {
        match error {
            AssembleError::Configuration(problems) => Self::Configuration(problems),
            AssembleError::Store(error) => Self::Store(error),
        }
    }
}

/// The parts that everything on the device shares.
struct Device {
    settings: Settings,
    assembly: Assembly,
    /// The node's store, if anything asked for it.
    store: Option<Store>,
    calls: Arc<Calls>,
    connections: Arc<Connections>,
    stopper: Stopper,
}

impl Device {
    fn stop(&self) -> Stop {
        self.stopper.subscribe()
    }
}

/// Tasks of the process, by the order in which they end.
#[derive(Default)]
struct Tasks {
    /// Subscriptions and uplinks: they end first.
    inbound: JoinSet<()>,
    /// Servers, which answer until every delivery has its outcome.
    servers: JoinSet<()>,
}

/// Runs checked settings until a stop is requested; then drains, checkpoints and returns.
///
/// # Errors
///
/// When it can't start, or the store had to stop writing.
pub async fn run(
    settings: Settings,
    stopper: Stopper,
    ready: impl FnOnce(&Ready),
) -> Result<(), StartError> {
    let device = build(settings, stopper).await?;
    let mut tasks = Tasks::default();

    // Open the control socket before the API: a client of the API may ask for the status at once.
    let data_dir = &device.settings.data_dir;
    let socket = Control::listen(data_dir)
        .map_err(|cause| StartError::Socket { path: data_dir.join("control.sock"), cause })?;
    let mut apps = Vec::new();
    for app in &device.settings.apps {
        apps.push(app::start(app, &device, &mut tasks).await?);
    }
    let uplinks = device.settings.resources.uplinks.iter().map(uplink_status).collect();
    let lost_before = device.store.as_ref().and_then(|store| store.status().ok());
    let control = Control {
        store: device.store.clone(),
        disk_limit: device.settings.limits.disk_bytes,
        uplinks: Arc::new(uplinks),
        apps: Arc::new(apps),
        lost_before: Arc::new(lost_before.map(|status| losses(&status)).unwrap_or_default()),
        components: Arc::new(device.assembly.described.iter().map(component_status).collect()),
    };
    let metrics = serve_control(&device, control.clone(), socket, &mut tasks).await;
    if let Some(store) = &device.store {
        uplinks::start(&device, store, &control.uplinks, &mut tasks);
        leftovers::warn(store, &device.assembly);
    }

    // Everything is served: report it, and run until the stop.
    ready(&Ready::new(&control, metrics, device.settings.data_dir.clone()));
    device.stop().requested().await;

    // Drain before the components and the store are closed: deliveries in flight still write outcomes.
    systemd::notify(Notice::Stopping);
    tracing::info!("shutdown has begun");
    drain(tasks, device.settings.grace).await;
    device.assembly.close().await;
    close(device.store.as_ref()).await
}

async fn build(settings: Settings, stopper: Stopper) -> Result<Device, StartError> {
    let disk = Arc::new(OsDisk::open(&settings.data_dir)?);
    let options =
        Options { node: settings.node.clone(), limits: settings.limits.clone(), volatile: false };
    let embedded = Embedded::new(options, disk, Arc::new(OsClock::new()));

    // A directory that can't be listed is reported by opening the store in it.
    if !settings.resources.uplinks.is_empty() || embedded.exists().unwrap_or(true) {
        embedded.open().await?;
    }
    let assembly = assemble(&settings.resources, &assembly_context(&settings, &embedded)).await?;
    let store = embedded.opened().cloned();
    if let Some(store) = &store {
        let NodeId(node) = &store.identity().node;
        tracing::info!(node, dir = %settings.data_dir.display(), "store is open");
        if let Err(error) = store.configured(|name| is_configured(&settings, name)).await {
            tracing::warn!(%error, "failed to store which consumers are configured");
        }
    }

    let called = settings.apps.iter().filter(|app| app.port.is_some());
    let calls = called.map(|app| app.max_calls() as u64).sum();
    let connections = Connections::within_the_limit_of_files(settings.max_connections, calls);
    Ok(Device {
        settings,
        assembly,
        store,
        calls: Arc::default(),
        connections: Arc::new(connections),
        stopper,
    })
}

/// Closes the store. Fails if its disk failed: the last writes may be missing then.
async fn close(store: Option<&Store>) -> Result<(), StartError> {
    if let Some(store) = store {
        store.close().await;
        if let Some(cause) = store.poisoned() {
            return Err(StartError::Poisoned { cause });
        }
    }
    tracing::info!("shutdown complete");
    Ok(())
}

fn component_status(component: &DescribedComponent) -> ComponentStatus {
    let DescribedComponent { name, kind, durable, .. } = component;
    ComponentStatus { name: name.clone(), kind: kind.clone(), durable: *durable }
}

fn uplink_status(uplink: &config::model::Uplink) -> Arc<UplinkStatus> {
    Arc::new(UplinkStatus::new(&uplink.name, &uplink.mqtt.host, uplink.mqtt.port))
}

/// Serves the control socket and the metrics. Returns the addresses of the metrics.
async fn serve_control(
    device: &Device,
    control: Control,
    socket: UnixListener,
    tasks: &mut Tasks,
) -> Vec<String> {
    let askers = Arc::new(Connections::new(MAX_ASKERS));
    let router = control.clone().router();
    tasks.servers.spawn(serve::serve(socket, router, askers, device.stop()));
    let mut served = Vec::new();
    let Some((addresses, port)) = &device.settings.metrics else { return served };
    let connections = Arc::clone(&device.connections);
    let router = metrics::router(Arc::clone(&device.calls), control, connections);
    for address in addresses {
        match listen::bind(*address, *port, &listen::METRICS).await {
            Ok((at, listeners)) => {
                served.push(format!("http://{at}/metrics"));
                listen::serve(listeners, &router, device, tasks);
            }
            // A port in use must not stop the device from storing data.
            Err(error) => tracing::warn!(%error, "metrics are not served"),
        }
    }
    served
}

/// Returns whether a flag or a file names the consumer, or the app whose subscription it is. An app
/// without a port is never called, so nothing is collected for it.
fn is_configured(settings: &Settings, consumer: &str) -> bool {
    let is_of = |kind: &str, name: &str| {
        let rest = consumer.strip_prefix(kind).and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    settings.resources.uplinks.iter().any(|uplink| is_of("uplink/", &uplink.name))
        || settings.apps.iter().any(|app| app.port.is_some() && is_of("app/", &app.id))
}

/// Waits for deliveries first, then for the servers; all of it within `grace`.
async fn drain(mut tasks: Tasks, grace: Duration) {
    let finished = async {
        while tasks.inbound.join_next().await.is_some() {}
        while tasks.servers.join_next().await.is_some() {}
    };
    if tokio::time::timeout(grace, finished).await.is_err() {
        tracing::warn!("shutdown took too long, what was in flight will be delivered again");
    }
}
