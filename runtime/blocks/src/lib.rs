//! Dapr's building blocks, independent of the protocol that a call comes by.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`pubsub`] | topics: CloudEvents, routing rules, scopes and subscriptions |
//! | [`state`] | state stores as one app sees them |
//! | [`json_error`] | what is wrong with a JSON text |

pub mod json_error;
pub mod pubsub;
pub mod state;
