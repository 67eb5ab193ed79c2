//! The APIs by which apps call.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`stack`] | the token, the limits and the metrics of every API |
//! | [`http`] | Dapr's HTTP API |

pub mod http;
pub mod stack;
