//! What an app subscribes to: its answer to `GET /dapr/subscribe`, merged with declarative ones.

use std::collections::BTreeMap;
use std::time::Duration;

use config::model::{Bulk, Rule, SubscriptionSpec};
use serde::{Deserialize, Deserializer};
use store_forward::record::ConsumerSpec;
use store_forward::topic::check_name;

use super::cloudevent::flag;
use crate::json_error::explain;

/// Deliveries of one subscription in flight.
const MAX_CONCURRENCY: usize = 1000;
/// Retries before a message goes to the dead letter topic, if the subscription doesn't say.
const DEFAULT_RETRIES: u32 = 3;

/// Where a subscription comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A `Subscription` resource.
    Declarative,
    /// The app's answer.
    Programmatic,
}

impl Source {
    /// What `/v1.0/metadata` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Declarative => "DECLARATIVE",
            Self::Programmatic => "PROGRAMMATIC",
        }
    }
}

/// A subscription of one app.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// What is subscribed to.
    pub spec: SubscriptionSpec,
    /// Where it comes from.
    pub source: Source,
}

/// What a subscription's metadata asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `rawPayload`: the app gets what a broker would carry, as binary data.
    pub raw: bool,
    /// `concurrency`: calls in flight; order is kept per `partitionKey` when it is more than 1.
    pub concurrency: usize,
    /// Attempts before the dead letter topic: `maxRetries` and the first; `None`: no bound.
    pub max_attempts: Option<u32>,
}

/// Why a subscription's metadata can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "metadata {name} of the subscription to {subscription} is {value:?}: it has to be {expected}"
)]
pub struct SettingError {
    name: &'static str,
    subscription: String,
    value: String,
    expected: String,
}

/// An answer to `GET /dapr/subscribe` that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the app's answer to GET /dapr/subscribe is no list of subscriptions: {0}")]
pub struct ParseError(String);

impl From<serde_json::Error> for ParseError {
    fn from(error: serde_json::Error) -> Self {
        Self(explain(&error))
    }
}

impl Subscription {
    /// What errors and logs call it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.spec.pubsub, self.spec.topic)
    }

    fn is_to(&self, pubsub: &str, topic: &str) -> bool {
        self.spec.pubsub == pubsub && self.spec.topic == topic
    }

    /// What its metadata asks for.
    ///
    /// # Errors
    /// When a value makes no sense.
    pub fn settings(&self) -> Result<Settings, SettingError> {
        let raw = self.setting("rawPayload", "true or false", flag)?.unwrap_or(false);
        let concurrency = self
            .setting("concurrency", &format!("1 to {MAX_CONCURRENCY}"), |value| {
                value.parse().ok().filter(|value| (1..=MAX_CONCURRENCY).contains(value))
            })?
            .unwrap_or(1);
        let retries = self
            .setting("maxRetries", "a number, or -1 for no bound", |value| match value {
                "-1" => Some(None),
                value => value.parse::<u32>().ok().map(Some),
            })?
            .unwrap_or(Some(DEFAULT_RETRIES));
        // Without a dead letter topic giving up would lose the message.
        let retries = retries.filter(|_| self.spec.dead_letter_topic.is_some());
        Ok(Settings {
            raw,
            concurrency,
            max_attempts: retries.map(|retries| retries.saturating_add(1)),
        })
    }

    fn setting<T>(
        &self,
        name: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, SettingError> {
        let found = self.spec.metadata.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        let Some((_, value)) = found else { return Ok(None) };
        parse(value.trim()).map(Some).ok_or_else(|| SettingError {
            name,
            subscription: self.name(),
            value: value.clone(),
            expected: expected.to_owned(),
        })
    }

    /// A subscription that a resource declares.
    pub fn declared(declared: &config::model::Subscription) -> Self {
        Self { spec: declared.spec.clone(), source: Source::Declarative }
    }
}

/// Reads the body of the app's answer. The second list names what was left out, and why.
///
/// # Errors
/// When it is no JSON list of subscriptions; `null` is an empty one.
pub fn parse(body: &[u8]) -> Result<(Vec<Subscription>, Vec<String>), ParseError> {
    let mut answer: serde_json::Value = serde_json::from_slice(body)?;
    lower_names(&mut answer);
    let entries: Option<Vec<Entry>> = serde_json::from_value(answer)?;
    let mut warnings = Vec::new();
    let mut subscriptions: Vec<Subscription> = Vec::new();
    for subscription in entries.unwrap_or_default().into_iter().map(Entry::into_subscription) {
        if let Some(problem) = problem(&subscription.spec) {
            warnings.push(format!(
                "the subscription to {} is left out: {problem}",
                subscription.name()
            ));
            continue;
        }
        subscriptions.retain(|other| !same_topic(other, &subscription));
        subscriptions.push(subscription);
    }
    Ok((subscriptions, warnings))
}

/// The subscriptions of an app: what it answered, and what is declared for it on other topics.
#[must_use]
pub fn merge(
    app_id: &str,
    declared: &[config::model::Subscription],
    programmatic: Vec<Subscription>,
) -> Vec<Subscription> {
    let mut merged = programmatic;
    for declared in declared {
        let ours = declared.scopes.is_empty() || declared.scopes.iter().any(|app| app == app_id);
        let declared = Subscription::declared(declared);
        if ours && !merged.iter().any(|other| same_topic(other, &declared)) {
            merged.push(declared);
        }
    }
    merged
}

/// The durable name of an app's subscription.
#[must_use]
pub fn consumer_name(app_id: &str, pubsub: &str, topic: &str) -> String {
    format!("app/{app_id}/{pubsub}/{topic}")
}

/// The consumers of this app and pub/sub component that no subscription stands for any more.
#[must_use]
pub fn stale<'a>(
    app_id: &str,
    pubsub: &str,
    consumers: &'a [ConsumerSpec],
    active: &[Subscription],
) -> Vec<&'a str> {
    let prefix = consumer_name(app_id, pubsub, "");
    let wanted = |topic: &str| active.iter().any(|active| active.is_to(pubsub, topic));
    consumers
        .iter()
        .map(|consumer| consumer.name.as_str())
        .filter(|name| name.strip_prefix(&prefix).is_some_and(|topic| !wanted(topic)))
        .collect()
}

fn same_topic(one: &Subscription, other: &Subscription) -> bool {
    one.is_to(&other.spec.pubsub, &other.spec.topic)
}

/// Why nothing can be delivered by it.
#[must_use]
pub fn problem(spec: &SubscriptionSpec) -> Option<String> {
    if spec.pubsub.is_empty() {
        return Some("it names no pubsubname".to_owned());
    }
    if spec.topic.is_empty() {
        return Some("it names no topic".to_owned());
    }
    if spec.rules.is_empty() && spec.default_route.is_none() {
        return Some("it has no route; set route, or routes.default".to_owned());
    }
    let letters = spec.dead_letter_topic.as_deref()?;
    let illegal = check_name(letters).err()?;
    Some(format!(
        "nothing can be published to its deadLetterTopic {letters:?}: {illegal}; name one topic"
    ))
}

/// Go reads names without regard to case, and SDKs rely on it (`pubsubName`). Metadata's names are
/// the app's own.
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

#[derive(Deserialize)]
#[serde(default, expecting = "an object with a pubsubname and a topic")]
#[derive(Default)]
struct Entry {
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
    routes: EntryRoutes,
    #[serde(deserialize_with = "or_default")]
    bulksubscribe: EntryBulk,
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "an object with rules or a default")]
struct EntryRoutes {
    #[serde(deserialize_with = "or_default")]
    rules: Vec<EntryRule>,
    #[serde(deserialize_with = "or_default")]
    default: String,
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "an object with a match and a path")]
struct EntryRule {
    #[serde(rename = "match", deserialize_with = "or_default")]
    matches: String,
    #[serde(deserialize_with = "or_default")]
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(default, expecting = "an object with enabled")]
struct EntryBulk {
    #[serde(deserialize_with = "or_default")]
    enabled: bool,
    #[serde(deserialize_with = "or_default")]
    maxmessagescount: i64,
    #[serde(deserialize_with = "or_default")]
    maxawaitdurationms: i64,
}

impl Entry {
    fn into_subscription(self) -> Subscription {
        let rules = self.routes.rules.into_iter();
        let spec = SubscriptionSpec {
            pubsub: self.pubsubname,
            topic: self.topic,
            rules: rules.map(|rule| Rule { matches: rule.matches, path: rule.path }).collect(),
            default_route: filled(self.routes.default).or_else(|| filled(self.route)),
            metadata: self.metadata.into_iter().map(|(name, value)| (name, text(value))).collect(),
            dead_letter_topic: filled(self.deadlettertopic),
            bulk: self.bulksubscribe.into_bulk(),
        };
        Subscription { spec, source: Source::Programmatic }
    }
}

impl EntryBulk {
    fn into_bulk(self) -> Option<Bulk> {
        let messages = usize::try_from(self.maxmessagescount).ok().filter(|count| *count > 0);
        let wait = u64::try_from(self.maxawaitdurationms).ok().filter(|wait| *wait > 0);
        self.enabled.then(|| Bulk {
            max_messages: messages.unwrap_or(Bulk::DEFAULT_MESSAGES).min(Bulk::MAX_MESSAGES),
            max_await: wait.map_or(Bulk::DEFAULT_AWAIT, Duration::from_millis),
        })
    }
}

/// `null` is as good as nothing, as in Go.
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
