//! What is wrong with settings beyond what reading them tells, and `pannier check`, which tells it.

use clap::Parser;
use config::model::{Resources, Secret, Subscription, Uplink};

use crate::assemble::Loaded;
use crate::cli::{CheckArgs, Cli, Command};
use crate::pubsub::route::Routes;
use crate::pubsub::subscriptions;
use crate::secret::reveal;
use crate::tls::TlsFiles;
use crate::{settings, wiring};

/// What `pannier check` has found.
#[derive(Debug)]
pub struct Report {
    /// What is wrong, one line each.
    pub errors: Vec<String>,
    /// What may be meant, or may come right by itself.
    pub warnings: Vec<String>,
    /// How much was read, and how many of each were found.
    pub summary: String,
}

/// `pannier check` was given nothing to check.
#[derive(Debug, thiserror::Error)]
#[error(
    "nothing was checked: name the files or folders of resources, as in\n    pannier check /etc/pannier\n    pannier check --resources-path resources --config configuration.yaml"
)]
pub struct NothingNamed;

/// Checks everything that `pannier run` would read from these paths, and starts nothing.
///
/// # Errors
/// When no path is named.
pub async fn report(args: &CheckArgs) -> Result<Report, NothingNamed> {
    let paths = args.resources_path.iter().chain(&args.paths);
    let resources = paths.map(|path| format!("--resources-path={}", path.display()));
    let configs = args.config.iter().map(|path| format!("--config={}", path.display()));
    let named: Vec<String> = resources.chain(configs).collect();
    if named.is_empty() {
        return Err(NothingNamed);
    }
    let line = ["pannier", "run"].map(str::to_owned).into_iter().chain(named);
    let Command::Run(run) = Cli::parse_from(line).command else { return Err(NothingNamed) };
    let (settings, found) = settings::read(&run);
    let mut warnings = settings.resources.warnings.clone();
    warnings.extend(found.absent);
    let mut errors = wiring::check(&settings, found.problems).await;
    for (problem, may_come) in files(&settings.resources) {
        if may_come { &mut warnings } else { &mut errors }.push(problem);
    }
    let summary = summary(&settings.resources, errors.len(), warnings.len());
    Ok(Report { errors, warnings, summary })
}

/// Declared subscriptions that could never deliver anything.
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

/// Pub/sub components that a declared subscription names and that nobody has. One that is left out
/// for its own errors, as it asks for, isn't missed.
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

/// Files and variables of uplinks that can't be used, and whether they may still come. An uplink
/// reads them at each connection. Blocks on the disk.
#[must_use]
pub fn files(resources: &Resources) -> Vec<(String, bool)> {
    resources.uplinks.iter().flat_map(files_of).collect()
}

fn files_of(uplink: &Uplink) -> Vec<(String, bool)> {
    let Uplink { name, origin, mqtt, .. } = uplink;
    let at = |field: &str, error: String| {
        format!(
            "{}:{}: uplink {name:?}: spec.mqtt.{field}: {error}",
            origin.file.display(),
            origin.line
        )
    };
    let tls = TlsFiles::of(mqtt).problems().into_iter();
    let tls = tls.map(|(field, error)| (at(field, error.to_string()), error.may_come()));
    let password = mqtt.password.as_ref().and_then(|secret: &Secret| reveal(secret).err());
    let password = password.map(|error| (at("password", error.to_string()), error.may_come()));
    tls.chain(password).collect()
}

/// As in `3 resources in 2 files: no problems`.
fn summary(resources: &Resources, errors: usize, warnings: usize) -> String {
    let Resources { files, documents, .. } = *resources;
    let found = match (errors, warnings) {
        (0, 0) if documents == 0 => {
            return "no resources in the paths given: Pannier would run with its defaults".into();
        }
        (0, 0) => "no problems".to_owned(),
        (0, warnings) => count(warnings, "warning"),
        (errors, 0) => count(errors, "error"),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    };
    format!("{} in {}: {found}", count(documents, "resource"), count(files, "file"))
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
