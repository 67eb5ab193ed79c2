//! The consumers of an uplink: one for each store that its routes read from, since a cursor lives
//! where its streams are.

use config::model::{Route, Uplink};
use store_forward::record::{ConsumerKind, ConsumerSpec, Filter, Topic};
use store_forward::store::Identity;
use store_forward::{Consumer, Store};

use super::context::{UplinkContext, UplinkError};

/// A registered consumer of one store.
pub(super) struct StoreConsumer {
    pub(super) consumer: Consumer,
    /// The store.
    pub(super) identity: Identity,
    /// The routes whose components are in that store.
    pub(super) routes: Vec<Route>,
}

/// The routes of one store.
struct StoreRoutes {
    store: Store,
    routes: Vec<Route>,
}

/// Registers the uplink's consumers.
pub(super) async fn register(
    spec: &Uplink,
    context: &UplinkContext,
) -> Result<Vec<StoreConsumer>, UplinkError> {
    let mut registered = Vec::new();
    for StoreRoutes { store, routes } in by_store(spec, context)? {
        let consumer = ConsumerSpec {
            name: format!("uplink/{}", spec.name),
            kind: ConsumerKind::Uplink,
            filters: routes.iter().map(filter).collect(),
            dead_letter: dead_letter(spec, context, &store, &routes)?,
        };
        let consumer = store
            .register(consumer)
            .await
            .map_err(|source| UplinkError::Store { uplink: spec.name.clone(), source })?;
        let identity = store.identity().clone();
        registered.push(StoreConsumer { consumer, identity, routes });
    }
    Ok(registered)
}

/// Groups the routes by store. Stores differ in their epochs.
fn by_store(spec: &Uplink, context: &UplinkContext) -> Result<Vec<StoreRoutes>, UplinkError> {
    let mut groups: Vec<StoreRoutes> = Vec::new();
    for route in &spec.routes {
        let store = context.store(spec, &route.pubsub)?;
        match groups.iter_mut().find(|group| group.store.identity() == store.identity()) {
            Some(group) => group.routes.push(route.clone()),
            None => groups.push(StoreRoutes { store, routes: vec![route.clone()] }),
        }
    }
    Ok(groups)
}

fn filter(route: &Route) -> Filter {
    Filter { component: route.pubsub.clone(), topic: route.topic.clone() }
}

/// Returns the dead letter topic, which must be in the same store.
fn dead_letter(
    spec: &Uplink,
    context: &UplinkContext,
    store: &Store,
    routes: &[Route],
) -> Result<Option<Topic>, UplinkError> {
    let Some(named) = &spec.dead_letter else { return Ok(None) };
    let topic = Topic::new(named.pubsub.as_str(), named.topic.as_str());
    if context.store(spec, &named.pubsub)?.identity() == store.identity() {
        return Ok(Some(topic));
    }
    Err(UplinkError::DeadLetterElsewhere {
        uplink: spec.name.clone(),
        dead_letter: topic,
        pubsub: routes.first().map(|route| route.pubsub.clone()).unwrap_or_default(),
    })
}
