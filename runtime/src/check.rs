//! Checks of settings that need more than the one resource in which a problem is.

use std::fmt::Display;

use config::model::{Resources, Secret, Subscription, Uplink};

use crate::assemble::Loaded;
use crate::pubsub::route::Routes;
use crate::pubsub::subscriptions;
use crate::secret::reveal;
use crate::tls::TlsFiles;

/// Returns the problems of declared subscriptions that could never deliver anything.
#[must_use]
pub fn subscriptions(resources: &Resources) -> Vec<String> {
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
#[must_use]
pub fn unknown_pubsubs(resources: &Resources, loaded: &Loaded) -> Vec<String> {
    let left_out = |name: &str| {
        let mut components = resources.components.iter();
        components.any(|component| component.name == name && component.kind.starts_with("pubsub."))
    };
    let is_unknown = |name: &str| !loaded.pubsub.contains_key(name) && !left_out(name);
    let known = loaded.pubsub.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let unknown = resources.subscriptions.iter().filter(|one| is_unknown(&one.spec.pubsub));
    let told = unknown.map(|subscription| {
        format!(
            "{}: spec.pubsubname: there is no pub/sub component {:?}: name one of {known}, or add it",
            place(subscription),
            subscription.spec.pubsub
        )
    });
    told.collect()
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
