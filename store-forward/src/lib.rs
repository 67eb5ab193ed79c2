//! The durable memory of a device and the way out of it.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`ids`] | newtypes for every id and sequence number |
//! | [`record`] | what the journal holds: operations that take effect together |
//! | [`limits`] | every bound, with unit and reason |
//! | [`disk`], [`clock`] | the seams to the machine |
//! | [`journal`] | makes a write durable |
//! | [`engine`] | one synchronous step: check, apply, journal, sync, commit |
//! | [`store`] | the async shell around the one writer thread |
//! | [`consumer`] | the one way out: cursors, order, retries, dead letters |
//! | [`topic`] | MQTT topic names and filters |
//! | [`backoff`] | jittered exponential delays |
//! | [`sparing`] | a limit on log lines |
//! | [`error`] | why the store refused |

pub mod backoff;
pub mod clock;
pub mod consumer;
pub mod disk;
pub mod engine;
pub mod error;
pub mod ids;
pub mod journal;
pub mod limits;
pub mod record;
pub mod sparing;
pub mod store;
mod tables;
pub mod topic;

pub use error::Error;
pub use store::{Consumer, Store};
