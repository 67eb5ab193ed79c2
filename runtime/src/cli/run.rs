//! `pannier run`.

use components::stop::Stopper;

use super::{EX_CONFIG, Failure};
use crate::flags::RunArgs;
use crate::ready::Ready;
use crate::settings::{self, Settings};
use crate::signals::stop_on_signal;
use crate::systemd::{self, Notice};
use crate::wiring::{self, StartError};
use crate::{check, logs, panics};

pub(super) const EXAMPLES: &str = "\
Examples:
  pannier run --app-id shop --app-port 8080
      serve the API at port 3500, and deliver messages to the app at port 8080
  pannier run --resources-path /etc/pannier --data-dir /var/lib/pannier
      serve the apps, components and uplinks in the files of a directory";

/// Runs the device's apps and uplinks until a signal or an API call stops the process.
///
/// # Errors
///
/// When the configuration is wrong, or the process can't start or end cleanly.
pub async fn run(args: &RunArgs) -> Result<(), Failure> {
    logs::init(&args.log_level, args.log_as_json)
        .map_err(|error| Failure::new(format!("logging can't be started: {error}")))?;
    panics::explain();
    let (settings, found) = settings::read(args);
    let problems = check::by_building(&settings, found.at_a_start()).await;
    if !problems.is_empty() {
        return Err(Failure::with_code(problems.join("\n"), EX_CONFIG));
    }
    warn(&settings);
    let stopper = Stopper::default();
    tokio::spawn(stop_on_signal(stopper.clone()));
    let as_json = args.log_as_json;
    let ended = wiring::run(settings, stopper, move |ready| announce(ready, as_json)).await;
    ended.map_err(|error| match error {
        StartError::Configuration(problems) => Failure::with_code(problems.join("\n"), EX_CONFIG),
        error => Failure::new(error.to_string()),
    })
}

fn warn(settings: &Settings) {
    for warning in &settings.resources.warnings {
        tracing::warn!(warning, "configuration warning");
    }
    // No error: the files may appear later, and without an uplink the device still keeps its data.
    for problem in check::files(&settings.resources) {
        tracing::warn!(problem = problem.text, "a file that an uplink needs can't be used");
    }
    if !settings.without_effect.is_empty() {
        let flags = settings.without_effect.join(" ");
        tracing::info!(flags, "flags of daprd were accepted and have no effect");
    }
}

/// Tells people or the log, and the service manager, that the start is over.
fn announce(ready: &Ready, as_json: bool) {
    if logs::is_for_people(as_json) {
        logs::say(&ready.text());
    } else {
        ready.log();
    }
    tokio::spawn(notify_systemd());
}

/// Reports readiness to systemd, and then feeds its watchdog if there is one.
async fn notify_systemd() {
    systemd::notify(Notice::Ready);
    let Some(patience) = systemd::watchdog() else { return };
    let mut ticks = tokio::time::interval(patience / 2);
    loop {
        ticks.tick().await;
        systemd::notify(Notice::Watchdog);
    }
}
