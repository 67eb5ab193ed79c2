//! The APIs by which apps call.

pub mod http;
