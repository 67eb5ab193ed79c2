//! The process `pannier`: Dapr's API over the store, the apps, the ways out.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`cli`] | the command line, with daprd's names |
//! | [`settings`] | flags and files together |
//! | [`check`] | what is wrong with settings, found before anything starts |
//! | [`secret`] | passwords and tokens, from where a resource says |
//! | [`serve`] | HTTP to whoever connects, within bounds |
//! | [`wiring`] | who owns what, from start to drain |
//! | [`load`] | from `Component` resources to building blocks |
//! | [`api`] | the HTTP API of one app |
//! | [`blocks`] | the building blocks as one app sees them |
//! | [`pubsub`] | publishing, and each app's subscriptions |
//! | [`app`] | the channel back to an app |
//! | [`uplink`] | the ways out of the device |
//! | [`tls`] | TLS by rustls, from files that may be renewed |
//! | [`control`] | the socket that `pannier status` asks |
//! | [`json_error`] | what is wrong with a JSON text |
//! | [`report`] | `pannier status` for people |
//! | [`ready`] | what is told once the start is over |
//! | [`metrics`] | `/metrics` |
//! | [`panics`] | the last word of a process that can't go on |
//! | [`logs`] | what is logged and how |
//! | [`console`] | standard output, as the commands use it |
//! | [`text`] | durations, sizes and names as people read them |
//! | [`signals`] | the signals that ask for the end |
//! | [`systemd`] | what the service manager is told |

pub mod api;
pub mod app;
pub mod blocks;
pub mod check;
pub mod cli;
pub mod console;
pub mod control;
pub mod json_error;
pub mod load;
pub mod logs;
pub mod metrics;
pub mod panics;
pub mod pubsub;
pub mod ready;
pub mod report;
pub mod secret;
pub mod serve;
pub mod settings;
pub mod signals;
pub mod systemd;
pub mod text;
pub mod tls;
pub mod uplink;
pub mod wiring;
