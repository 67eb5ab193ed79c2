//! Dapr's building blocks as typed commands, independent of the protocol that a call comes by.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`fault`] | the one error that blocks return |
//! | [`principal`] | who acts |
//! | [`registry`] | the components that one app may use |
//! | [`app`] | apps: the gate, health, start, and the port of the protocols that call them |
//! | [`pubsub`] | topics: publishing, CloudEvents, subscriptions |
//! | [`state`] | keys and values |
//! | [`json_error`] | errors in JSON texts, in words |

pub mod app;
pub mod fault;
pub mod json_error;
pub mod principal;
pub mod pubsub;
pub mod registry;
pub mod state;

pub use fault::Fault;
pub use principal::Principal;
pub use registry::Registry;
