//! Flags of `pannier run`: daprd's names where daprd has the flag too.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser};

/// Flags of `pannier run`.
#[derive(Parser, Debug, Clone)]
pub struct RunArgs {
    /// The app's id [default: pannier, unless there are App resources]
    #[arg(long)]
    pub app_id: Option<String>,
    /// Port at which the app listens. Without it the app is not called.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub app_port: Option<u16>,
    /// Protocol by which the app is called.
    #[arg(long, default_value = "http", value_parser = ["http"])]
    pub app_protocol: String,
    /// The address that the app listens at.
    #[arg(long, default_value = "127.0.0.1")]
    pub app_channel_address: String,
    /// Calls to the app at a time; -1 stands for 100.
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
    /// Serve metrics [default: true]
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
    /// Probe the app's health.
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

fn body_size(text: &str) -> Result<usize, String> {
    let bytes = config::units::parse_bytes(text).map_err(|error| error.to_string())?;
    usize::try_from(bytes).map_err(|_| format!("{text} is more than this machine can address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> RunArgs {
        RunArgs::parse_from([&["pannier"], args].concat())
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(parse(&[]).max_body_size, 4 << 20);
        assert_eq!(parse(&["--max-body-size", "16Mi"]).max_body_size, 16 << 20);
    }

    #[test]
    fn flags_without_effect_are_listed_as_they_were_given() {
        let args = parse(&["--enable-mtls", "--dapr-grpc-port", "50001", "--mode=standalone"]);
        assert_eq!(args.without_effect.given(), ["--dapr-grpc-port", "--enable-mtls", "--mode"]);
    }
}
