//! From `Component` resources to building blocks.

use std::sync::Arc;

use blocks::pubsub::scope::TopicScopes;
use blocks::registry::{Components, PubSubComponent};
use blocks::state::{KeyPrefix, StateComponent};
use components::metadata::Setting;
use components::port::pubsub::{Epoch, Identity, NodeId, PubSubFeatures};
use components::port::state::StateFeatures;
use components::{BuildError, Built, Context, Embedded, Metadata};
use config::model::{Component, MetadataValue, Origin, Resources};
use store_forward::limits::Limits;
use store_forward::store::OpenError;

use crate::api::http::metadata::ComponentInfo;
use crate::settings::Settings;

/// The surroundings of a device's components.
pub struct Surroundings {
    /// The node's store, which opens when a component asks for it.
    pub embedded: Embedded,
    /// The store's bounds.
    pub limits: Limits,
    /// The id of the first app: the value of `{appID}`.
    pub app_id: String,
    /// `NAMESPACE`; may be empty.
    pub namespace: String,
}

/// Returns the surroundings of the components of these settings.
#[must_use]
pub fn surroundings(settings: &Settings, embedded: &Embedded) -> Surroundings {
    Surroundings {
        embedded: embedded.clone(),
        limits: settings.limits.clone(),
        app_id: settings.apps.first().map(|app| app.id.clone()).unwrap_or_default(),
        namespace: namespace(),
    }
}

/// Returns `NAMESPACE`, which may be empty.
#[must_use]
pub fn namespace() -> String {
    std::env::var("NAMESPACE").unwrap_or_default()
}

/// The components of a device.
#[derive(Default)]
pub struct Assembly {
    /// The components by building block.
    pub components: Components,
    /// The components in the order in which they were built, as apps are told of them.
    pub described: Vec<DescribedComponent>,
}

/// A component, as apps and people are told of it.
pub struct DescribedComponent {
    /// What apps are told.
    pub info: ComponentInfo,
    /// App ids that may use it; empty means all.
    pub apps: Vec<String>,
    /// Whether its data outlive the process.
    pub durable: bool,
}

impl Assembly {
    /// Tells whether a pub/sub component keeps its messages in the node's store, so that an uplink
    /// can carry them.
    #[must_use]
    pub fn is_durable_pubsub(&self, name: &str) -> bool {
        self.components.pubsub.get(name).is_some_and(|found| found.component.features().durable)
    }

    /// Lists the pub/sub components that an uplink can carry.
    pub fn durable_pubsubs(&self) -> impl Iterator<Item = &str> {
        self.components
            .pubsub
            .keys()
            .map(String::as_str)
            .filter(|name| self.is_durable_pubsub(name))
    }

    /// Closes the components in the reverse order of their building blocks.
    pub async fn close(&self) {
        for component in self.components.pubsub.values() {
            component.component.close().await;
        }
        for component in &self.components.state {
            component.store.close().await;
        }
    }
}

/// Components that can't be assembled.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// Wrong configuration, one problem a line.
    #[error("{}", .0.join("\n"))]
    Configuration(Vec<String>),
    /// A store that can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// Builds every component, and the two that every device has, one after the other.
///
/// # Errors
///
/// The problems of each of them; those with `ignoreErrors` are left out with a warning.
pub async fn assemble(
    resources: &Resources,
    surroundings: &Surroundings,
) -> Result<Assembly, AssembleError> {
    let mut assembly = Assembly::default();
    let mut problems = Vec::new();
    for component in with_defaults(resources) {
        match build(&mut assembly, &component, resources, surroundings).await {
            Ok(()) => {}
            Err(AssembleError::Configuration(found)) if component.ignore_errors => {
                for problem in found {
                    tracing::warn!(problem, "component is left out, as its ignoreErrors asks for");
                }
            }
            Err(AssembleError::Configuration(found)) => problems.extend(found),
            Err(error @ AssembleError::Store(_)) => return Err(error),
        }
    }
    match problems {
        problems if problems.is_empty() => Ok(assembly),
        problems => Err(AssembleError::Configuration(problems)),
    }
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
    assembly: &mut Assembly,
    component: &Component,
    resources: &Resources,
    surroundings: &Surroundings,
) -> Result<(), AssembleError> {
    let Component { name, kind, version, scopes, origin, .. } = component;
    let at = format!("{}:{}", origin.file.display(), origin.line);
    let denied = &resources.configuration.denied_components;
    if denied.iter().any(|d| d == kind || *d == format!("{kind}/{version}")) {
        return Err(AssembleError::Configuration(vec![format!(
            "{at}: component {name:?}: type {kind} is denied by the Configuration's components.deny"
        )]));
    }

    // The building block takes its own settings first: those that are left over are the component's.
    let mut metadata = Metadata::new(
        name,
        origin,
        values(component, surroundings).map_err(AssembleError::Configuration)?,
    );
    let prefix = kind.starts_with("state.").then(|| KeyPrefix::take(&mut metadata));
    let topics =
        kind.starts_with("pubsub.").then(|| TopicScopes::parse(|name| metadata.take(name)));
    // Each app is its own consumer here, whatever name Dapr's brokers would give it.
    metadata.take("consumerID");
    let context = Context {
        name: name.clone(),
        metadata,
        embedded: surroundings.embedded.clone(),
        limits: surroundings.limits.clone(),
    };

    let built = components::build(kind, context).await.map_err(|error| match error {
        BuildError::Open(error) => AssembleError::Store(error),
        error => AssembleError::Configuration(vec![error.to_string()]),
    })?;
    let components = &mut assembly.components;
    let (capabilities, durable) = match built {
        Built::State(store) => {
            let features = store.features();
            let prefix = prefix.unwrap_or_default();
            let apps = scopes.clone();
            components.state.push(Arc::new(StateComponent {
                name: name.clone(),
                store,
                prefix,
                apps,
            }));
            (state_capabilities(features), features.durable)
        }
        Built::PubSub(component) => {
            let features = component.features();
            let component = PubSubComponent {
                name: name.clone(),
                identity: component
                    .local()
                    .map_or_else(elsewhere, |local| local.identity().clone()),
                component,
                topics: topics.unwrap_or_default(),
                apps: scopes.clone(),
                max_topic_bytes: surroundings.limits.max_topic_bytes,
                clock: Arc::clone(surroundings.embedded.clock()),
            };
            components.pubsub.insert(name.clone(), Arc::new(component));
            (pubsub_capabilities(features), features.durable)
        }
        _ => {
            return Err(AssembleError::Configuration(vec![format!(
                "{at}: component {name:?}: type {kind} serves no building block"
            )]));
        }
    };
    let info = ComponentInfo {
        name: name.clone(),
        kind: kind.clone(),
        version: version.clone(),
        capabilities,
    };
    assembly.described.push(DescribedComponent { info, apps: scopes.clone(), durable });
    Ok(())
}

/// The identity for messages of a broker that has no store here; they carry their own ids.
fn elsewhere() -> Identity {
    Identity { node: NodeId(String::new()), epoch: Epoch(0) }
}

/// The abilities of a state store in Dapr's words.
fn state_capabilities(features: StateFeatures) -> Vec<&'static str> {
    let StateFeatures { etag, ttl, transaction, query, .. } = features;
    let all = [
        ("ETAG", etag),
        ("TRANSACTIONAL", transaction.is_some()),
        ("TTL", ttl),
        ("QUERY_API", query),
    ];
    named(&all)
}

/// The abilities of a pub/sub component in Dapr's words. Bulk publishing is ours to offer for all.
fn pubsub_capabilities(features: PubSubFeatures) -> Vec<&'static str> {
    let PubSubFeatures { ttl, wildcards, .. } = features;
    named(&[("MESSAGE_TTL", ttl), ("SUBSCRIBE_WILDCARDS", wildcards), ("BULK_PUBSUB", true)])
}

fn named(abilities: &[(&'static str, bool)]) -> Vec<&'static str> {
    abilities.iter().filter(|(_, able)| *able).map(|(name, _)| *name).collect()
}

fn values(component: &Component, surroundings: &Surroundings) -> Result<Vec<Setting>, Vec<String>> {
    let mut problems = Vec::new();
    let mut values = Vec::new();
    for item in &component.metadata {
        let at = format!("{}:{}", component.origin.file.display(), item.line);
        let problem = |text: String| format!("{at}: component {:?}: {text}", component.name);
        match &item.value {
            MetadataValue::Literal(text) => {
                values.push(Setting::new(&item.name, expand(text, surroundings), item.line));
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
fn expand(text: &str, surroundings: &Surroundings) -> String {
    if !text.contains('{') {
        return text.to_owned();
    }
    let app_id = &surroundings.app_id;
    let full = if surroundings.namespace.is_empty() {
        app_id.clone()
    } else {
        format!("{}.{app_id}", surroundings.namespace)
    };
    text.replace("{uuid}", &uuid::Uuid::new_v4().to_string())
        .replace("{appID}", app_id)
        .replace("{podName}", app_id)
        .replace("{namespace}", &full)
}
