//! The ports: what the building blocks ask of a component.

pub mod pubsub;
pub mod state;
