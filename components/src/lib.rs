//! What stands behind the building blocks: each component is a file and a line in the registry.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`port`] | what a state store and a pub/sub component can do |
//! | `state` | the state stores |
//! | `pubsub` | the pub/sub components |
//! | [`metadata`] | a component's settings, taken one by one; what is left over is an error |
//! | [`Refusal`] | why a component did not do it |
//! | [`stop`] | a request to stop, from those who make it to what runs |
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

pub use store_forward::{backoff, clock, sparing, topic};

pub use context::{BuildError, Context};
pub use embedded::Embedded;
pub use metadata::{Metadata, MetadataError};
pub use port::pubsub::{PubSub, SubscribeSpec};
pub use port::state::{EtagCondition, Item, StateError, StateOp, StateStore};
pub use refusal::{Refusal, RefusalKind};
pub use registry::{Built, build};
