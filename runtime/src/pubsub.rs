//! The pub/sub building block: publishing, and the subscriptions of each app.

pub mod answer;
pub mod deliver;
pub mod runner;

pub use blocks::pubsub::{cloudevent, route, scope, subscriptions};

use std::collections::BTreeMap;
use std::sync::Arc;

use components::{PubSub, Refusal};
use store_forward::record::NewMessage;
use store_forward::store::Identity;
use store_forward::topic::{self, Illegal};

use self::scope::{Operation, TopicScopes};

pub use self::runner::Subscriptions;

/// A pub/sub component and who may use it.
#[derive(Clone)]
pub struct Entry {
    /// The component.
    pub component: Arc<dyn PubSub>,
    /// The identity of the store it stands on, of which event ids are made. A store in memory has
    /// another epoch each time: it starts to count anew.
    pub identity: Identity,
    /// Which app may use which topic.
    pub topics: TopicScopes,
    /// App ids that may use it; empty means all.
    pub apps: Vec<String>,
    /// Bytes that a topic's name may have in its store.
    pub max_topic_bytes: usize,
}

/// Why a publish failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no pub/sub component at all for this app.
    #[error("pubsub {pubsub} is not configured")]
    NotConfigured {
        /// The component asked for.
        pubsub: String,
    },
    /// There is none of that name for this app.
    #[error("pubsub {pubsub} is not found")]
    NotFound {
        /// The component asked for.
        pubsub: String,
    },
    /// The component's name is empty.
    #[error("pubsub name is empty")]
    NameEmpty,
    /// The topic's name is empty.
    #[error("topic is empty in pubsub {pubsub}")]
    TopicEmpty {
        /// The component.
        pubsub: String,
    },
    /// The topic's name is too long.
    #[error(
        "the topic's name has {bytes} bytes, the limit of pubsub {pubsub} is {limit}: shorten it, or raise spec.limits.maxTopic in the Node resource"
    )]
    TopicTooLong {
        /// The component.
        pubsub: String,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The topic's name holds a character that no published topic may hold.
    #[error(
        "nothing can be published to topic {topic:?} in pubsub {pubsub}: {illegal}; leave it out"
    )]
    TopicIllegal {
        /// The component.
        pubsub: String,
        /// The topic.
        topic: String,
        /// What is wrong with it.
        illegal: Illegal,
    },
    /// The app may not publish to this topic.
    #[error("topic {topic} is not allowed for app id {app_id}")]
    Forbidden {
        /// The component.
        pubsub: String,
        /// The topic.
        topic: String,
        /// Who asked.
        app_id: String,
    },
    /// The component refused.
    #[error("error when publishing to topic {topic} in pubsub {pubsub}: {cause}")]
    Failed {
        /// The component.
        pubsub: String,
        /// The topic.
        topic: String,
        /// Why.
        cause: Refusal,
    },
}

/// The pub/sub components of this device.
#[derive(Clone, Default)]
pub struct PubSubBlock {
    entries: BTreeMap<String, Entry>,
}

impl PubSubBlock {
    /// The components by their names.
    #[must_use]
    pub fn new(entries: BTreeMap<String, Entry>) -> Self {
        Self { entries }
    }

    /// Publishes messages to a topic: all of them durably, or none.
    ///
    /// # Errors
    /// When the component or the topic isn't there for this app, or the store refuses.
    pub async fn publish(
        &self,
        app_id: &str,
        pubsub: &str,
        topic: &str,
        messages: Vec<NewMessage>,
    ) -> Result<(), PublishError> {
        let entry = self.check(app_id, pubsub, topic)?;
        let messages = messages.into_iter().map(|message| (topic.to_owned(), message)).collect();
        entry.component.publish(messages).await.map_err(|cause| PublishError::Failed {
            pubsub: pubsub.to_owned(),
            topic: topic.to_owned(),
            cause,
        })
    }

    /// Whether this app may publish to this topic.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, app_id: &str, pubsub: &str, topic: &str) -> Result<&Entry, PublishError> {
        let name = || pubsub.to_owned();
        if !self.entries.values().any(|entry| entry.is_for(app_id)) {
            return Err(PublishError::NotConfigured { pubsub: name() });
        }
        if pubsub.is_empty() {
            return Err(PublishError::NameEmpty);
        }
        let Some(entry) = self.entry(app_id, pubsub) else {
            return Err(PublishError::NotFound { pubsub: name() });
        };
        if topic.is_empty() {
            return Err(PublishError::TopicEmpty { pubsub: name() });
        }
        let limit = entry.max_topic_bytes.min(topic::MAX_NAME_BYTES);
        if topic.len() > limit {
            return Err(PublishError::TopicTooLong { pubsub: name(), bytes: topic.len(), limit });
        }
        if let Err(illegal) = topic::check_name(topic) {
            let topic = topic.to_owned();
            return Err(PublishError::TopicIllegal { pubsub: name(), topic, illegal });
        }
        if !entry.topics.allows(Operation::Publish, app_id, topic) {
            let (topic, app_id) = (topic.to_owned(), app_id.to_owned());
            return Err(PublishError::Forbidden { pubsub: name(), topic, app_id });
        }
        Ok(entry)
    }

    /// The component of that name, if this app may use it.
    #[must_use]
    pub fn entry(&self, app_id: &str, pubsub: &str) -> Option<&Entry> {
        self.entries.get(pubsub).filter(|entry| entry.is_for(app_id))
    }

    /// All components by their names, whoever may use them.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }
}

impl Entry {
    fn is_for(&self, app_id: &str) -> bool {
        self.apps.is_empty() || self.apps.iter().any(|allowed| allowed == app_id)
    }
}

#[cfg(test)]
pub(crate) mod tests;
