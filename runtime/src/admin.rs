//! The control socket in the data directory, by which `pannier status`, `forget` and `retry` talk to
//! the running process. Its mode admits the process's own user and root.

pub mod client;
pub mod messages;
pub mod server;
pub mod text;

pub use messages::{AppReadiness, AppStatus, ComponentStatus, Status};
pub use server::{Control, ServedApp, losses};

/// The socket's name in the data directory.
const SOCKET: &str = "control.sock";

#[cfg(test)]
mod tests;
