//! What stands behind the building blocks: each component is a file and a line in the registry.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`state`] | what a state store can do, and the stores |
//! | [`pubsub`] | what a pub/sub component can do, and the components |
//! | [`metadata`] | a component's settings, taken one by one; what is left over is an error |
//! | [`Refusal`] | why a component did not do it |
//! | [`stop`] | a request to stop, from those who make it to what runs |
//! | [`registry`] | the one table from a type's name to its constructor |

pub mod metadata;
pub mod pubsub;
mod refusal;
pub mod registry;
pub mod state;
pub mod stop;

pub use metadata::{Metadata, MetadataError};
pub use pubsub::{PubSub, SubscribeSpec};
pub use refusal::Refusal;
pub use registry::{BuildError, Built, Context, build};
pub use state::{EtagCondition, Item, StateError, StateOp, StateStore};
