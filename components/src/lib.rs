//! The components behind the building blocks: each is one file and one line of the registry.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`port`] | the traits of state stores and pub/sub components |
//! | `state` | the state stores |
//! | `pubsub` | the pub/sub components |
//! | [`metadata`] | a component's settings, taken one by one; each that is left over is an error |
//! | [`context`] | the context that a component is built in, and the errors of building |
//! | [`embedded`] | the node's store, opened by the first component that needs it |
//! | [`Refusal`] | the error of a component |
//! | [`stop`] | a request to stop |
//! | [`registry`] | the one table from a type's name to its constructor |

pub mod context;
pub mod embedded;
pub mod metadata;
pub mod port;
mod pubsub;
mod refusal;
pub mod registry;
mod state;
pub mod stop;

pub use store_forward::{backoff, clock, topic};

pub use context::{BuildError, Context};
pub use embedded::Embedded;
pub use metadata::{Metadata, MetadataError};
pub use port::pubsub::{PubSub, SubscribeSpec};
pub use port::state::{EtagCondition, Item, StateError, StateOp, StateStore};
pub use refusal::{Refusal, RefusalKind};
pub use registry::{Built, build};
