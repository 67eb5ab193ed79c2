//! From `Component` resources to building blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use components::metadata::Setting;
use components::{Built, Context, Metadata};
use config::model::{Component, MetadataValue, Origin, Resources};
use store_forward::Store;
use store_forward::clock::Clock;
use store_forward::limits::Limits;

use crate::api::http::metadata::ComponentInfo;
use crate::pubsub::Entry;
use crate::pubsub::scope::TopicScopes;
use blocks::state::{KeyPrefix, StateComponent};

/// What components are built on.
pub struct Ground {
    /// The node's store.
    pub store: Store,
    /// Its bounds.
    pub limits: Limits,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The id of the first app: what `{appID}` stands for.
    pub app_id: String,
    /// `NAMESPACE`.
    pub namespace: String,
}

/// The components of a device.
#[derive(Default)]
pub struct Loaded {
    /// State stores.
    pub state: Vec<StateComponent>,
    /// Pub/sub components.
    pub pubsub: BTreeMap<String, Entry>,
    /// The pub/sub components that stand on the node's store: what an uplink can carry.
    pub durable: BTreeSet<String>,
    /// What `/v1.0/metadata` says, and to which apps.
    pub infos: Vec<(ComponentInfo, Vec<String>)>,
}

/// Builds every component, and the two that every device has.
///
/// # Errors
///
/// What is wrong with each of them; those with `ignoreErrors` are left out with a warning.
pub async fn load(resources: &Resources, ground: &Ground) -> Result<Loaded, Vec<String>> {
    let mut loaded = Loaded::default();
    let mut problems = Vec::new();
    for component in with_defaults(resources) {
        match build(&mut loaded, &component, resources, ground).await {
            Ok(()) => {}
            Err(found) if component.ignore_errors => {
                for problem in found {
                    tracing::warn!(problem, "component is left out, as its ignoreErrors asks for");
                }
            }
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// `statestore` and `pubsub` are there unless a file has others of their kind.
fn with_defaults(resources: &Resources) -> Vec<Component> {
    let mut all = resources.components.clone();
    for (block, name, kind) in
        [("state.", "statestore", "state.redb"), ("pubsub.", "pubsub", "pubsub.redb")]
    {
        let taken = |c: &Component| c.kind.starts_with(block) || c.name == name;
        if !all.iter().any(taken) {
            all.push(Component {
                name: name.into(),
                kind: kind.into(),
                version: "v1".into(),
                ignore_errors: false,
                metadata: Vec::new(),
                scopes: Vec::new(),
                secret_store: None,
                origin: Origin::default(),
            });
        }
    }
    all
}

async fn build(
    loaded: &mut Loaded,
    component: &Component,
    resources: &Resources,
    ground: &Ground,
) -> Result<(), Vec<String>> {
    let Component { name, kind, version, scopes, origin, .. } = component;
    let at = format!("{}:{}", origin.file.display(), origin.line);
    let denied = &resources.configuration.denied_components;
    if denied.iter().any(|d| d == kind || *d == format!("{kind}/{version}")) {
        return Err(vec![format!(
            "{at}: component {name:?}: type {kind} is denied by the Configuration's components.deny"
        )]);
    }
    let mut metadata = Metadata::new(name, origin, values(component, ground)?);
    let prefix = kind.starts_with("state.").then(|| KeyPrefix::take(&mut metadata));
    let topics =
        kind.starts_with("pubsub.").then(|| TopicScopes::parse(|name| metadata.take(name)));
    // Each app is its own consumer here, whatever name Dapr's brokers would give it.
    metadata.take("consumerID");
    let context = Context {
        name: name.clone(),
        metadata,
        store: ground.store.clone(),
        limits: ground.limits.clone(),
        clock: Arc::clone(&ground.clock),
    };
    let capabilities =
        match components::build(kind, context).await.map_err(|e| vec![e.to_string()])? {
            Built::State(store) => {
                let capabilities = store.features().to_vec();
                let prefix = prefix.unwrap_or(KeyPrefix::AppId);
                let (name, scopes) = (name.clone(), scopes.clone());
                loaded.state.push(StateComponent { name, store, prefix, scopes });
                capabilities
            }
            Built::PubSub(component) => {
                let identity = component.identity().unwrap_or(ground.store.identity()).clone();
                let capabilities = component.features().to_vec();
                let (topics, apps) = (topics.unwrap_or_default(), scopes.clone());
                let max_topic_bytes = ground.limits.max_topic_bytes;
                let entry = Entry { component, identity, topics, apps, max_topic_bytes };
                loaded.pubsub.insert(name.clone(), entry);
                if kind == "pubsub.redb" {
                    loaded.durable.insert(name.clone());
                }
                capabilities
            }
            _ => {
                return Err(vec![format!(
                    "{at}: component {name:?}: type {kind} serves no building block"
                )]);
            }
        };
    let (name, kind, version) = (name.clone(), kind.clone(), version.clone());
    loaded.infos.push((ComponentInfo { name, kind, version, capabilities }, scopes.clone()));
    Ok(())
}

fn values(component: &Component, ground: &Ground) -> Result<Vec<Setting>, Vec<String>> {
    let mut problems = Vec::new();
    let mut values = Vec::new();
    for item in &component.metadata {
        let at = format!("{}:{}", component.origin.file.display(), item.line);
        let problem = |text: String| format!("{at}: component {:?}: {text}", component.name);
        match &item.value {
            MetadataValue::Literal(text) => {
                values.push(Setting::new(&item.name, expand(text, ground), item.line));
            }
            MetadataValue::Env(variable) => match std::env::var(variable) {
                Ok(text) => values.push(Setting::new(&item.name, text, item.line)),
                Err(_) => problems.push(problem(format!(
                    "{}: the environment variable {variable} is not set: set it",
                    item.name
                ))),
            },
            MetadataValue::Secret { .. } => problems.push(problem(format!(
                "{}: this version has no secret stores: use envRef",
                item.name
            ))),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}

/// Dapr's templates.
fn expand(text: &str, ground: &Ground) -> String {
    if !text.contains('{') {
        return text.to_owned();
    }
    let app_id = &ground.app_id;
    let full = if ground.namespace.is_empty() {
        app_id.clone()
    } else {
        format!("{}.{app_id}", ground.namespace)
    };
    text.replace("{uuid}", &uuid::Uuid::new_v4().to_string())
        .replace("{appID}", app_id)
        .replace("{podName}", app_id)
        .replace("{namespace}", &full)
}
