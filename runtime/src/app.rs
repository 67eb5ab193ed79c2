//! Apps: their health and their start.

pub mod health;
pub mod start;
