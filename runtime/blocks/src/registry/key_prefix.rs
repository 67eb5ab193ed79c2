//! Prefixes of keys, by which apps share a state store or keep apart.

use components::Metadata;

/// Separates prefix and key, so neither may hold it.
pub(crate) const SEPARATOR: &str = "||";

/// The prefix of a store's keys. Apps that share a prefix share their state.
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
    /// A text of its own.
    Literal(String),
}

impl KeyPrefix {
    /// Takes the building block's settings from a state store's metadata: `keyPrefix`, and
    /// `actorStateStore`, which has no effect without actors.
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

    pub(super) fn of(&self, store: &str, app_id: &str, namespace: &str) -> String {
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
