//! The command line: one module per command, with its arguments and its `run`.

pub mod check;
pub mod forget;
pub mod retry;
pub mod run;
pub mod status;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::admin::client::AskError;
use crate::flags::RunArgs;
use crate::{console, logs, settings};
use check::CheckArgs;
use forget::ForgetArgs;
use retry::RetryArgs;
use status::StatusArgs;

/// Largest width of the help in columns.
const MAX_WIDTH: usize = 100;

/// Exit status of other failures.
const EX_FAILURE: u8 = 1;
/// Exit status of a wrong command line, as clap's.
const EX_USAGE: u8 = 2;
/// Exit status of a wrong configuration (`EX_CONFIG` of sysexits.h).
const EX_CONFIG: u8 = 78;

const DAPRD_HELP: &str = "\
Called by this name, pannier accepts daprd's flags. Those that concern a control
plane have no effect.";

/// Keeps what programs save and publish on the device's own flash, and sends it on when there is a
/// link. Programs talk to it by Dapr's API.
#[derive(Parser, Debug)]
#[command(name = "pannier", version, about, max_term_width = MAX_WIDTH)]
pub struct Cli {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the device's apps and uplinks.
    #[command(after_help = run::EXAMPLES)]
    Run(Box<RunArgs>),
    /// Check the files and what they name: print every problem, exit with 78 if there is an error.
    #[command(after_help = check::EXAMPLES)]
    Check(CheckArgs),
    /// Show what is wrong with the running process, and what waits for whom.
    #[command(after_help = status::EXAMPLES)]
    Status(StatusArgs),
    /// Forget a consumer that is not coming back, and delete what waits for it alone.
    #[command(after_help = forget::EXAMPLES)]
    Forget(ForgetArgs),
    /// Try a consumer's held messages again, and those that wait for their next attempt.
    #[command(after_help = retry::EXAMPLES)]
    Retry(RetryArgs),
}

impl Command {
    /// Runs the command to its end.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Run(args) => run::run(&args).await,
            Self::Check(args) => check::run(args).await,
            Self::Status(args) => status::run(args).await,
            Self::Forget(args) => forget::run(args).await,
            Self::Retry(args) => retry::run(args).await,
        }
    }
}

/// The failure of a command.
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Creates a failure with the exit status 1.
    #[must_use]
    pub fn new(message: String) -> Self {
        Self::with_code(message, EX_FAILURE)
    }

    fn with_code(message: String, code: u8) -> Self {
        Self { message, code }
    }

    /// Writes the message to standard error, and returns the exit status.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        logs::say_failure(&self.message);
        ExitCode::from(self.code)
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Self::new(error.to_string())
    }
}

/// Parses the command line. Under the name `daprd` its flags are those of [`Command::Run`].
///
/// # Errors
///
/// When it is wrong, or asks for help or the version.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Cli, clap::Error> {
    let args: Vec<String> = normalize(args).collect();
    let name = args.first().map(Path::new).and_then(Path::file_name);
    if name.is_none_or(|name| name != "daprd") {
        return Cli::try_parse_from(args);
    }
    let matches = daprd().try_get_matches_from(args)?;
    let run = RunArgs::from_arg_matches(&matches).map_err(|error| error.format(&mut daprd()))?;
    Ok(Cli { command: Command::Run(Box::new(run)) })
}

/// Defines `pannier run` under daprd's name.
fn daprd() -> clap::Command {
    let pannier = Cli::command();
    let about = pannier.get_about().cloned().unwrap_or_default();
    let daprd = clap::Command::new("daprd").version(env!("CARGO_PKG_VERSION"));
    let daprd = RunArgs::augment_args(daprd).about(about);
    daprd.after_help(DAPRD_HELP).max_term_width(MAX_WIDTH)
}

/// Adds the second dash to flags that have only one, as daprd takes them.
fn normalize(args: impl IntoIterator<Item = String>) -> impl Iterator<Item = String> {
    args.into_iter().map(|arg| {
        let is_single = arg.starts_with('-') && !arg.starts_with("--") && arg.len() > 2;
        let is_number = arg[1.min(arg.len())..].starts_with(|c: char| c.is_ascii_digit());
        if is_single && !is_number { format!("-{arg}") } else { arg }
    })
}

/// Returns the data directory of the process to ask: the one given, or the default.
fn data_dir_to_ask(given: Option<PathBuf>) -> PathBuf {
    given.or_else(settings::data_dir_to_ask).unwrap_or_default()
}

fn print(text: &str) -> Result<(), Failure> {
    let failure = |error| Failure::new(format!("standard output can't be written: {error}"));
    console::print(text).map_err(failure)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn try_parse(args: &[&str]) -> Result<Cli, clap::Error> {
        parse(args.iter().map(|arg| (*arg).to_owned()))
    }

    fn run(args: &[&str]) -> RunArgs {
        match try_parse(args).unwrap().command {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the message that is shown instead of running.
    fn said(args: &[&str]) -> String {
        try_parse(args).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_of_daprd_is_taken_under_its_name() {
        let args = run(&[
            "/usr/bin/daprd",
            "-app-id",
            "a",
            "--app-port=8080",
            "--enable-metrics=false",
            "--log-as-json",
            "--app-max-concurrency",
            "-1",
            "--placement-host-address",
            "localhost:50005",
            "--enable-mtls",
            "--dapr-grpc-port",
            "50001",
        ]);
        assert_eq!((args.app_id.as_deref(), args.app_port), (Some("a"), Some(8080)));
        assert_eq!((args.enable_metrics, args.log_as_json), (Some(false), true));
        let given = args.without_effect.given();
        assert_eq!(given, ["--dapr-grpc-port", "--enable-mtls", "--placement-host-address"]);
    }

    #[test]
    fn mistyped_commands_and_flags_get_a_suggestion() {
        assert!(said(&["pannier", "statsu"]).contains("'status'"));
        assert!(said(&["pannier", "run", "--ap-port", "1"]).contains("'--app-port'"));
        assert!(said(&["daprd", "-app-di", "a"]).contains("'--app-id'"));
    }

    #[test]
    fn each_command_shows_two_examples() {
        for command in ["run", "check", "status", "forget", "retry"] {
            let help = said(&["pannier", command, "--help"]);
            let examples = help.split("Examples:").nth(1).unwrap_or_default();
            assert_eq!(examples.matches(&format!("pannier {command}")).count(), 2, "{help}");
        }
    }

    #[test]
    fn the_help_shows_defaults() {
        let help = said(&["pannier", "run", "--help"]);
        for default in ["3500", "9090", "127.0.0.1", "4Mi", "info", "/healthz", "$STATE_DIRECTORY"]
        {
            assert!(help.contains(&format!("[default: {default}")), "{default} is not in:\n{help}");
        }
        assert!(!help.contains("]."), "{help}");
    }

    #[test]
    fn under_the_name_daprd_the_help_is_daprds() {
        let help = said(&["/usr/bin/daprd", "--help"]);
        assert!(help.contains("Usage: daprd [OPTIONS]"), "{help}");
        assert!(help.contains("--app-id") && !help.contains("forget"), "{help}");
        assert!(said(&["daprd", "--version"]).starts_with("daprd "));
        let wrong = said(&["daprd", "--app-port", "x"]);
        assert!(wrong.contains("--app-port"), "{wrong}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        daprd().debug_assert();
        Cli::command().debug_assert();
    }
}
