//! One suite for every component: it walks the table of component types, so that a new one is tested
//! unasked. Pub/sub components are tested as the building block completes them, among them a fake
//! broker that can do next to nothing.
#![allow(clippy::unwrap_used)]

mod pubsub;
mod recorder;
mod state;
mod subjects;
