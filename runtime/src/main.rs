//! `pannier`: parses, builds, runs, drains.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use runtime::cli::{
    CheckArgs, Cli, Command, ForgetArgs, RetryArgs, RunArgs, StatusArgs, normalize,
};
use runtime::settings::{self, Settings};
use runtime::systemd::{self, Notice};
use runtime::wiring::{self, StartError};
use runtime::{control, logs, panics, report};
use tokio::sync::watch;

/// The configuration is wrong (`EX_CONFIG` of sysexits.h).
const EX_CONFIG: u8 = 78;
/// Most threads that serve calls: a small board has no more cores, and each costs memory.
const MAX_WORKERS: usize = 4;

/// Gives back what a burst of large calls has freed: a board of 512 MB misses it, and the allocators
/// of glibc and of zig's musl keep it.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let cli = Cli::parse_from(normalize(std::env::args()));
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
    code
}

async fn run(args: &RunArgs) -> ExitCode {
    logs::init(&args.log_level, args.log_as_json);
    panics::explain_damage();
    let (settings, problems) = settings::read(args);
    let problems = wiring::check(&settings, problems).await;
    if !problems.is_empty() {
        return fail(&problems.join("\n"), EX_CONFIG);
    }
    warn(&settings);
    let (stop, _) = watch::channel(false);
    tokio::spawn(stop_on_signal(stop.clone()));
    let ready = |addresses: &[String]| {
        tracing::info!(http = addresses.join(" "), "pannier is ready");
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
        tracing::warn!(warning, "a file says something that is not acted on");
    }
    if !settings.without_effect.is_empty() {
        let flags = settings.without_effect.join(" ");
        tracing::info!(flags, "flags of daprd are taken and have no effect");
    }
}

async fn stop_on_signal(stop: watch::Sender<bool>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return tracing::warn!("signals can't be caught, a stop will be a crash");
    };
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        if stop.send_replace(true) {
            tracing::warn!("asked a second time, stops at once");
            std::process::exit(1);
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
    let mut line = vec!["pannier".to_owned(), "run".to_owned()];
    let resources = args.resources_path.iter().chain(&args.paths);
    line.extend(resources.map(|path| format!("--resources-path={}", path.display())));
    line.extend(args.config.iter().map(|path| format!("--config={}", path.display())));
    let Command::Run(run) = Cli::parse_from(line).command else { return ExitCode::FAILURE };
    let (settings, problems) = settings::read(&run);
    for warning in &settings.resources.warnings {
        eprintln!("warning: {warning}");
    }
    let problems = wiring::check(&settings, problems).await;
    if !problems.is_empty() {
        return fail(&problems.join("\n"), EX_CONFIG);
    }
    println!("all is well");
    ExitCode::SUCCESS
}

async fn status(args: StatusArgs) -> ExitCode {
    let answer = match control::ask(&data_dir(args.data_dir), "GET", "/status").await {
        Ok(answer) => answer,
        Err(error) => return fail(&error.to_string(), 1),
    };
    let value: serde_json::Value = match serde_json::from_slice(&answer) {
        Ok(value) => value,
        Err(error) => return fail(&format!("the answer can't be read: {error}"), 1),
    };
    if args.json {
        println!("{value:#}");
    } else {
        print!("{}", report::text(&value));
    }
    ExitCode::SUCCESS
}

async fn forget(args: ForgetArgs) -> ExitCode {
    let path = format!("/consumers/{}", args.consumer);
    match control::ask(&data_dir(args.data_dir), "DELETE", &path).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), 1),
    }
}

async fn retry(args: RetryArgs) -> ExitCode {
    let RetryArgs { consumer, data_dir } = args;
    match control::ask_to_retry(&self::data_dir(data_dir), &consumer).await {
        Ok(held) => {
            let messages = if held == 1 { "message" } else { "messages" };
            println!("{} tries {held} held {messages} again", consumer.escape_debug());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.to_string(), 1),
    }
}

fn data_dir(given: Option<PathBuf>) -> PathBuf {
    given.or_else(settings::data_dir_to_ask).unwrap_or_default()
}

fn fail(message: &str, code: u8) -> ExitCode {
    logs::say_failure(message);
    ExitCode::from(code)
}
