//! Uplinks: ways out of the device. An uplink sends the messages of its routes to a remote, and
//! publishes what its downlinks receive from there.
//!
//! | module | one sentence |
//! | --- | --- |
//! | `context` | the parts of the device that an uplink works with |
//! | `consumers` | one consumer for each store that an uplink's routes read from |
//! | `status` | the state of an uplink, for people and for monitoring |
//! | [`mqtt`] | the uplink to an MQTT broker |

mod consumers;
mod context;
pub mod mqtt;
mod status;

use std::future::Future;

use config::model::Uplink;

pub use context::{Arrival, UplinkComponents, UplinkContext, UplinkError};
pub use status::{LastError, UplinkSnapshot, UplinkStatus};

/// Runs an uplink until `shutdown` resolves and everything in flight has its outcome.
///
/// # Errors
///
/// Fails if the configuration names a component that isn't there, or if the store refuses the
/// consumer; nothing was sent then. A remote that can't be reached is no error.
pub async fn run(
    spec: Uplink,
    context: UplinkContext,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), UplinkError> {
    mqtt::run(spec, context, shutdown).await
}
