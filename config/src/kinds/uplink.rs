//! Our `Uplink`: a way out of the device.

use std::time::Duration;

use super::{close_ours, unique_name};
use crate::model::{BackoffSpec, Downlink, Format, Resources, Route, TopicRef, Uplink};
use crate::reader::{Field, Fields};
use crate::rules;

mod mqtt;

const DEFAULT_PUBSUB: &str = "pubsub";
const DEFAULT_TO: &str = "{topic}";
const DEFAULT_WINDOW: usize = 100;
/// MQTT's packet identifiers have 16 bits (MQTT 5, section 2.2.1).
const MAX_WINDOW: usize = 65_535;
/// Shorter, and a broker that is down is asked more often than it can answer.
const MIN_BACKOFF: Duration = Duration::from_millis(10);

pub(super) fn read(document: &Fields<'_>, resources: &mut Resources) {
    resources.uplinks.extend(uplink(document));
}

fn uplink(document: &Fields<'_>) -> Option<Uplink> {
    let name = unique_name(document, "Uplink");
    let spec = document.need("spec", "spec: {mqtt: {url: ...}, routes: [...]}");
    close_ours(document);
    let spec_field = spec?;
    let spec = spec_field.fields()?;
    let mqtt = spec.need("mqtt", "mqtt: {url: mqtts://broker.example}");
    let mqtt = mqtt.and_then(|field| mqtt::read(&field));
    let routes = spec.read_or("routes", Vec::new(), |routes| routes.list(|item| route(&item)));
    let downlinks =
        spec.read_or("downlinks", Vec::new(), |field| field.list(|item| downlink(&item)));
    let window = spec.read_or("window", DEFAULT_WINDOW, |window| window.number(1..=MAX_WINDOW));
    let backoff = spec.read_or("backoff", BackoffSpec::default(), |field| backoff(&field));
    let max_attempts = spec.read("maxAttempts", |most| most.number(1..=u32::MAX));
    let dead_letter = spec.read("deadLetter", |field| topic_ref(&field));
    spec.refuse_others();
    let (routes, downlinks) = (routes?, downlinks?);
    if routes.is_empty() && downlinks.is_empty() {
        return spec_field.refuse(
            "carries nothing: it has neither routes nor downlinks",
            "add one, for example routes: [{topic: \"sensors/#\"}]",
        );
    }
    Some(Uplink {
        name: name?,
        mqtt: mqtt?,
        routes,
        downlinks,
        window: window?,
        backoff: backoff?,
        max_attempts: max_attempts?,
        dead_letter: dead_letter?,
        origin: document.origin(),
    })
}

fn route(field: &Field<'_>) -> Option<Route> {
    let fields = field.fields()?;
    let pubsub = pubsub(&fields);
    let topic = fields.need("topic", "topic: \"sensors/#\"");
    let topic = topic.and_then(|topic| rules::mqtt::filter(&topic));
    let to = fields.read_or("to", DEFAULT_TO.into(), |to| rules::mqtt::template(&to));
    let format = fields.read_or("format", Format::CloudEvent, |field| format_of(&field));
    let retain = fields.read_or("retain", false, |retain| retain.flag());
    fields.refuse_others();
    Some(Route { pubsub: pubsub?, topic: topic?, to: to?, format: format?, retain: retain? })
}

fn downlink(field: &Field<'_>) -> Option<Downlink> {
    let fields = field.fields()?;
    let from = fields.need("from", "from: \"fleet/{node}/commands/#\"");
    let from = from.and_then(|from| rules::mqtt::remote_filter(&from));
    let pubsub = pubsub(&fields);
    let to = fields.read_or("to", DEFAULT_TO.into(), |to| rules::mqtt::template(&to));
    fields.refuse_others();
    Some(Downlink { from: from?, pubsub: pubsub?, to: to? })
}

fn topic_ref(field: &Field<'_>) -> Option<TopicRef> {
    let fields = field.fields()?;
    let pubsub = pubsub(&fields);
    let topic = fields.need("topic", "topic: undeliverable");
    let topic = topic.and_then(|topic| rules::mqtt::topic(&topic));
    fields.refuse_others();
    Some(TopicRef { pubsub: pubsub?, topic: topic? })
}

fn pubsub(fields: &Fields<'_>) -> Option<String> {
    fields.read_or("pubsub", DEFAULT_PUBSUB.into(), |name| rules::name(&name))
}

fn format_of(field: &Field<'_>) -> Option<Format> {
    match field.text()?.as_str() {
        "cloudevent" => Some(Format::CloudEvent),
        "raw" => Some(Format::Raw),
        other => field.refuse(format!("{other:?} is not a format"), "write cloudevent or raw"),
    }
}

fn backoff(field: &Field<'_>) -> Option<BackoffSpec> {
    let defaults = BackoffSpec::default();
    let fields = field.fields()?;
    let initial =
        fields.read_or("initial", defaults.initial, |time| time.duration_from(MIN_BACKOFF));
    let max = fields.read("max", |time| time.duration_from(MIN_BACKOFF));
    fields.refuse_others();
    let (initial, max) = (initial?, max?);
    match max {
        Some(max) if max < initial => {
            let problem = format!("initial ({initial:?}) is over max ({max:?})");
            field.refuse(problem, "make max longer, or initial shorter")
        }
        max => Some(BackoffSpec { initial, max: max.unwrap_or(defaults.max.max(initial)) }),
    }
}

#[cfg(test)]
mod tests;
