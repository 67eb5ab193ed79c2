//! Who owns what: everything is built here, runs until the shutdown, and is drained in order.

mod app;
mod listen;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use store_forward::Store;
use store_forward::clock::{Clock, OsClock};
use store_forward::consumer::Delivery;
use store_forward::disk::{DiskError, MemoryDisk, OsDisk};
use store_forward::ids::NodeId;
use store_forward::limits::Limits;
use store_forward::store::{OpenError, Options};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::metadata::ComponentInfo;
use crate::check;
use crate::control::{ComponentStatus, Control, losses};
use crate::load::{Ground, Loaded, load};
use crate::metrics::{self, Calls};
use crate::pubsub::PubSubBlock;
use crate::pubsub::cloudevent::{self, EventSource};
use crate::ready::Ready;
use crate::serve::{self, Connections};
use crate::settings::Settings;
use crate::systemd::{self, Notice};
use crate::uplink::{self, Render, UplinkDeps, UplinkStatus};

pub use listen::Refused;

/// Connections to the control socket at a time: for people and their scripts.
const MAX_ASKERS: usize = 16;

/// Why the process can't start, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Flags or files are wrong; each line says what, where and what to do.
    #[error("{}", .0.join("\n"))]
    Configuration(Vec<String>),
    /// The data directory can't be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store had to stop writing while the process ran.
    #[error(
        "shutdown complete, but the store had stopped writing ({cause}): what was acknowledged before that is kept; fix the disk or put the directory back, then start again"
    )]
    Poisoned {
        /// What failed.
        cause: String,
    },
    /// A port can't be listened at.
    #[error(transparent)]
    Listen(#[from] Refused),
    /// The control socket can't be made.
    #[error(
        "cannot make the control socket {path}: {cause}; choose another directory with --data-dir"
    )]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
}

/// Adds to what is wrong what only building can tell: component types, their settings, rules, what
/// uplinks and subscriptions name.
pub async fn check(settings: &Settings, mut problems: Vec<String>) -> Vec<String> {
    // A component that couldn't be read is missing for no other reason.
    let all_was_read = problems.is_empty();
    problems.extend(check::subscriptions(&settings.resources));
    let limits = Limits { reserve_bytes: 0, ..settings.limits.clone() };
    let options = Options { node: None, limits, volatile: true };
    let disk = Arc::new(MemoryDisk::new());
    let clock: Arc<dyn Clock> = Arc::new(OsClock::new());
    let store = match Store::open(options, disk, Arc::clone(&clock)) {
        Ok(store) => store,
        Err(error) => {
            problems.push(error.to_string());
            return problems;
        }
    };
    match load(&settings.resources, &ground(settings, store, clock)).await {
        Ok(loaded) if all_was_read => {
            problems.extend(unknown_names(settings, &loaded));
            problems.extend(check::unknown_pubsubs(&settings.resources, &loaded));
        }
        Ok(_) => {}
        Err(found) => problems.extend(found),
    }
    problems
}

/// Runs checked settings until `stop` becomes true; then drains, checkpoints and returns.
///
/// # Errors
///
/// When it can't start.
pub async fn run(
    settings: Settings,
    stop: watch::Sender<bool>,
    ready: impl FnOnce(&Ready),
) -> Result<(), StartError> {
    let clock: Arc<dyn Clock> = Arc::new(OsClock::new());
    let store = open(&settings, &clock).await?;
    if let Err(error) = store.configured(|consumer| is_configured(&settings, consumer)).await {
        tracing::warn!(%error, "failed to store which consumers are configured");
    }
    let ground = ground(&settings, store.clone(), Arc::clone(&clock));
    let loaded = load(&settings.resources, &ground).await.map_err(StartError::Configuration)?;
    let block = Arc::new(PubSubBlock::new(loaded.pubsub.clone()));
    let statuses: Vec<_> = settings.resources.uplinks.iter().map(uplink_status).collect();
    let calls = Arc::new(Calls::default());
    let wanted = settings.max_connections;
    let connections = Arc::new(Connections::within_the_limit_of_files(wanted));
    let mut servers = JoinSet::new();
    let mut drains = JoinSet::new();
    let mut apps = Vec::new();
    for app in &settings.apps {
        let parts = app::Parts {
            settings: &settings,
            loaded: &loaded,
            block: &block,
            store: &store,
            clock: &clock,
            calls: &calls,
            connections: &connections,
            stop: &stop,
        };
        apps.push(app::start(app, &parts, &mut servers, &mut drains).await?);
    }
    let control = Control {
        store: store.clone(),
        disk_limit: settings.limits.disk_bytes,
        uplinks: Arc::new(statuses.clone()),
        apps: Arc::new(apps),
        lost_before: Arc::new(store.status().map(|store| losses(&store)).unwrap_or_default()),
        components: Arc::new(loaded.infos.iter().map(|(info, _)| component(info)).collect()),
    };
    let metrics =
        serve_control(&settings, control.clone(), (calls, connections), &mut servers, &stop)
            .await?;
    let deps = Deps { store: &store, block: &block, loaded: &loaded };
    start_uplinks(&settings, &deps, &statuses, &mut drains, &stop);
    warn_of_leftovers(&store, &loaded);
    ready(&Ready::new(&control, metrics, settings.data_dir.clone()));
    wait(&stop).await;
    systemd::notify(Notice::Stopping);
    tracing::info!("shutdown has begun");
    drain(drains, servers, settings.grace).await;
    close(&store).await
}

/// Closes the store. After a failure of its disk nobody knows what of the last writes is there.
async fn close(store: &Store) -> Result<(), StartError> {
    store.close().await;
    match store.poisoned() {
        Some(cause) => Err(StartError::Poisoned { cause }),
        None => {
            tracing::info!("shutdown complete");
            Ok(())
        }
    }
}

fn component(info: &ComponentInfo) -> ComponentStatus {
    let durable = !info.kind.ends_with(".in-memory");
    ComponentStatus { name: info.name.clone(), kind: info.kind.clone(), durable }
}

async fn open(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Store, StartError> {
    let disk = Arc::new(OsDisk::open(&settings.data_dir)?);
    let options =
        Options { node: settings.node.clone(), limits: settings.limits.clone(), volatile: false };
    let clock = Arc::clone(clock);
    let opened = tokio::task::spawn_blocking(move || Store::open(options, disk, clock)).await;
    let store = opened.map_err(|error| {
        StartError::Configuration(vec![format!("the store could not be opened: {error}")])
    })??;
    let NodeId(node) = &store.identity().node;
    tracing::info!(node, dir = %settings.data_dir.display(), "store is open");
    Ok(store)
}

fn ground(settings: &Settings, store: Store, clock: Arc<dyn Clock>) -> Ground {
    Ground {
        store,
        limits: settings.limits.clone(),
        clock,
        app_id: settings.apps.first().map(|app| app.id.clone()).unwrap_or_default(),
        namespace: std::env::var("NAMESPACE").unwrap_or_default(),
    }
}

/// Pub/sub components that an uplink names and that it can't use.
fn unknown_names(settings: &Settings, loaded: &Loaded) -> Vec<String> {
    let mut problems = Vec::new();
    for uplink in &settings.resources.uplinks {
        let routes = uplink.routes.iter().map(|route| &route.pubsub);
        let downlinks = uplink.downlinks.iter().map(|downlink| &downlink.pubsub);
        let dead = uplink.dead_letter.iter().map(|topic| &topic.pubsub);
        for name in routes.chain(downlinks).chain(dead) {
            if !loaded.durable.contains(name) {
                let known: Vec<&str> = loaded.durable.iter().map(String::as_str).collect();
                let (file, line) = (uplink.origin.file.display(), uplink.origin.line);
                problems.push(format!(
                    "{file}:{line}: uplink {:?}: {name:?} is no pub/sub component of type pubsub.redb: name one of {}, or add it",
                    uplink.name,
                    known.join(", ")
                ));
            }
        }
    }
    problems.dedup();
    problems
}

fn uplink_status(uplink: &config::model::Uplink) -> Arc<UplinkStatus> {
    Arc::new(UplinkStatus::new(&uplink.name, &uplink.mqtt.host, uplink.mqtt.port))
}

/// Serves the control socket and the metrics. Returns where the metrics are.
async fn serve_control(
    settings: &Settings,
    control: Control,
    (calls, connections): (Arc<Calls>, Arc<Connections>),
    servers: &mut JoinSet<()>,
    stop: &watch::Sender<bool>,
) -> Result<Vec<String>, StartError> {
    let listener = Control::listen(&settings.data_dir).map_err(|cause| StartError::Socket {
        path: settings.data_dir.join("control.sock"),
        cause,
    })?;
    let askers = Arc::new(Connections::new(MAX_ASKERS));
    servers.spawn(serve::serve(listener, control.clone().router(), askers, stop.subscribe()));
    let mut served = Vec::new();
    let Some((addresses, port)) = &settings.metrics else { return Ok(served) };
    let router: Router = metrics::router(calls, control, Arc::clone(&connections));
    for address in addresses {
        match listen::bind(*address, *port, &listen::METRICS).await {
            Ok((at, listeners)) => {
                served.push(format!("http://{at}/metrics"));
                listen::serve(listeners, &router, &connections, stop, servers);
            }
            // Another program's port is no reason not to keep data.
            Err(error) => tracing::warn!(%error, "metrics are not served"),
        }
    }
    Ok(served)
}

struct Deps<'a> {
    store: &'a Store,
    block: &'a Arc<PubSubBlock>,
    loaded: &'a Loaded,
}

fn start_uplinks(
    settings: &Settings,
    deps: &Deps<'_>,
    statuses: &[Arc<UplinkStatus>],
    drains: &mut JoinSet<()>,
    stop: &watch::Sender<bool>,
) {
    for (spec, status) in settings.resources.uplinks.iter().zip(statuses) {
        let (store, durable) = (deps.store.clone(), deps.loaded.durable.clone());
        let deps = UplinkDeps {
            identity: store.identity().clone(),
            render: render(Arc::clone(deps.block)),
            pubsubs: Arc::new(move |name| durable.contains(name).then(|| store.clone())),
            status: Arc::clone(status),
        };
        let (spec, stopped) = (spec.clone(), wait_owned(stop.subscribe()));
        drains.spawn(async move {
            let name = spec.name.clone();
            if let Err(error) = uplink::run(spec, deps, stopped).await {
                tracing::error!(uplink = name, %error, "uplink does not run");
            }
        });
    }
}

/// What an uplink sends of a message.
fn render(block: Arc<PubSubBlock>) -> Render {
    Arc::new(move |delivery: &Delivery, format| {
        let entry = block.entries().find(|(name, _)| *name == delivery.topic.component);
        match (format, entry) {
            (config::model::Format::CloudEvent, Some((_, entry))) => {
                let source = EventSource { identity: &entry.identity, stream: delivery.stream };
                let message = &delivery.message;
                cloudevent::envelope(&delivery.topic, message, source, message.at.wall_ms)
            }
            _ => delivery.message.data.clone(),
        }
    })
}

/// Whether a flag or a file names the consumer, or the app that it is a subscription of. An app
/// without a port is never called, so nothing is collected for it.
fn is_configured(settings: &Settings, consumer: &str) -> bool {
    let is_of = |kind: &str, name: &str| {
        let rest = consumer.strip_prefix(kind).and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    settings.resources.uplinks.iter().any(|uplink| is_of("uplink/", &uplink.name))
        || settings.apps.iter().any(|app| app.port.is_some() && is_of("app/", &app.id))
}

/// Warns of what the store keeps for consumers and components that nobody names any more.
fn warn_of_leftovers(store: &Store, loaded: &Loaded) {
    let Ok(status) = store.status() else { return };
    for consumer in status.consumers.iter().filter(|consumer| consumer.backlog > 0) {
        let Some(inactive) = &consumer.inactive else { continue };
        tracing::warn!(
            consumer = consumer.name,
            messages = consumer.backlog,
            reason = inactive.reason,
            "consumer is not in use any more, its messages are kept until `pannier forget` or the end of their retention"
        );
    }
    let mut kept = BTreeMap::<&str, u64>::new();
    for stream in status.streams.iter().filter(|stream| stream.messages > 0) {
        *kept.entry(&stream.pubsub).or_default() += stream.messages;
    }
    for (component, messages) in kept {
        if !loaded.durable.contains(component) {
            tracing::warn!(component, messages, "component is gone and holds messages");
        }
    }
    for state in &status.state {
        if !loaded.state.iter().any(|known| known.name == state.component) {
            let (component, keys) = (&state.component, state.keys);
            tracing::warn!(component, keys, "component is gone and holds keys");
        }
    }
}

/// First what is delivered, then who is served; all of it within `grace`.
async fn drain(mut drains: JoinSet<()>, mut servers: JoinSet<()>, grace: Duration) {
    let finished = async {
        while drains.join_next().await.is_some() {}
        while servers.join_next().await.is_some() {}
    };
    if tokio::time::timeout(grace, finished).await.is_err() {
        tracing::warn!("shutdown took too long, what was in flight will be delivered again");
    }
}

/// Resolves once the process is to stop.
pub async fn wait(stop: &watch::Sender<bool>) {
    wait_owned(stop.subscribe()).await;
}

async fn wait_owned(mut stop: watch::Receiver<bool>) {
    // The sender lives as long as the process.
    let _ = stop.wait_for(|stop| *stop).await;
}
