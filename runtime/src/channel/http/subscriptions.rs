//! The answer to `GET /dapr/subscribe`.

use std::collections::BTreeMap;
use std::time::Duration;

use blocks::app::channel::DeclaredByApp;
use blocks::json_error::explain;
use config::model::{Bulk, Rule, SubscriptionSpec};
use serde::{Deserialize, Deserializer};

/// An answer to `GET /dapr/subscribe` that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the app's answer to GET /dapr/subscribe is no list of subscriptions: {}", explain(.0))]
pub struct ParseError(#[from] serde_json::Error);

/// Reads the body of the app's answer.
///
/// # Errors
///
/// When it is no JSON list of subscriptions; `null` is an empty one.
pub fn parse(body: &[u8]) -> Result<DeclaredByApp, ParseError> {
    let mut answer: serde_json::Value = serde_json::from_slice(body)?;
    lower_names(&mut answer);
    let declared: Option<Vec<WireSubscription>> = serde_json::from_value(answer)?;
    let declared = declared.unwrap_or_default().into_iter();
    Ok(DeclaredByApp(declared.map(WireSubscription::into_spec).collect()))
}

/// Converts names to lower case: Go reads them without regard to case, and SDKs rely on it
/// (`pubsubName`). Names in metadata belong to the app and stay.
fn lower_names(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(lower_names),
        serde_json::Value::Object(fields) => {
            let old = std::mem::take(fields);
            for (name, mut value) in old {
                let name = name.to_lowercase();
                if name != "metadata" {
                    lower_names(&mut value);
                }
                fields.insert(name, value);
            }
        }
        _ => {}
    }
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "an object with a pubsubname and a topic")]
struct WireSubscription {
    #[serde(deserialize_with = "or_default")]
    pubsubname: String,
    #[serde(deserialize_with = "or_default")]
    topic: String,
    #[serde(deserialize_with = "or_default")]
    deadlettertopic: String,
    #[serde(deserialize_with = "or_default")]
    metadata: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "or_default")]
    route: String,
    #[serde(deserialize_with = "or_default")]
    routes: WireRoutes,
    #[serde(deserialize_with = "or_default")]
    bulksubscribe: WireBulk,
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "an object with rules or a default")]
struct WireRoutes {
    #[serde(deserialize_with = "or_default")]
    rules: Vec<WireRule>,
    #[serde(deserialize_with = "or_default")]
    default: String,
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "an object with a match and a path")]
struct WireRule {
    #[serde(rename = "match", deserialize_with = "or_default")]
    matches: String,
    #[serde(deserialize_with = "or_default")]
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "an object with enabled")]
struct WireBulk {
    #[serde(deserialize_with = "or_default")]
    enabled: bool,
    #[serde(deserialize_with = "or_default")]
    maxmessagescount: i64,
    #[serde(deserialize_with = "or_default")]
    maxawaitdurationms: i64,
}

impl WireSubscription {
    fn into_spec(self) -> SubscriptionSpec {
        let rules = self.routes.rules.into_iter();
        SubscriptionSpec {
            pubsub: self.pubsubname,
            topic: self.topic,
            rules: rules.map(|rule| Rule { matches: rule.matches, path: rule.path }).collect(),
            default_route: filled(self.routes.default).or_else(|| filled(self.route)),
            metadata: self.metadata.into_iter().map(|(name, value)| (name, text(value))).collect(),
            dead_letter_topic: filled(self.deadlettertopic),
            bulk: self.bulksubscribe.into_bulk(),
        }
    }
}

impl WireBulk {
    fn into_bulk(self) -> Option<Bulk> {
        let messages = usize::try_from(self.maxmessagescount).ok().filter(|count| *count > 0);
        let wait = u64::try_from(self.maxawaitdurationms).ok().filter(|wait| *wait > 0);
        self.enabled.then(|| Bulk {
            max_messages: messages.unwrap_or(Bulk::DEFAULT_MESSAGES).min(Bulk::MAX_MESSAGES),
            max_await: wait.map_or(Bulk::DEFAULT_AWAIT, Duration::from_millis),
        })
    }
}

/// Reads `null` as the default, as Go does.
fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn filled(value: String) -> Option<String> {
    Some(value).filter(|value| !value.is_empty())
}

fn text(value: serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
