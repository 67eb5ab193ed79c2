//! The pub/sub building block.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`publish`](mod@publish) | permission, message, component: one message or several |
//! | [`cloudevent`] | the envelope that subscribers see |
//! | [`subscriptions`] | the subscriptions of an app and their settings |
//! | [`runner`] | registers and runs them |
//! | [`subscriber`] | delivers messages to the app |
//! | [`route`] | the route of an event within the app |

pub mod cloudevent;
pub mod publish;
pub mod route;
pub mod runner;
pub mod subscriber;
pub mod subscriptions;

pub use publish::{
    BulkEntry, BulkOutcome, FailedEntry, Permit, Publish, PublishBulk, permit, publish,
    publish_bulk,
};
pub use runner::Subscriptions;
