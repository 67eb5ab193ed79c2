//! Builds the components of a device from `Component` resources.

use std::sync::Arc;

use blocks::registry::{Components, KeyPrefix, PubSubComponent, StateComponent, TopicScopes};
use components::metadata::Setting;
use components::port::pubsub::{Epoch, Identity, NodeId, PubSubFeatures};
use components::port::state::StateFeatures;
use components::{BuildError, Built, Context, Embedded, Metadata};
use config::model::{Component, MetadataValue, Origin, Resources};
use store_forward::limits::Limits;
use store_forward::store::OpenError;

use crate::settings::Settings;

/// The context that a device's components are built in.
pub struct AssemblyContext {
    /// The node's store, which the first component that needs it opens.
    pub embedded: Embedded,
    /// The store's bounds.
    pub limits: Limits,
    /// The id of the first app: the value of `{appID}`.
    pub app_id: String,
    /// `NAMESPACE`; may be empty.
    pub namespace: String,
}

/// Returns the context for the components of these settings.
#[must_use]
pub fn assembly_context(settings: &Settings, embedded: &Embedded) -> AssemblyContext {
    AssemblyContext {
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
    /// Their descriptions, in the order in which they were built.
    pub described: Vec<DescribedComponent>,
}

/// The description of a component for apps and people.
pub struct DescribedComponent {
    /// `metadata.name`.
    pub name: String,
    /// `spec.type`.
    pub kind: String,
    /// `spec.version`.
    pub version: String,
    /// Its abilities in Dapr's words.
    pub capabilities: Vec<&'static str>,
    /// App ids that may use it; empty means all.
    pub apps: Vec<String>,
    /// Its data outlive the process.
    pub durable: bool,
}

impl Assembly {
    /// Tells whether a pub/sub component keeps its messages in the node's store, so that an uplink
    /// can carry them.
    #[must_use]
    pub fn is_durable_pubsub(&self, name: &str) -> bool {
        self.components.pubsub.get(name).is_some_and(|found| found.component.features().durable)
    }

    /// Tells whether a state store keeps its keys in the node's store.
    #[must_use]
    pub fn is_durable_state(&self, name: &str) -> bool {
        let mut stores = self.components.state.iter();
        stores.any(|known| known.name == name && known.store.features().durable)
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
    context: &AssemblyContext,
) -> Result<Assembly, AssembleError> {
    let mut assembly = Assembly::default();
    let mut problems = Vec::new();
    for component in with_defaults(resources) {
        match build(&mut assembly, &component, resources, context).await {
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

/// A component that every device has unless a file declares another of its kind or name.
struct DefaultComponent {
    block: &'static str,
    name: &'static str,
    kind: &'static str,
}

const DEFAULTS: [DefaultComponent; 2] = [
    DefaultComponent { block: "state.", name: "statestore", kind: "state.redb" },
    DefaultComponent { block: "pubsub.", name: "pubsub", kind: "pubsub.redb" },
];

fn with_defaults(resources: &Resources) -> Vec<Component> {
    let mut all = resources.components.clone();
    for DefaultComponent { block, name, kind } in DEFAULTS {
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
    context: &AssemblyContext,
) -> Result<(), AssembleError> {
    check_denied(component, resources)?;
    let Component { name, kind, version, scopes, origin, .. } = component;
    let values = values(component, context).map_err(AssembleError::Configuration)?;
    let mut metadata = Metadata::new(name, origin, values);

    // The building block takes its own settings first: those that are left over are the component's.
    let prefix = kind.starts_with("state.").then(|| KeyPrefix::take(&mut metadata));
    let topics =
        kind.starts_with("pubsub.").then(|| TopicScopes::parse(|name| metadata.take(name)));
    // Each app is its own consumer here, whatever name Dapr's brokers would give it.
    metadata.take("consumerID");

    let built = components::build(
        kind,
        Context {
            name: name.clone(),
            metadata,
            embedded: context.embedded.clone(),
            limits: context.limits.clone(),
        },
    );
    let built = built.await.map_err(|error| match error {
        BuildError::Open(error) => AssembleError::Store(error),
        error => AssembleError::Configuration(vec![error.to_string()]),
    })?;
    let components = &mut assembly.components;
    let abilities = match built {
        Built::State(store) => {
            let features = store.features();
            let name = name.clone();
            let prefix = prefix.unwrap_or_default();
            let apps = scopes.clone();
            components.state.push(Arc::new(StateComponent { name, store, prefix, apps }));
            Abilities::of_state(features)
        }
        Built::PubSub(component) => {
            let features = component.features();
            let local = component.local();
            let component = PubSubComponent {
                name: name.clone(),
                identity: local.map_or_else(elsewhere, |local| local.identity().clone()),
                component,
                topics: topics.unwrap_or_default(),
                apps: scopes.clone(),
                max_topic_bytes: context.limits.max_topic_bytes,
                clock: Arc::clone(context.embedded.clock()),
            };
            components.pubsub.insert(name.clone(), Arc::new(component));
            Abilities::of_pubsub(features)
        }
        _ => {
            let problem = format!("type {kind} serves no building block");
            return Err(problem_of(component, &problem));
        }
    };
    let Abilities { capabilities, durable } = abilities;
    assembly.described.push(DescribedComponent {
        name: name.clone(),
        kind: kind.clone(),
        version: version.clone(),
        capabilities,
        apps: scopes.clone(),
        durable,
    });
    Ok(())
}

fn check_denied(component: &Component, resources: &Resources) -> Result<(), AssembleError> {
    let Component { kind, version, .. } = component;
    let denied = &resources.configuration.denied_components;
    if denied.iter().any(|d| d == kind || *d == format!("{kind}/{version}")) {
        let problem = format!("type {kind} is denied by the Configuration's components.deny");
        return Err(problem_of(component, &problem));
    }
    Ok(())
}

fn problem_of(component: &Component, problem: &str) -> AssembleError {
    let Component { name, origin, .. } = component;
    let file = origin.file.display();
    let line = origin.line;
    AssembleError::Configuration(vec![format!("{file}:{line}: component {name:?}: {problem}")])
}

/// Returns the identity for messages of a broker without a store here; they carry their own ids.
fn elsewhere() -> Identity {
    Identity { node: NodeId(String::new()), epoch: Epoch(0) }
}

/// The abilities of a component, as apps and people see them.
struct Abilities {
    /// In Dapr's words.
    capabilities: Vec<&'static str>,
    durable: bool,
}

impl Abilities {
    fn of_state(features: StateFeatures) -> Self {
        let StateFeatures { etag, ttl, transaction, query, durable } = features;
        let capabilities = named(&[
            ("ETAG", etag),
            ("TRANSACTIONAL", transaction.is_some()),
            ("TTL", ttl),
            ("QUERY_API", query),
        ]);
        Self { capabilities, durable }
    }

    /// The runtime offers bulk publishing for every component.
    fn of_pubsub(features: PubSubFeatures) -> Self {
        let PubSubFeatures { ttl, wildcards, durable, .. } = features;
        let capabilities = named(&[
            ("MESSAGE_TTL", ttl),
            ("SUBSCRIBE_WILDCARDS", wildcards),
            ("BULK_PUBSUB", true),
        ]);
        Self { capabilities, durable }
    }
}

fn named(abilities: &[(&'static str, bool)]) -> Vec<&'static str> {
    abilities.iter().filter(|(_, able)| *able).map(|(name, _)| *name).collect()
}

fn values(component: &Component, context: &AssemblyContext) -> Result<Vec<Setting>, Vec<String>> {
    let mut problems = Vec::new();
    let mut values = Vec::new();
    for item in &component.metadata {
        let at = format!("{}:{}", component.origin.file.display(), item.line);
        let problem = |text: String| format!("{at}: component {:?}: {text}", component.name);
        match &item.value {
            MetadataValue::Literal(text) => {
                values.push(Setting::new(&item.name, expand(text, context), item.line));
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

/// Replaces Dapr's templates.
fn expand(text: &str, context: &AssemblyContext) -> String {
    if !text.contains('{') {
        return text.to_owned();
    }
    let app_id = &context.app_id;
    let full = if context.namespace.is_empty() {
        app_id.clone()
    } else {
        format!("{}.{app_id}", context.namespace)
    };
    text.replace("{uuid}", &uuid::Uuid::new_v4().to_string())
        .replace("{appID}", app_id)
        .replace("{podName}", app_id)
        .replace("{namespace}", &full)
}
