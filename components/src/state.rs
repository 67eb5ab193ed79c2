//! The state stores.

pub(crate) mod in_memory;
pub(crate) mod redb;
