//! Ways out of the device.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`mqtt`] | the uplink to an MQTT broker |
//! | `status` | the state of an uplink, for people and for monitoring |

pub mod mqtt;
mod status;

pub use mqtt::{Render, UplinkDeps, UplinkError, run};
pub use status::{LastError, Snapshot, UplinkStatus};
