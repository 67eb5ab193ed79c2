//! The process `pannier`: Dapr's API over an embedded store, calls to apps, and uplinks.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`cli`] | the command line: one module per command |
//! | [`flags`] | the flags of `pannier run`, with daprd's names |
//! | [`settings`] | flags and files together |
//! | [`check`] | checks of settings before anything starts |
//! | [`secret`] | passwords and tokens from files and environment variables |
//! | [`serve`] | the HTTP server, with bounds on connections, time and memory |
//! | [`wiring`] | ownership of all parts, from the start to the drain |
//! | [`assemble`] | builds components from `Component` resources |
//! | [`api`] | the APIs by which apps call |
//! | [`channel`] | the protocols by which apps are called |
//! | [`uplink`] | connections to brokers, which carry messages up and down |
//! | [`tls`] | TLS by rustls, with files that may be renewed |
//! | [`admin`] | the control socket, its client, and the text of `pannier status` |
//! | [`ready`] | the summary at the end of the start |
//! | [`metrics`] | `/metrics` |
//! | [`panics`] | reports a panic before the process ends |
//! | [`logs`] | the log and its formats |
//! | [`console`] | standard output, as the commands use it |
//! | [`text`] | durations, sizes and names in a readable form |
//! | [`signals`] | the signals that request a shutdown |
//! | [`systemd`] | notifications to the service manager |

pub mod admin;
pub mod api;
pub mod assemble;
pub mod channel;
pub mod check;
pub mod cli;
pub mod console;
pub mod flags;
pub mod logs;
pub mod metrics;
pub mod panics;
pub mod ready;
pub mod secret;
pub mod serve;
pub mod settings;
pub mod signals;
pub mod systemd;
pub mod text;
pub mod tls;
pub mod uplink;
pub mod wiring;
