//! The command line: daprd's names where daprd has one.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Dapr's API over an embedded durable store, for devices at bad links.
#[derive(Parser, Debug)]
#[command(name = "pannier", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the device's apps and uplinks.
    Run(Box<RunArgs>),
    /// Check all the files: print every error, exit with 78 if there is one.
    Check(CheckArgs),
    /// Ask the running process how it is.
    Status(StatusArgs),
    /// Forget a consumer that is not coming back: what waits for it alone goes.
    Forget(ForgetArgs),
    /// Have a consumer try again the messages that it holds or waits to repeat.
    Retry(RetryArgs),
}

/// Flags of `pannier run`.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// The app's id.
    #[arg(long)]
    pub app_id: Option<String>,
    /// Where the app listens. Without it the app is not called.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub app_port: Option<u16>,
    /// How the app is called.
    #[arg(long, default_value = "http", value_parser = ["http"])]
    pub app_protocol: String,
    /// The address that the app listens at.
    #[arg(long, default_value = "127.0.0.1")]
    pub app_channel_address: String,
    /// Calls to the app in flight; -1 is no bound.
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    pub app_max_concurrency: i64,
    /// Port of the HTTP API. 0 takes any free one.
    #[arg(long)]
    pub dapr_http_port: Option<u16>,
    /// Addresses that the API listens at, with commas between.
    #[arg(long, value_delimiter = ',')]
    pub dapr_listen_addresses: Vec<IpAddr>,
    /// Port of `/metrics`; 0 switches it off.
    #[arg(long)]
    pub metrics_port: Option<u16>,
    /// Address that `/metrics` listens at.
    #[arg(long)]
    pub metrics_listen_address: Option<IpAddr>,
    /// Whether there are metrics.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub enable_metrics: Option<bool>,
    /// A file or folder of resources; may be given more than once.
    #[arg(long, visible_alias = "components-path")]
    pub resources_path: Vec<PathBuf>,
    /// A file with a Dapr Configuration; may be given more than once.
    #[arg(long)]
    pub config: Vec<PathBuf>,
    /// Where everything is kept.
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
    /// Bytes of a request's body at most (`4Mi`).
    #[arg(long, default_value = "4Mi", value_parser = body_size)]
    pub max_body_size: usize,
    /// Seconds that a shutdown may take.
    #[arg(long, default_value_t = 5)]
    pub dapr_graceful_shutdown_seconds: u64,
    /// trace, debug, info, warn, error.
    #[arg(long, default_value = "info", value_parser = ["trace", "debug", "info", "warn", "error"])]
    pub log_level: String,
    /// Log as JSON.
    #[arg(long, num_args = 0..=1, default_value_t = false, default_missing_value = "true", require_equals = true)]
    pub log_as_json: bool,
    /// Log each call of the API.
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

/// Makes daprd's ways of saying it ours: `-x` is `--x`, and under the name `daprd` everything is a
/// flag of `run`.
pub fn normalize(args: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut args = args.into_iter();
    let name = args.next().unwrap_or_default();
    let is_daprd = std::path::Path::new(&name).file_name().is_some_and(|name| name == "daprd");
    let mut normal = vec![name];
    if is_daprd {
        normal.push("run".into());
    }
    normal.extend(args.map(|arg| {
        let is_single = arg.starts_with('-') && !arg.starts_with("--") && arg.len() > 2;
        let is_number = arg[1.min(arg.len())..].starts_with(|c: char| c.is_ascii_digit());
        if is_single && !is_number { format!("-{arg}") } else { arg }
    }));
    if is_daprd && normal.iter().any(|arg| arg == "--version") {
        normal.retain(|arg| arg != "run");
    }
    normal
}

fn body_size(text: &str) -> Result<usize, String> {
    let bytes = config::units::parse_bytes(text).map_err(|error| error.to_string())?;
    usize::try_from(bytes).map_err(|_| format!("{text} is more than this machine can address"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(args: &[&str]) -> RunArgs {
        let args = args.iter().map(|arg| (*arg).to_owned());
        match Cli::try_parse_from(normalize(args)).unwrap().command {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        }
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
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
