//! The process `pannier`: Dapr's API over the store, the apps, the ways out.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`cli`] | the command line: one module per command |
//! | [`flags`] | the flags of `pannier run`, with daprd's names |
//! | [`settings`] | flags and files together |
//! | [`check`] | what is wrong with settings, found before anything starts |
//! | [`secret`] | passwords and tokens, from where a resource says |
//! | [`serve`] | HTTP to whoever connects, within bounds |
//! | [`wiring`] | who owns what, from start to drain |
//! | [`assemble`] | from `Component` resources to building blocks |
//! | [`api`] | the APIs by which apps call |
//! | [`channel`] | the protocols by which apps are called |
//! | [`uplink`] | the ways out of the device |
//! | [`tls`] | TLS by rustls, from files that may be renewed |
//! | [`admin`] | the control socket, its client, and the text of `pannier status` |
//! | [`ready`] | what is told once the start is over |
//! | [`metrics`] | `/metrics` |
//! | [`panics`] | the last word of a process that can't go on |
//! | [`logs`] | what is logged and how |
//! | [`console`] | standard output, as the commands use it |
//! | [`text`] | durations, sizes and names as people read them |
//! | [`signals`] | the signals that ask for the end |
//! | [`systemd`] | what the service manager is told |

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
