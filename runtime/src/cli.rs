//! The command line: daprd's names where daprd has one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

/// Columns of the help at most.
const MAX_WIDTH: usize = 100;

const RUN_EXAMPLES: &str = "\
Examples:
  pannier run --app-id shop --app-port 8080
      serve the API at port 3500, and deliver messages to the app at port 8080
  pannier run --resources-path /etc/pannier --data-dir /var/lib/pannier
      serve the apps, components and uplinks in the files of a directory";

const CHECK_EXAMPLES: &str = "\
Examples:
  pannier check /etc/pannier
      check all the files of a directory
  pannier check node.yaml uplink.yaml --config dapr.yaml
      check these files together";

const STATUS_EXAMPLES: &str = "\
Examples:
  sudo pannier status
      show what is wrong with the system's service, and what waits for whom
  pannier status --json --data-dir ./data
      print the same as JSON, for the process with that data directory";

const FORGET_EXAMPLES: &str = "\
Examples:
  pannier forget uplink/old
      delete an uplink that is gone, and the messages that wait for it alone
  pannier forget 'app/shop/pubsub/sensors/#'
      the same for a subscription; quotes keep the shell from reading the name";

const RETRY_EXAMPLES: &str = "\
Examples:
  pannier retry uplink/home
      try again what the broker could not take, after its limit was raised
  pannier retry 'app/shop/pubsub/sensors/#'
      the same for a subscription, without waiting for the next attempt";

const DAPRD_HELP: &str = "\
Called by this name, pannier accepts daprd's flags. Those that concern a control
plane have no effect.";

/// Keeps what programs save and publish on the device's own flash, and sends it on when there is a
/// link. Programs talk to it by Dapr's API.
#[derive(Parser, Debug)]
#[command(name = "pannier", version, about, max_term_width = MAX_WIDTH)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the device's apps and uplinks.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Check the files and what they name: print every problem, exit with 78 if there is an error.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Show what is wrong with the running process, and what waits for whom.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Forget a consumer that is not coming back, and delete what waits for it alone.
    #[command(after_help = FORGET_EXAMPLES)]
    Forget(ForgetArgs),
    /// Try a consumer's held messages again, and those that wait for their next attempt.
    #[command(after_help = RETRY_EXAMPLES)]
    Retry(RetryArgs),
}

/// Flags of `pannier run`.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// The app's id [default: pannier, unless there are App resources]
    #[arg(long)]
    pub app_id: Option<String>,
    /// Port at which the app listens. Without it the app is not called.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub app_port: Option<u16>,
    /// How the app is called.
    #[arg(long, default_value = "http", value_parser = ["http"])]
    pub app_protocol: String,
    /// The address that the app listens at.
    #[arg(long, default_value = "127.0.0.1")]
    pub app_channel_address: String,
    /// Calls to the app at a time; -1 is no limit.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub app_max_concurrency: i64,
    /// Port of the HTTP API; 0 takes any free one [default: 3500]
    #[arg(long)]
    pub dapr_http_port: Option<u16>,
    /// Addresses that the API listens at, separated by commas [default: 127.0.0.1 and ::1]
    #[arg(long, value_delimiter = ',')]
    pub dapr_listen_addresses: Vec<IpAddr>,
    /// Port of `/metrics`; 0 switches it off [default: 9090]
    #[arg(long)]
    pub metrics_port: Option<u16>,
    /// Address that `/metrics` listens at [default: 127.0.0.1 and ::1]
    #[arg(long)]
    pub metrics_listen_address: Option<IpAddr>,
    /// Whether there are metrics [default: true]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enable_metrics: Option<bool>,
    /// A file or folder of resources; may be given more than once.
    #[arg(long, visible_alias = "components-path")]
    pub resources_path: Vec<PathBuf>,
    /// A file with a Dapr Configuration; may be given more than once.
    #[arg(long)]
    pub config: Vec<PathBuf>,
    /// Directory for all data [default: $STATE_DIRECTORY, or $XDG_DATA_HOME/pannier, or
    /// ~/.local/share/pannier]
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Whether the app's health is probed.
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true)]
    pub enable_app_health_check: bool,
    /// The path that is probed.
    #[arg(long, default_value = "/healthz")]
    pub app_health_check_path: String,
    /// Seconds between probes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub app_health_probe_interval: u64,
    /// Milliseconds that a probe may take.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub app_health_probe_timeout: u64,
    /// Failed probes in a row that make the app unhealthy.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub app_health_threshold: u32,
    /// Largest body of a request, in bytes or with a unit.
    #[arg(long, default_value = "4Mi", value_parser = body_size)]
    pub max_body_size: usize,
    /// Seconds that a shutdown waits for calls in flight.
    #[arg(long, default_value_t = 5)]
    pub dapr_graceful_shutdown_seconds: u64,
    /// Least severe messages that are logged.
    #[arg(long, default_value = "info", value_parser = ["trace", "debug", "info", "warn", "error"])]
    pub log_level: String,
    /// Log as JSON.
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true)]
    pub log_as_json: bool,
    /// Log each call of the API [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enable_api_logging: Option<bool>,
    /// daprd's flags that mean nothing here.
    #[command(flatten)]
    pub without_effect: WithoutEffect,
}

macro_rules! without_effect {
    ($($flag:ident),* $(,)?) => {
        /// daprd's flags that are taken and have no effect: there is no control plane.
        #[derive(Args, Debug, Clone, Default)]
        pub struct WithoutEffect {
            $(
                #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
                $flag: Option<String>,
            )*
        }

        impl WithoutEffect {
            /// Those that were given.
            #[must_use]
            pub fn given(&self) -> Vec<String> {
                let mut given = Vec::new();
                $(if self.$flag.is_some() {
                    given.push(format!("--{}", stringify!($flag).replace('_', "-")));
                })*
                given
            }
        }
    };
}

without_effect!(
    allowed_origins,
    control_plane_address,
    control_plane_namespace,
    control_plane_trust_domain,
    dapr_block_shutdown_duration,
    dapr_grpc_port,
    dapr_http_max_request_size,
    dapr_http_read_buffer_size,
    dapr_internal_grpc_listen_address,
    dapr_internal_grpc_port,
    dapr_public_listen_address,
    dapr_public_port,
    disable_builtin_k8s_secret_store,
    disable_init_endpoints,
    enable_mtls,
    enable_profiling,
    mode,
    placement_host_address,
    profile_listen_address,
    profile_port,
    read_buffer_size,
    scheduler_host_address,
    scheduler_job_streams,
    sentry_address,
    sentry_request_jwt_audiences,
    trust_anchors_file,
    unix_domain_socket,
);

/// Flags of `pannier check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// A file or folder of resources; may be given more than once.
    #[arg(long, visible_alias = "components-path")]
    pub resources_path: Vec<PathBuf>,
    /// A file with a Dapr Configuration; may be given more than once.
    #[arg(long)]
    pub config: Vec<PathBuf>,
    /// More files and folders.
    pub paths: Vec<PathBuf>,
}

/// Flags of `pannier status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The data directory of the process to ask: the user's own, or else the system service's,
    /// `/var/lib/pannier`.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `pannier forget`.
#[derive(Args, Debug)]
pub struct ForgetArgs {
    /// The consumer's name, as `pannier status` shows it.
    pub consumer: String,
    /// Delete the backlog of a consumer that is in use; it goes on with the next message.
    #[arg(long)]
    pub force: bool,
    /// The data directory of the process to ask: the user's own, or else the system service's,
    /// `/var/lib/pannier`.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

/// Flags of `pannier retry`.
#[derive(Args, Debug)]
pub struct RetryArgs {
    /// The consumer's name, as `pannier status` shows it.
    pub consumer: String,
    /// The data directory of the process to ask: the user's own, or else the system service's,
    /// `/var/lib/pannier`.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

/// Reads the command line. Under the name `daprd` it is that of [`Command::Run`].
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

/// `pannier run` by another name.
fn daprd() -> clap::Command {
    let pannier = Cli::command();
    let about = pannier.get_about().cloned().unwrap_or_default();
    let daprd = clap::Command::new("daprd").version(env!("CARGO_PKG_VERSION"));
    let daprd = RunArgs::augment_args(daprd).about(about);
    daprd.after_help(DAPRD_HELP).max_term_width(MAX_WIDTH)
}

/// Makes daprd's `-x` a `--x`.
fn normalize(args: impl IntoIterator<Item = String>) -> impl Iterator<Item = String> {
    args.into_iter().map(|arg| {
        let is_single = arg.starts_with('-') && !arg.starts_with("--") && arg.len() > 2;
        let is_number = arg[1.min(arg.len())..].starts_with(|c: char| c.is_ascii_digit());
        if is_single && !is_number { format!("-{arg}") } else { arg }
    })
}

fn body_size(text: &str) -> Result<usize, String> {
    let bytes = config::units::parse_bytes(text).map_err(|error| error.to_string())?;
    usize::try_from(bytes).map_err(|_| format!("{text} is more than this machine can address"))
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

    /// What is said instead of running.
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
    fn sizes_are_read_with_their_units() {
        assert_eq!(run(&["pannier", "run"]).max_body_size, 4 << 20);
        assert_eq!(run(&["pannier", "run", "--max-body-size", "16Mi"]).max_body_size, 16 << 20);
    }

    #[test]
    fn what_is_mistyped_gets_a_suggestion() {
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
