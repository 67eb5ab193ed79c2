//! The components that one app may use and the rules for their use, as a snapshot that can be replaced
//! while calls run.
//!
//! | module | one sentence |
//! | --- | --- |
//! | `key_prefix` | the prefix of an app's keys in a state store |
//! | [`scope`] | the topics that an app may use |

pub(crate) mod key_prefix;
pub mod scope;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use components::clock::Clock;
use components::port::pubsub::Identity;
use components::{PubSub, StateStore};

pub use key_prefix::KeyPrefix;
pub use scope::TopicScopes;

/// A state store and the rules for its use.
#[derive(Clone)]
pub struct StateComponent {
    /// `metadata.name`.
    pub name: String,
    /// The store.
    pub store: Arc<dyn StateStore>,
    /// The prefix of its keys.
    pub prefix: KeyPrefix,
    /// App ids that may use it; empty means all.
    pub apps: Vec<String>,
}

/// A pub/sub component and the rules for its use.
#[derive(Clone)]
pub struct PubSubComponent {
    /// `metadata.name`.
    pub name: String,
    /// The component.
    pub component: Arc<dyn PubSub>,
    /// The identity of the component's store, from which event ids are made. A store in memory counts
    /// from the beginning, so it has another epoch each time.
    pub identity: Identity,
    /// The topics that each app may use.
    pub topics: TopicScopes,
    /// App ids that may use it; empty means all.
    pub apps: Vec<String>,
    /// Longest name of a topic in bytes.
    pub max_topic_bytes: usize,
    /// The clock of its messages' expiry.
    pub clock: Arc<dyn Clock>,
}

/// The components of a device.
#[derive(Clone, Default)]
pub struct Components {
    /// State stores.
    pub state: Vec<Arc<StateComponent>>,
    /// Pub/sub components, by name.
    pub pubsub: BTreeMap<String, Arc<PubSubComponent>>,
}

/// The components that one app sees.
#[derive(Default)]
pub struct Registry {
    app_id: String,
    pub(crate) state: HashMap<String, PrefixedStore>,
    pub(crate) pubsub: BTreeMap<String, Arc<PubSubComponent>>,
    /// Pub/sub components that the app may not use, but may have used under an earlier configuration.
    hidden: Vec<Arc<PubSubComponent>>,
}

/// A state store with the prefix of one app's keys.
pub(crate) struct PrefixedStore {
    pub(crate) component: Arc<StateComponent>,
    pub(crate) prefix: String,
}

impl Registry {
    /// Selects the components that `app_id` may use. `namespace` may be empty.
    #[must_use]
    pub fn for_app(all: &Components, app_id: &str, namespace: &str) -> Self {
        let prefixed = |component: &Arc<StateComponent>| {
            let prefix = component.prefix.of(&component.name, app_id, namespace);
            (component.name.clone(), PrefixedStore { component: Arc::clone(component), prefix })
        };
        let state = all.state.iter().filter(|component| may_use(&component.apps, app_id));
        let all_pubsub = all.pubsub.iter();
        let (visible, hidden): (BTreeMap<_, _>, BTreeMap<_, _>) = all_pubsub
            .map(|(name, component)| (name.clone(), Arc::clone(component)))
            .partition(|(_, component)| may_use(&component.apps, app_id));
        Self {
            app_id: app_id.to_owned(),
            state: state.map(prefixed).collect(),
            pubsub: visible,
            hidden: hidden.into_values().collect(),
        }
    }

    /// Returns the app that the registry is for.
    #[must_use]
    pub fn app_id(&self) -> &str {
        &self.app_id
    }

    /// Finds a pub/sub component by its name.
    #[must_use]
    pub fn pubsub(&self, name: &str) -> Option<&Arc<PubSubComponent>> {
        self.pubsub.get(name)
    }

    /// Lists every pub/sub component of the device, those included that the app may not use: they may
    /// hold consumers of the app from before its scopes changed.
    pub fn all_pubsubs(&self) -> impl Iterator<Item = &Arc<PubSubComponent>> {
        self.pubsub.values().chain(&self.hidden)
    }
}

/// Returns whether a component or subscription with these scopes is for an app; none means every app.
#[must_use]
pub fn may_use(scopes: &[String], app_id: &str) -> bool {
    scopes.is_empty() || scopes.iter().any(|scope| scope == app_id)
}

/// The registry that calls use now.
///
/// A call keeps its snapshot to its end, so a component that only an earlier registry has is dropped
/// after the last call that uses it.
#[derive(Default)]
pub struct Current(RwLock<Arc<Registry>>);

impl Current {
    /// Creates one that holds `registry`.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self(RwLock::new(Arc::new(registry)))
    }

    /// Returns the current registry.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Registry> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the registry; returns the former one.
    pub fn replace(&self, registry: Registry) -> Arc<Registry> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, Arc::new(registry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pubsub::publish::tests::{FakePubSub, component};

    fn registry(name: &str) -> Registry {
        let mut all = Components::default();
        all.pubsub.insert(name.to_owned(), Arc::new(component(Arc::new(FakePubSub::default()))));
        Registry::for_app(&all, "app", "")
    }

    #[test]
    fn a_call_keeps_the_registry_that_it_began_with() {
        let current = Current::new(registry("old"));
        let of_a_call = current.snapshot();
        let before = current.replace(registry("new"));
        assert!(Arc::ptr_eq(&of_a_call, &before));
        assert!(of_a_call.pubsub("old").is_some());
        assert!(current.snapshot().pubsub("old").is_none());
        let replaced = Arc::downgrade(&before);
        drop(before);
        assert!(replaced.upgrade().is_some());
        drop(of_a_call);
        assert!(replaced.upgrade().is_none(), "the last call is over");
    }
}
