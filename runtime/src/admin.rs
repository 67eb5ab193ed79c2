//! The control socket in the data directory, and `pannier status`, which reads it.

pub mod server;
pub mod text;

pub use server::{ComponentStatus, Control, ServedApp, Status, losses};
