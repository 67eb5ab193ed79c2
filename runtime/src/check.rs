//! Checks of settings that span several resources, or need files.

use std::fmt::Display;
use std::sync::Arc;

use blocks::pubsub::route::Routes;
use blocks::pubsub::subscriptions;
use blocks::registry::may_use;
use components::Embedded;
use config::model::{Resources, Secret, Subscription, Uplink};
use store_forward::clock::OsClock;
use store_forward::disk::MemoryDisk;
use store_forward::limits::Limits;
use store_forward::store::Options;

use crate::assemble::{AssembleError, Assembly, assemble, assembly_context};
use crate::secret::reveal;
use crate::settings::Settings;
use crate::tls::TlsFiles;

/// Adds the problems that only building the components shows: their types and settings, rules, and names
/// in uplinks and subscriptions.
pub async fn by_building(settings: &Settings, mut problems: Vec<String>) -> Vec<String> {
    // A component that couldn't be read must not be reported as missing, too.
    let all_was_read = problems.is_empty();
    problems.extend(subscriptions(&settings.resources));
    let limits = Limits { reserve_bytes: 0, ..settings.limits.clone() };
    let options = Options { node: None, limits, volatile: true };
    let embedded = Embedded::new(options, Arc::new(MemoryDisk::new()), Arc::new(OsClock::new()));
    match assemble(&settings.resources, &assembly_context(settings, &embedded)).await {
        Ok(assembly) if all_was_read => {
            problems.extend(unknown_names(settings, &assembly));
            problems.extend(unknown_pubsubs(&settings.resources, &assembly));
        }
        Ok(_) => {}
        Err(AssembleError::Configuration(found)) => problems.extend(found),
        Err(error) => problems.push(error.to_string()),
    }
    problems
}

/// Returns a warning for each declared subscription that asks for more deliveries at once than an
/// app gets.
#[must_use]
pub fn excessive_concurrency(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    for subscription in &settings.resources.subscriptions {
        let declared = subscriptions::Subscription::declared(subscription);
        let Ok(asked) = declared.settings() else { continue };
        let apps = settings.apps.iter();
        for app in apps.filter(|app| may_use(&subscription.scopes, &app.id)) {
            let limit = app.max_calls();
            if asked.concurrency > limit {
                warnings.push(format!(
                    "{}: spec.metadata: concurrency is {}, and app {} gets at most {limit} calls at once: lower it, or raise the app's limit: spec.maxConcurrency of the App, or --app-max-concurrency of `pannier run`, which is not known here",
                    place(subscription),
                    asked.concurrency,
                    app.id
                ));
            }
        }
    }
    warnings
}

/// Returns the problems of declared subscriptions that can never deliver anything.
fn subscriptions(resources: &Resources) -> Vec<String> {
    resources.subscriptions.iter().flat_map(problems).collect()
}

fn problems(subscription: &Subscription) -> Vec<String> {
    let declared = subscriptions::Subscription::declared(subscription);
    let routes = Routes::problems(&declared.name(), &subscription.spec);
    let settings = declared.settings().err().map(|error| format!("spec.metadata: {error}"));
    let other = subscriptions::problem(&subscription.spec);
    let all = routes.into_iter().chain(settings).chain(other);
    all.map(|text| format!("{}: {text}", place(subscription))).collect()
}

fn place(subscription: &Subscription) -> String {
    let Subscription { name, origin, .. } = subscription;
    format!("{}:{}: subscription {name:?}", origin.file.display(), origin.line)
}

/// Returns a problem for each declared subscription to a pub/sub component that doesn't exist. A
/// component that was left out for its own errors, as `ignoreErrors` allows, doesn't count as missing.
fn unknown_pubsubs(resources: &Resources, assembly: &Assembly) -> Vec<String> {
    let left_out = |name: &str| {
        let mut components = resources.components.iter();
        components.any(|component| component.name == name && component.kind.starts_with("pubsub."))
    };
    let pubsubs = &assembly.components.pubsub;
    let is_unknown = |name: &str| !pubsubs.contains_key(name) && !left_out(name);
    let known = pubsubs.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let unknown = resources.subscriptions.iter().filter(|one| is_unknown(&one.spec.pubsub));
    let problems = unknown.map(|subscription| {
        format!(
            "{}: spec.pubsubname: there is no pub/sub component {:?}: name one of {known}, or add it",
            place(subscription),
            subscription.spec.pubsub
        )
    });
    problems.collect()
}

/// Returns a problem for each pub/sub component that an uplink names and can't use.
fn unknown_names(settings: &Settings, assembly: &Assembly) -> Vec<String> {
    let mut problems = Vec::new();
    for uplink in &settings.resources.uplinks {
        let routes = uplink.routes.iter().map(|route| &route.pubsub);
        let downlinks = uplink.downlinks.iter().map(|downlink| &downlink.pubsub);
        let dead = uplink.dead_letter.iter().map(|topic| &topic.pubsub);
        for name in routes.chain(downlinks).chain(dead) {
            if !assembly.is_durable_pubsub(name) {
                let known: Vec<&str> = assembly.durable_pubsubs().collect();
                let file = uplink.origin.file.display();
                let line = uplink.origin.line;
                problems.push(format!(
                    "{file}:{line}: uplink {:?}: {name:?} is no pub/sub component of type pubsub.redb: name one of {}, or add it",
                    uplink.name,
                    known.join(", ")
                ));
            }
        }
    }
    problems.dedup();
    problems
}

/// A file or variable of an uplink that can't be used.
#[derive(Debug)]
pub struct FileProblem {
    /// The place in the resource, and the error.
    pub text: String,
    /// True if the file or variable may still appear: an uplink reads it for each connection.
    pub may_come: bool,
}

/// Returns the files and variables of uplinks that can't be used. Blocks on the disk.
#[must_use]
pub fn files(resources: &Resources) -> Vec<FileProblem> {
    resources.uplinks.iter().flat_map(files_of).collect()
}

fn files_of(uplink: &Uplink) -> Vec<FileProblem> {
    let Uplink { name, origin, mqtt, .. } = uplink;
    let place = format!("{}:{}: uplink {name:?}", origin.file.display(), origin.line);
    let problem = |field: &str, error: &dyn Display, may_come: bool| FileProblem {
        text: format!("{place}: spec.mqtt.{field}: {error}"),
        may_come,
    };
    let tls = TlsFiles::of(mqtt).problems().into_iter();
    let tls = tls.map(|(field, error)| problem(field, &error, error.may_come()));
    let password = mqtt.password.as_ref().and_then(|secret: &Secret| reveal(secret).err());
    let password = password.map(|error| problem("password", &error, error.may_come()));
    tls.chain(password).collect()
}
