//! The building blocks as one app sees them.

pub mod state;

pub use state::StateStores;
