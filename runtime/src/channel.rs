//! The protocols by which apps are called.

pub mod http;
