//! The subscriptions of an app: those in its answer, merged with the declared ones.

use components::topic::check_name;
use config::model::SubscriptionSpec;

use super::cloudevent::flag;
use crate::app::channel::DeclaredByApp;
use crate::registry::may_use;

/// Maximum deliveries of one subscription in flight.
const MAX_CONCURRENCY: usize = 1000;
/// Retries before a message goes to the dead letter topic, unless the subscription sets another number.
const DEFAULT_RETRIES: u32 = 3;

/// The origin of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionSource {
    /// A `Subscription` resource.
    Declarative,
    /// The app's answer.
    Programmatic,
}

impl SubscriptionSource {
    /// Returns the name in `/v1.0/metadata`.
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
    /// The topic, its routes and its settings.
    pub spec: SubscriptionSpec,
    /// Its origin.
    pub source: SubscriptionSource,
}

/// The settings in a subscription's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionSettings {
    /// `rawPayload`: the app gets the bytes that a broker would carry, as binary data.
    pub raw: bool,
    /// `concurrency`: calls in flight; order is kept per `partitionKey` when it is more than 1.
    pub concurrency: usize,
    /// Attempts before the dead letter topic: `maxRetries` and the first; `None`: no bound.
    pub max_attempts: Option<u32>,
}

/// A setting in a subscription's metadata that can't be used.
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

impl Subscription {
    /// Returns the name in errors and logs: `pubsub/topic`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.spec.pubsub, self.spec.topic)
    }

    fn is_to(&self, pubsub: &str, topic: &str) -> bool {
        self.spec.pubsub == pubsub && self.spec.topic == topic
    }

    /// Reads the settings in its metadata.
    ///
    /// # Errors
    ///
    /// When a value is invalid.
    pub fn settings(&self) -> Result<SubscriptionSettings, SettingError> {
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
        Ok(SubscriptionSettings {
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

    /// Converts a subscription that a resource declares.
    pub fn declared(declared: &config::model::Subscription) -> Self {
        Self { spec: declared.spec.clone(), source: SubscriptionSource::Declarative }
    }
}

/// Returns the usable subscriptions of an app's answer, and a warning for each other one. The later of
/// two for one topic counts.
#[must_use]
pub fn accept(declared: DeclaredByApp) -> (Vec<Subscription>, Vec<String>) {
    let mut warnings = Vec::new();
    let mut subscriptions: Vec<Subscription> = Vec::new();
    for spec in declared.0 {
        let subscription = Subscription { spec, source: SubscriptionSource::Programmatic };
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
    (subscriptions, warnings)
}

/// Returns the subscriptions of an app: those in its answer, and those declared for other topics.
#[must_use]
pub fn merge(
    app_id: &str,
    declared: &[config::model::Subscription],
    programmatic: Vec<Subscription>,
) -> Vec<Subscription> {
    let mut merged = programmatic;
    for declared in declared {
        let is_ours = may_use(&declared.scopes, app_id);
        let declared = Subscription::declared(declared);
        if is_ours && !merged.iter().any(|other| same_topic(other, &declared)) {
            merged.push(declared);
        }
    }
    merged
}

/// Returns the durable name of an app's subscription.
#[must_use]
pub fn consumer_name(app_id: &str, pubsub: &str, topic: &str) -> String {
    format!("app/{app_id}/{pubsub}/{topic}")
}

/// Returns the consumers of this app and pub/sub component that belong to no active subscription.
#[must_use]
pub fn stale<'a>(
    app_id: &str,
    pubsub: &str,
    consumers: &'a [String],
    active: &[Subscription],
) -> Vec<&'a str> {
    let prefix = consumer_name(app_id, pubsub, "");
    let wanted = |topic: &str| active.iter().any(|active| active.is_to(pubsub, topic));
    consumers
        .iter()
        .map(String::as_str)
        .filter(|name| name.strip_prefix(&prefix).is_some_and(|topic| !wanted(topic)))
        .collect()
}

fn same_topic(one: &Subscription, other: &Subscription) -> bool {
    one.is_to(&other.spec.pubsub, &other.spec.topic)
}

/// Returns the reason why a subscription could never deliver anything.
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

#[cfg(test)]
mod tests;
