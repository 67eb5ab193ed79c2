//! The uplink to an MQTT broker.
//!
//! | module | one sentence |
//! | --- | --- |
//! | `encode` | turns deliveries into publishes |
//! | `sink` | the connection as a consumer sees it |
//! | `connection` | opens the connection, uses it, and opens it again after an error |
//! | `outage` | failed connections: why one ended, and what several in a row have in common |
//! | `session` | one MQTT connection, behind traits that hide the protocol's version |
//! | `acks` | matches packet identifiers with messages |
//! | `subscriptions` | the subscriptions of one connection, and the downlinks that a message is for |
//! | `downlink` | commits messages from the broker, then acknowledges them |
//! | `topic` | shared subscriptions, and templates of topics |
//! | `failure` | failures of the link, in words |

mod acks;
mod connection;
mod downlink;
mod encode;
mod failure;
mod outage;
mod session;
mod sink;
mod subscriptions;
#[cfg(test)]
mod tests;
pub mod topic;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use config::model::Uplink;
use futures_util::future::{FutureExt, join_all};
use store_forward::backoff::Backoff;
use store_forward::consumer::{self, Policy, ReadAhead};
use store_forward::store::Identity;
use tokio::sync::watch;

use super::consumers;
use super::context::{UplinkContext, UplinkError};
use crate::tls::{ClientConfigs, TlsFiles};
use connection::Connector;
use downlink::{DownlinkTarget, Downlinks};
use encode::Encoder;
use sink::UplinkSink;

/// Runs the uplink; see [`super::run`].
pub(super) async fn run(
    spec: Uplink,
    context: UplinkContext,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), UplinkError> {
    let downlinks = downlinks(&spec, &context)?;
    let registered = consumers::register(&spec, &context).await?;

    // Each consumer sends by the one connection, whose lane it watches.
    let (lane, lanes) = watch::channel(None);
    let policy = policy(&spec);
    let shutdown = shutdown.shared();
    let consumers: Vec<_> = registered
        .into_iter()
        .map(|registered| {
            let components = Arc::clone(&context.components);
            let encoder =
                Encoder { identity: registered.identity, routes: registered.routes, components };
            let status = Arc::clone(&context.status);
            let sink = Arc::new(UplinkSink::new(&spec.name, lanes.clone(), encoder, status));
            consumer::run(registered.consumer, sink, policy.clone(), shutdown.clone())
        })
        .collect();

    let connector = Connector {
        client_id: client_id(&spec, &context.identity),
        window: window(&spec),
        backoff: policy.backoff,
        tls: Arc::new(ClientConfigs::new(TlsFiles::of(&spec.mqtt))),
        status: context.status,
        name: spec.name,
        spec: spec.mqtt,
        downlinks,
        lane,
    };
    // The connection stays open until the last consumer has the outcomes of its messages.
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

fn downlinks(spec: &Uplink, context: &UplinkContext) -> Result<Downlinks, UplinkError> {
    for downlink in &spec.downlinks {
        context.store(spec, &downlink.pubsub)?;
    }
    let node = &context.identity.node.0;
    let target = |downlink: &config::model::Downlink| DownlinkTarget {
        filter: topic::expand(&downlink.from, &[("node", node)]),
        pubsub: downlink.pubsub.clone(),
        to: downlink.to.clone(),
    };
    Ok(Downlinks {
        uplink: spec.name.clone(),
        node: node.clone(),
        targets: spec.downlinks.iter().map(target).collect(),
        components: Arc::clone(&context.components),
    })
}
