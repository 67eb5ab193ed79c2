//! The `mqtt` uplink: a consumer whose app is somewhere else.
//!
//! | module | one sentence |
//! | --- | --- |
//! | `encode` | from a delivery to what is published |
//! | `sink` | the consumer's view of the connection |
//! | `connection` | opened, used, torn down at the first error, opened again |
//! | `session` | one MQTT connection, 5 or 3.1.1, behind one face |
//! | `acks` | which packet identifier stands for which message |
//! | `subscriptions` | what is subscribed to, and whom a message that comes down is for |
//! | `downlink` | what comes down: committed first, acknowledged after |
//! | `topic` | names, filters and templates |
//! | `failure` | why the broker can't be talked to, in words |
//! | `status` | what it is doing, for people and for monitoring |

mod acks;
mod connection;
mod downlink;
mod encode;
mod failure;
mod session;
mod sink;
mod status;
mod subscriptions;
#[cfg(test)]
mod tests;
pub mod topic;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use config::model::{Route, Uplink};
use futures_util::future::{FutureExt, join_all};
use store_forward::backoff::Backoff;
use store_forward::consumer::{self, Policy, ReadAhead};
use store_forward::record::{ConsumerKind, ConsumerSpec, Filter, Topic};
use store_forward::store::Identity;
use store_forward::{Consumer, Store};
use tokio::sync::watch;

use crate::tls::{ClientConfigs, TlsFiles};
use connection::Connector;
use downlink::{Commit, Target};
use encode::Encoder;
use sink::UplinkSink;

pub use encode::Render;
pub use status::{LastError, Snapshot, UplinkStatus};

/// Finds the store behind a pub/sub component by the component's name.
pub type Pubsubs = Arc<dyn Fn(&str) -> Option<Store> + Send + Sync>;

/// What an uplink needs of the rest.
#[derive(Clone)]
pub struct UplinkDeps {
    /// The device; each record carries the epoch of its own store.
    pub identity: Identity,
    /// Makes what is sent of a delivery.
    pub render: Render,
    /// The store behind a pub/sub component, if there is such a component.
    pub pubsubs: Pubsubs,
    /// Where the uplink says how it is.
    pub status: Arc<UplinkStatus>,
}

/// Why an uplink can't start. A broker that can't be reached is no reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UplinkError {
    /// A route, downlink or dead letter names no component.
    #[error(
        "uplink {uplink}: there is no pub/sub component {pubsub:?}: add it, or correct the name"
    )]
    UnknownPubsub {
        /// The uplink.
        uplink: String,
        /// What was named.
        pubsub: String,
    },
    /// The dead letter topic is kept apart from a route's component.
    #[error(
        "uplink {uplink}: deadLetter {dead_letter} is not in the store of {pubsub:?}: name a topic there"
    )]
    DeadLetterElsewhere {
        /// The uplink.
        uplink: String,
        /// The dead letter topic.
        dead_letter: Topic,
        /// The component that it can't serve.
        pubsub: String,
    },
    /// The store did not take the consumer.
    #[error("uplink {uplink}: {source}")]
    Store {
        /// The uplink.
        uplink: String,
        /// Why.
        source: store_forward::Error,
    },
}

/// Runs an uplink until `shutdown` resolves and what is in flight has its outcome.
///
/// # Errors
///
/// What the configuration or the store doesn't allow; found before anything is sent.
pub async fn run(
    spec: Uplink,
    deps: UplinkDeps,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), UplinkError> {
    let (lane, lanes) = watch::channel(None);
    let policy = policy(&spec);
    let targets = targets(&spec, &deps)?;
    let shutdown = shutdown.shared();
    let mut consumers = Vec::new();
    for (store, routes) in by_store(&spec, &deps)? {
        let consumer = register(&spec, &deps, &store, &routes).await?;
        let encoder = Encoder {
            identity: store.identity().clone(),
            routes,
            render: Arc::clone(&deps.render),
        };
        let sink =
            Arc::new(UplinkSink::new(&spec.name, lanes.clone(), encoder, Arc::clone(&deps.status)));
        consumers.push(consumer::run(consumer, sink, policy.clone(), shutdown.clone()));
    }
    let connector = Connector {
        client_id: client_id(&spec, &deps.identity),
        window: window(&spec),
        backoff: policy.backoff,
        tls: Arc::new(ClientConfigs::new(TlsFiles::of(&spec.mqtt))),
        status: deps.status,
        name: spec.name,
        spec: spec.mqtt,
        targets,
        lane,
    };
    // The connection stands until the last consumer has its answers.
    let drained = async {
        join_all(consumers).await;
        shutdown.await;
    };
    connector.run(drained).await;
    Ok(())
}

fn client_id(spec: &Uplink, identity: &Identity) -> String {
    spec.mqtt.client_id.clone().unwrap_or_else(|| format!("{}-{}", identity.node, spec.name))
}

fn window(spec: &Uplink) -> u16 {
    u16::try_from(spec.window).unwrap_or(u16::MAX).max(1)
}

fn policy(spec: &Uplink) -> Policy {
    let backoff =
        Backoff { initial: spec.backoff.initial, max: spec.backoff.max, ..Backoff::default() };
    Policy {
        window: usize::from(window(spec)),
        per_stream: usize::MAX,
        batch: 1,
        batch_wait: Duration::ZERO,
        by_key: false,
        backoff,
        max_attempts: spec.max_attempts,
        read_ahead: Arc::new(ReadAhead::default()),
    }
}

/// The store behind a component.
fn store_of(spec: &Uplink, deps: &UplinkDeps, pubsub: &str) -> Result<Store, UplinkError> {
    (deps.pubsubs)(pubsub).ok_or_else(|| UplinkError::UnknownPubsub {
        uplink: spec.name.clone(),
        pubsub: pubsub.into(),
    })
}

/// The routes of each store: a cursor lives where its streams are. An epoch tells stores apart.
fn by_store(spec: &Uplink, deps: &UplinkDeps) -> Result<Vec<(Store, Vec<Route>)>, UplinkError> {
    let mut out: Vec<(Store, Vec<Route>)> = Vec::new();
    for route in &spec.routes {
        let store = store_of(spec, deps, &route.pubsub)?;
        match out.iter_mut().find(|(known, _)| known.identity() == store.identity()) {
            Some((_, routes)) => routes.push(route.clone()),
            None => out.push((store, vec![route.clone()])),
        }
    }
    Ok(out)
}

async fn register(
    spec: &Uplink,
    deps: &UplinkDeps,
    store: &Store,
    routes: &[Route],
) -> Result<Consumer, UplinkError> {
    let consumer = ConsumerSpec {
        name: format!("uplink/{}", spec.name),
        kind: ConsumerKind::Uplink,
        filters: routes
            .iter()
            .map(|route| Filter { component: route.pubsub.clone(), topic: route.topic.clone() })
            .collect(),
        dead_letter: dead_letter(spec, deps, store, routes)?,
    };
    let registered = store.register(consumer).await;
    registered.map_err(|source| UplinkError::Store { uplink: spec.name.clone(), source })
}

/// The dead letter topic, which a store can write to only if it is its own.
fn dead_letter(
    spec: &Uplink,
    deps: &UplinkDeps,
    store: &Store,
    routes: &[Route],
) -> Result<Option<Topic>, UplinkError> {
    let Some(named) = &spec.dead_letter else { return Ok(None) };
    let topic = Topic::new(named.pubsub.as_str(), named.topic.as_str());
    if store_of(spec, deps, &named.pubsub)?.identity() == store.identity() {
        return Ok(Some(topic));
    }
    Err(UplinkError::DeadLetterElsewhere {
        uplink: spec.name.clone(),
        dead_letter: topic,
        pubsub: routes.first().map(|route| route.pubsub.clone()).unwrap_or_default(),
    })
}

fn targets(spec: &Uplink, deps: &UplinkDeps) -> Result<Vec<Target>, UplinkError> {
    let mut commits: Vec<(Identity, Commit)> = Vec::new();
    let node = &deps.identity.node.0;
    let target = |downlink: &config::model::Downlink| {
        let store = store_of(spec, deps, &downlink.pubsub)?;
        Ok(Target {
            uplink: spec.name.clone(),
            node: node.clone(),
            filter: topic::expand(&downlink.from, &[("node", node)]),
            pubsub: downlink.pubsub.clone(),
            to: downlink.to.clone(),
            commit: commit_to(store, &mut commits),
        })
    };
    spec.downlinks.iter().map(target).collect()
}

/// The one way into each store.
fn commit_to(store: Store, known: &mut Vec<(Identity, Commit)>) -> Commit {
    if let Some((_, commit)) = known.iter().find(|(identity, _)| identity == store.identity()) {
        return Arc::clone(commit);
    }
    let identity = store.identity().clone();
    let commit: Commit = Arc::new(move |ops| {
        let store = store.clone();
        async move { store.commit(ops).await.map(drop) }.boxed()
    });
    known.push((identity, Arc::clone(&commit)));
    commit
}
