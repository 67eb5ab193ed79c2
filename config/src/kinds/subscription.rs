//! Dapr's `Subscription`, v1alpha1 and v2alpha1.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Owner, scopes, unique_name};
use crate::model::{Bulk, Resources, Rule, Subscription, SubscriptionSpec};
use crate::reader::{Field, Fields};
use crate::rules;

/// The longest `maxAwaitDurationMs`: an hour.
const MAX_BULK_AWAIT_MS: u64 = 3_600_000;

/// The paths that events are posted to.
struct Routes {
    rules: Vec<Rule>,
    /// The path of events that no rule matches.
    default: Option<String>,
}

pub(super) fn read_v1(document: &Fields<'_>, resources: &mut Resources) {
    resources.subscriptions.extend(subscription(document, |spec| {
        let route = spec.need("route", "route: /orders")?.text()?;
        Some(Routes { rules: Vec::new(), default: Some(route) })
    }));
}

pub(super) fn read_v2(document: &Fields<'_>, resources: &mut Resources) {
    resources.subscriptions.extend(subscription(document, |spec| {
        routes(&spec.need("routes", "routes: {default: /orders}")?)
    }));
}

fn subscription(
    document: &Fields<'_>,
    read_routes: impl Fn(&Fields<'_>) -> Option<Routes>,
) -> Option<Subscription> {
    let name = unique_name(document, Owner::Dapr, "Subscription");
    let scopes = scopes(document);
    let spec = document.need("spec", "spec: {pubsubname: pubsub, topic: orders, ...}");
    Owner::Dapr.close_document(document);
    let spec = spec?.fields()?;
    let pubsub = spec.need("pubsubname", "pubsubname: pubsub").and_then(|name| name.text());
    let topic = spec.need("topic", "topic: orders");
    let topic = topic.and_then(|topic| rules::mqtt::filter(&topic));
    let routes = read_routes(&spec);
    let metadata = spec.read_or("metadata", BTreeMap::new(), |metadata| texts(&metadata));
    let dead_letter_topic = spec.read("deadLetterTopic", |topic| rules::mqtt::topic(&topic));
    let bulk = spec.read_or("bulkSubscribe", None, |field| bulk(&field));
    spec.warn_of_others(&[]);
    let routes = routes?;
    let spec = SubscriptionSpec {
        pubsub: pubsub?,
        topic: topic?,
        rules: routes.rules,
        default_route: routes.default,
        metadata: metadata?,
        dead_letter_topic: dead_letter_topic?,
        bulk: bulk?,
    };
    Some(Subscription { name: name?, spec, scopes: scopes?, origin: document.origin() })
}

/// Reads rules and a default. The first match wins and an empty one always matches, so it becomes the
/// default, and rules after it are never reached.
fn routes(field: &Field<'_>) -> Option<Routes> {
    let fields = field.fields()?;
    let items = fields.read_or("rules", Vec::new(), |rules| {
        rules.list(|item| rule(&item).map(|rule| (item, rule)))
    });
    let default = fields.read("default", |default| default.text());
    fields.warn_of_others(&[]);
    let items = items?;
    let mut default = default?;

    let mut rules = Vec::new();
    let mut catch_all = None;
    for (item, rule) in items {
        if catch_all.is_some() {
            item.warn("never reached: a rule before it has an empty match");
        } else if rule.matches.trim().is_empty() {
            catch_all = Some(rule.path);
        } else {
            rules.push(rule);
        }
    }
    if catch_all.is_some() {
        if default.is_some() {
            field.warn("the default is never reached: a rule has an empty match");
        }
        default = catch_all;
    }
    if rules.is_empty() && default.is_none() {
        return field.refuse("has no route", "add default: /PATH, or rules");
    }
    Some(Routes { rules, default })
}

fn rule(field: &Field<'_>) -> Option<Rule> {
    let fields = field.fields()?;
    let matches = fields.read_or("match", String::new(), |matches| matches.any_text());
    let path = fields.need("path", "path: /orders").and_then(|path| path.text());
    fields.warn_of_others(&[]);
    Some(Rule { matches: matches?, path: path? })
}

fn texts(field: &Field<'_>) -> Option<BTreeMap<String, String>> {
    let entry = |(name, value): (&str, Field<'_>)| Some((name.to_owned(), value.any_text()?));
    let entries: Vec<_> = field.fields()?.all().map(entry).collect();
    entries.into_iter().collect()
}

fn bulk(field: &Field<'_>) -> Option<Option<Bulk>> {
    let fields = field.fields()?;
    let enabled = fields.read_or("enabled", false, |enabled| enabled.flag());
    let messages = fields.read_or("maxMessagesCount", Bulk::DEFAULT_MESSAGES, |count| {
        count.number(1..=Bulk::MAX_MESSAGES)
    });
    let max_await = fields.read_or("maxAwaitDurationMs", Bulk::DEFAULT_AWAIT, |duration| {
        duration.number(0..=MAX_BULK_AWAIT_MS).map(Duration::from_millis)
    });
    fields.warn_of_others(&[]);
    let bulk = Bulk { max_messages: messages?, max_await: max_await? };
    Some(enabled?.then_some(bulk))
}

#[cfg(test)]
mod tests;
