//! Our `Uplink`: a way out of the device.

use std::time::Duration;

use super::{Owner, unique_name};
use crate::model::{BackoffSpec, Downlink, Format, Resources, Route, TopicRef, Uplink};
use crate::reader::{Field, Fields};
use crate::rules;

mod loops;
mod mqtt;

const DEFAULT_PUBSUB: &str = "pubsub";
const DEFAULT_TO: &str = "{topic}";
const DEFAULT_WINDOW: usize = 100;
/// MQTT's packet identifiers have 16 bits (MQTT 5, section 2.2.1).
const MAX_WINDOW: usize = 65_535;
/// Routes or downlinks of one uplink. All pairs are compared.
const MAX_ENTRIES: usize = 1_000;
/// The shortest back-off: shorter ones would load a broker that is starting.
const MIN_BACKOFF: Duration = Duration::from_millis(10);

pub(super) fn read(document: &Fields<'_>, resources: &mut Resources) {
    resources.uplinks.extend(uplink(document));
}

fn uplink(document: &Fields<'_>) -> Option<Uplink> {
    let name = unique_name(document, Owner::Pannier, "Uplink");
    let spec = document.need("spec", "spec: {mqtt: {url: ...}, routes: [...]}");
    Owner::Pannier.close_document(document);
    let spec_field = spec?;
    let spec = spec_field.fields()?;
    let mqtt = spec.need("mqtt", "mqtt: {url: mqtts://broker.example}");
    let mqtt = mqtt.and_then(|field| mqtt::read(&field));
    let routes = spec.read_or("routes", Vec::new(), |field| entries(&field, route));
    let downlinks = spec.read_or("downlinks", Vec::new(), |field| entries(&field, downlink));
    let window = spec.read_or("window", DEFAULT_WINDOW, |window| window.number(1..=MAX_WINDOW));
    let backoff = spec.read_or("backoff", BackoffSpec::default(), |field| backoff(&field));
    let max_attempts = spec.read("maxAttempts", |most| most.number(1..=u32::MAX));
    let dead_letter = spec.read("deadLetter", |field| topic_ref(&field));
    spec.refuse_others();
    let routes = routes?;
    let downlinks = downlinks?;
    if routes.is_empty() && downlinks.is_empty() {
        return spec_field.refuse(
            "carries nothing: it has neither routes nor downlinks",
            "add one, for example routes: [{topic: \"sensors/#\"}]",
        );
    }
    let mqtt = mqtt?;
    loops::check(&spec, mqtt.version, &routes, &downlinks);
    Some(Uplink {
        name: name?,
        mqtt,
        routes,
        downlinks,
        window: window?,
        backoff: backoff?,
        max_attempts: max_attempts?,
        dead_letter: dead_letter?,
        origin: document.origin(),
    })
}

/// Reads a list of maps of bounded length.
fn entries<T>(field: &Field<'_>, read: impl Fn(&Fields<'_>) -> Option<T>) -> Option<Vec<T>> {
    match field.items()?.len() {
        many if many > MAX_ENTRIES => {
            let problem = format!("has {many} entries, the limit is {MAX_ENTRIES}");
            field.refuse(problem, "use filters with + and #, or several uplinks")
        }
        _ => field.list(|item| read(&item.fields()?)),
    }
}

fn route(fields: &Fields<'_>) -> Option<Route> {
    let pubsub = pubsub(fields);
    let topic = fields.need("topic", "topic: \"sensors/#\"");
    let topic = topic.and_then(|topic| rules::mqtt::filter(&topic));
    let to = destination(fields, topic.as_deref());
    let format = fields.read_or("format", Format::CloudEvent, |field| format_of(&field));
    let retain = fields.read_or("retain", false, |retain| retain.flag());
    fields.refuse_others();
    Some(Route { pubsub: pubsub?, topic: topic?, to: to?, format: format?, retain: retain? })
}

fn downlink(fields: &Fields<'_>) -> Option<Downlink> {
    let from = fields.need("from", "from: \"fleet/{node}/commands/#\"");
    let from = from.and_then(|from| rules::mqtt::remote_filter(&from));
    let pubsub = pubsub(fields);
    let to = destination(fields, from.as_deref());
    fields.refuse_others();
    Some(Downlink { from: from?, pubsub: pubsub?, to: to? })
}

/// Reads `to`, for the topics that `filter` matches; `filter` is `None` where it is wrong itself.
fn destination(fields: &Fields<'_>, filter: Option<&str>) -> Option<String> {
    fields.read_or("to", DEFAULT_TO.into(), |to| {
        let template = rules::mqtt::template(&to)?;
        if let Some(filter) = filter {
            rules::mqtt::check_rest(&to, &template, rules::overlap::matched_part(filter))?;
        }
        Some(template)
    })
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
    let initial = initial?;
    match max? {
        Some(max) if max < initial => {
            let problem = format!("initial ({initial:?}) is over max ({max:?})");
            field.refuse(problem, "make max longer, or initial shorter")
        }
        max => Some(BackoffSpec { initial, max: max.unwrap_or(defaults.max.max(initial)) }),
    }
}

#[cfg(test)]
mod tests;
