//! The pub/sub components.

pub(crate) mod in_memory;
pub(crate) mod redb;
