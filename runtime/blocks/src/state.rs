//! The state building block: which stores an app sees, and under which keys.

use std::collections::HashMap;
use std::sync::Arc;

use components::{Item, Metadata, StateError, StateOp, StateStore};

/// Stands between prefix and key, so neither may hold it.
const SEPARATOR: &str = "||";

/// A state store, and what the building block knows of it.
#[derive(Clone)]
pub struct StateComponent {
    /// Its name.
    pub name: String,
    /// The store.
    pub store: Arc<dyn StateStore>,
    /// What its keys begin with.
    pub prefix: KeyPrefix,
    /// App ids that may use it; empty means all.
    pub scopes: Vec<String>,
}

/// What a store's keys begin with: apps that share a prefix share their state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyPrefix {
    /// The app's id.
    #[default]
    AppId,
    /// The store's name.
    Name,
    /// The namespace and the app's id.
    Namespace,
    /// Nothing.
    None,
    /// This.
    Literal(String),
}

impl KeyPrefix {
    /// Takes what belongs to the building block out of a state store's metadata: `keyPrefix`, and
    /// `actorStateStore`, which has no meaning without actors.
    pub fn take(metadata: &mut Metadata) -> Self {
        metadata.take_bool("actorStateStore");
        let expected = "appid, name, namespace, none, or a literal without \"||\"";
        metadata.take_parsed("keyPrefix", expected, Self::parse).unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "appid" => Some(Self::AppId),
            "name" => Some(Self::Name),
            "namespace" => Some(Self::Namespace),
            "none" => Some(Self::None),
            _ if text.contains(SEPARATOR) => None,
            _ => Some(Self::Literal(text.to_owned())),
        }
    }

    fn of(&self, store: &str, app_id: &str, namespace: &str) -> String {
        match self {
            Self::AppId => format!("{app_id}{SEPARATOR}"),
            Self::Name => format!("{store}{SEPARATOR}"),
            Self::Namespace if namespace.is_empty() => format!("{app_id}{SEPARATOR}"),
            Self::Namespace => format!("{namespace}.{app_id}{SEPARATOR}"),
            Self::None => String::new(),
            Self::Literal(prefix) => format!("{prefix}{SEPARATOR}"),
        }
    }
}

/// The state stores that one app may use.
#[derive(Default)]
pub struct StateStores(HashMap<String, BoundStore>);

/// Why there is no such store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// The app has no state store at all.
    NotConfigured,
    /// It has others.
    NotFound,
}

/// A key with `||` in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("input key/keyPrefix '{0}' can't contain '||'")]
pub struct IllegalKey(pub String);

impl StateStores {
    /// The stores among `components` that `app_id` may use. `namespace` may be empty.
    #[must_use]
    pub fn for_app(components: &[StateComponent], app_id: &str, namespace: &str) -> Self {
        let visible = components.iter().filter(|component| {
            component.scopes.is_empty() || component.scopes.iter().any(|scope| scope == app_id)
        });
        let bind = |component: &StateComponent| {
            let StateComponent { name, store, prefix, .. } = component;
            let prefix = prefix.of(name, app_id, namespace);
            (name.clone(), BoundStore { prefix, store: Arc::clone(store) })
        };
        Self(visible.map(bind).collect())
    }

    /// The store of that name.
    ///
    /// # Errors
    ///
    /// When there is none for this app.
    pub fn find(&self, name: &str) -> Result<&BoundStore, LookupError> {
        self.0.get(name).ok_or(if self.0.is_empty() {
            LookupError::NotConfigured
        } else {
            LookupError::NotFound
        })
    }
}

/// A state store with an app's prefix: callers see their own keys, in errors too.
#[derive(Clone)]
pub struct BoundStore {
    prefix: String,
    store: Arc<dyn StateStore>,
}

impl BoundStore {
    /// Whether the app may use such a key.
    ///
    /// # Errors
    ///
    /// When it holds the separator.
    pub fn check_key(&self, key: &str) -> Result<(), IllegalKey> {
        if key.contains(SEPARATOR) { Err(IllegalKey(key.to_owned())) } else { Ok(()) }
    }

    /// The row of that key.
    ///
    /// # Errors
    ///
    /// When the store can't read it.
    pub async fn get(&self, key: &str) -> Result<Option<Item>, StateError> {
        self.store.get(&format!("{}{key}", self.prefix)).await
    }

    /// Does all of the operations, or none.
    ///
    /// # Errors
    ///
    /// When a condition does not hold or the store refuses.
    pub async fn write(&self, mut ops: Vec<StateOp>) -> Result<(), StateError> {
        for op in &mut ops {
            op.key_mut().insert_str(0, &self.prefix);
        }
        self.store.write(ops).await.map_err(|error| self.in_app_terms(error))
    }

    /// Operations that one write takes at most.
    #[must_use]
    pub fn max_operations(&self) -> usize {
        self.store.max_operations()
    }

    fn in_app_terms(&self, error: StateError) -> StateError {
        match error {
            StateError::EtagMismatch { op, key, expected, found } => {
                let key = key.strip_prefix(&self.prefix).map(str::to_owned).unwrap_or(key);
                StateError::EtagMismatch { op, key, expected, found }
            }
            error => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_daprs() {
        let of = |text| KeyPrefix::parse(text).map(|prefix| prefix.of("store", "app", "ns"));
        assert_eq!(of("AppId").as_deref(), Some("app||"));
        assert_eq!(of("name").as_deref(), Some("store||"));
        assert_eq!(of("namespace").as_deref(), Some("ns.app||"));
        assert_eq!(of("none").as_deref(), Some(""));
        assert_eq!(of("Shared").as_deref(), Some("Shared||"));
        assert_eq!(of("a||b"), None);
    }

    #[test]
    fn without_a_namespace_the_prefix_is_the_app_id() {
        assert_eq!(KeyPrefix::Namespace.of("store", "app", ""), "app||");
    }
}
