//! The pub/sub building block.

pub mod cloudevent;
pub mod route;
pub mod scope;
pub mod subscriptions;
