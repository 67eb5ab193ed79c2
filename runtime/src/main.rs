//! `pannier`: parses, builds, runs, drains.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use runtime::admin::client::{ask, ask_json};
use runtime::admin::messages::{ForgetConsumer, ForgottenBacklog, GetStatus, RetryConsumer};
use runtime::cli::{self, CheckArgs, Command, ForgetArgs, RetryArgs, RunArgs, StatusArgs};
use runtime::ready::Ready;
use runtime::settings::{self, Settings};
use runtime::signals::StopSignals;
use runtime::systemd::{self, Notice};
use runtime::wiring::{self, StartError};
use runtime::{admin, check, console, logs, panics, text};
use tokio::sync::watch;

/// The configuration is wrong (`EX_CONFIG` of sysexits.h).
const EX_CONFIG: u8 = 78;
/// The command line is wrong: clap's code.
const EX_USAGE: u8 = 2;
/// Most threads that serve calls: a small board has no more cores, and each costs memory.
const MAX_WORKERS: usize = 4;

/// Gives back what a burst of large calls has freed: a board of 512 MB misses it, and the allocators
/// of glibc and of zig's musl keep it.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let cli = cli::parse(std::env::args()).unwrap_or_else(|error| error.exit());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(MAX_WORKERS))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("threads can't be started: {error}"), 1),
    };
    let code = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run(&args).await,
            Command::Check(args) => check(args).await,
            Command::Status(args) => status(args).await,
            Command::Forget(args) => forget(args).await,
            Command::Retry(args) => retry(args).await,
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    logs::flush();
    code
}

async fn run(args: &RunArgs) -> ExitCode {
    if let Err(error) = logs::init(&args.log_level, args.log_as_json) {
        return fail(&format!("logging can't be started: {error}"), 1);
    }
    panics::explain();
    let (settings, found) = settings::read(args);
    let problems = wiring::check(&settings, found.at_a_start()).await;
    if !problems.is_empty() {
        return fail(&problems.join("\n"), EX_CONFIG);
    }
    warn(&settings);
    let (stop, _) = watch::channel(false);
    tokio::spawn(stop_on_signal(stop.clone()));
    let as_json = args.log_as_json;
    let ready = move |ready: &Ready| {
        if logs::is_for_people(as_json) {
            logs::say(&ready.text());
        } else {
            ready.log();
        }
        tokio::spawn(notify_systemd());
    };
    match wiring::run(settings, stop, ready).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Configuration(problems)) => fail(&problems.join("\n"), EX_CONFIG),
        Err(error) => fail(&error.to_string(), 1),
    }
}

fn warn(settings: &Settings) {
    for warning in &settings.resources.warnings {
        tracing::warn!(warning, "configuration warning");
    }
    // They may be renewed while we run, and without an uplink the device still keeps what it is given.
    for (problem, _) in check::files(&settings.resources) {
        tracing::warn!(problem, "a file that an uplink needs can't be used");
    }
    if !settings.without_effect.is_empty() {
        let flags = settings.without_effect.join(" ");
        tracing::info!(flags, "flags of daprd were accepted and have no effect");
    }
}

async fn stop_on_signal(stop: watch::Sender<bool>) {
    let Ok(mut signals) = StopSignals::catch() else {
        return tracing::warn!("failed to catch signals, so a stop will be a crash");
    };
    loop {
        let forces = signals.next().await;
        if stop.send_replace(true) && forces {
            tracing::warn!("stopping at once, as a second signal asked");
            logs::exit(1);
        }
    }
}

/// Tells systemd that we are ready, and again and again that we are alive.
async fn notify_systemd() {
    systemd::notify(Notice::Ready);
    let Some(patience) = systemd::watchdog() else { return };
    let mut ticks = tokio::time::interval(patience / 2);
    loop {
        ticks.tick().await;
        systemd::notify(Notice::Watchdog);
    }
}

async fn check(args: CheckArgs) -> ExitCode {
    let report = match check::report(&args).await {
        Ok(report) => report,
        Err(nothing) => return fail(&nothing.to_string(), EX_USAGE),
    };
    for warning in &report.warnings {
        logs::say(&format!("warning: {warning}\n"));
    }
    if report.errors.is_empty() {
        return print(&format!("{}\n", report.summary));
    }
    fail(&format!("{}\n{}", report.errors.join("\n"), report.summary), EX_CONFIG)
}

async fn status(args: StatusArgs) -> ExitCode {
    let data_dir = data_dir(args.data_dir);
    let text = if args.json {
        ask_json(&data_dir, &GetStatus).await.map(|status| text::json(&status))
    } else {
        let status = ask(&data_dir, &GetStatus).await;
        status.map(|status| admin::text::render(&status, console::width()))
    };
    match text {
        Ok(text) => print(&text),
        Err(error) => fail(&error.to_string(), 1),
    }
}

async fn forget(args: ForgetArgs) -> ExitCode {
    let ForgetArgs { consumer, force, data_dir } = args;
    let request = ForgetConsumer { consumer, force };
    match ask(&self::data_dir(data_dir), &request).await {
        Ok(ForgottenBacklog { deleted, kept }) => {
            let messages = text::count(deleted, "message", "messages");
            let alone = match deleted {
                0 => "",
                1 => " (nobody else waits for it)",
                _ => " (nobody else waits for them)",
            };
            let stay = if kept == 1 { "stays" } else { "stay" };
            print(&format!(
                "forgot {}: {messages} deleted{alone}, {kept} {stay} for others\n",
                text::escape(&request.consumer)
            ))
        }
        Err(error) => fail(&error.to_string(), 1),
    }
}

async fn retry(args: RetryArgs) -> ExitCode {
    let RetryArgs { consumer, data_dir } = args;
    let request = RetryConsumer { consumer };
    match ask(&self::data_dir(data_dir), &request).await {
        Ok(held) => {
            let messages = text::count(held, "held message", "held messages");
            print(&format!("{} tries {messages} again\n", text::escape(&request.consumer)))
        }
        Err(error) => fail(&error.to_string(), 1),
    }
}

fn data_dir(given: Option<PathBuf>) -> PathBuf {
    given.or_else(settings::data_dir_to_ask).unwrap_or_default()
}

fn print(text: &str) -> ExitCode {
    match console::print(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("standard output can't be written: {error}"), 1),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    logs::say_failure(message);
    ExitCode::from(code)
}
