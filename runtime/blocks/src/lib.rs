//! Dapr's building blocks as typed commands, independent of the protocol of the call.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`fault`] | the one error type that blocks return |
//! | [`principal`] | the actor of a command, to whom scopes apply |
//! | [`registry`] | the components that one app may use, and the rules for their use |
//! | [`app`] | apps: gate, health, start, and the trait of the protocols that call them |
//! | [`pubsub`] | topics: publishing, CloudEvents, subscriptions |
//! | [`state`] | keys and values |
//! | [`json_error`] | error messages for invalid JSON |

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
