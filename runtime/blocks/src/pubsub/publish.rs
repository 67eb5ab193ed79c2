//! Publishing: one message, or several in one record.

use std::collections::HashSet;
use std::sync::Arc;

use components::port::pubsub::{Outgoing, PublishError};
use components::topic;

use super::cloudevent::{self, AcceptError, Content};
use super::complete;
use crate::fault::{Detail, Fault, Kind, Metadata, Reason};
use crate::json_error::explain;
use crate::principal::Principal;
use crate::registry::scope::TopicAccess;
use crate::registry::{PubSubComponent, Registry};

/// A message to be published.
#[derive(Debug)]
pub struct Publish<'a> {
    /// The component.
    pub pubsub: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The payload, its type and its metadata.
    pub content: Content<'a>,
}

/// Messages to be published together.
#[derive(Debug)]
pub struct PublishBulk<'a> {
    /// The component.
    pub pubsub: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// Metadata of the request, for every message; a message's own overrides it.
    pub metadata: &'a Metadata,
    /// The W3C `traceparent`.
    pub traceparent: Option<&'a str>,
    /// The W3C `tracestate`.
    pub tracestate: Option<&'a str>,
    /// The messages.
    pub entries: Vec<BulkEntry>,
}

/// One message of several.
#[derive(Debug)]
pub struct BulkEntry {
    /// The caller's id for it, unique within the bulk.
    pub id: String,
    /// The payload.
    pub data: Vec<u8>,
    /// The payload's media type.
    pub content_type: String,
    /// The message's own metadata.
    pub metadata: Metadata,
}

/// The messages of a bulk that were not published.
#[derive(Debug, Default)]
pub struct BulkOutcome {
    /// The messages and the reasons.
    pub failed: Vec<FailedEntry>,
    /// The component's refusal, if the bulk came that far.
    pub fault: Option<Fault>,
}

/// A message of a bulk that was not published.
#[derive(Debug)]
pub struct FailedEntry {
    /// The caller's id for it.
    pub id: String,
    /// The reason.
    pub error: String,
}

/// The permission to publish to one topic.
pub struct Permit {
    component: Arc<PubSubComponent>,
    topic: String,
}

/// Publishes one message; on return it is durable if the component is.
///
/// # Errors
///
/// When the component or the topic isn't there for the caller, the message is invalid, or the
/// component refuses.
pub async fn publish(
    registry: &Registry,
    by: &Principal,
    publish: Publish<'_>,
) -> Result<(), Fault> {
    let Publish { pubsub, topic, content } = publish;
    let metadata = content.metadata;
    let permit = permit(registry, by, pubsub, topic).map_err(|f| f.with_request(metadata))?;
    let message = cloudevent::accept(content, by.name());
    let message = message.map_err(|error| unacceptable(pubsub, by, metadata, error))?;
    permit.publish(vec![message]).await
}

/// Publishes the valid messages of a bulk in one record. Returns the others with their errors.
///
/// # Errors
///
/// When the component or the topic isn't there for the caller, or an id is missing or repeated.
pub async fn publish_bulk(
    registry: &Registry,
    by: &Principal,
    bulk: PublishBulk<'_>,
) -> Result<BulkOutcome, Fault> {
    let PublishBulk { pubsub, topic, metadata, traceparent, tracestate, entries } = bulk;
    let permit = permit(registry, by, pubsub, topic).map_err(|f| f.with_request(metadata))?;
    check_ids(&entries).map_err(|cause| unserializable(pubsub, topic, by, cause))?;

    // An invalid message fails alone.
    let mut outcome = BulkOutcome::default();
    let mut ids = Vec::with_capacity(entries.len());
    let mut messages = Vec::with_capacity(entries.len());
    for BulkEntry { id, data, content_type, metadata: own } in entries {
        let mut metadata = metadata.clone();
        metadata.extend(own);
        let content = Content {
            data,
            content_type: Some(&content_type),
            metadata: &metadata,
            traceparent,
            tracestate,
        };
        match cloudevent::accept(content, by.name()) {
            Ok(message) => {
                ids.push(id);
                messages.push(message);
            }
            Err(error) => outcome.failed.push(FailedEntry { id, error: error.to_string() }),
        }
    }
    if messages.is_empty() {
        return Ok(outcome);
    }

    // A component that publishes only some of them names those that failed.
    let PublishError { refusal, failed } = match permit.send(messages).await {
        Ok(()) => return Ok(outcome),
        Err(error) => error,
    };
    let fault = permit.refused(PublishError { refusal, failed: None });
    let is_failed = |at: &usize| failed.as_ref().is_none_or(|failed| failed.contains(at));
    let lost = ids.into_iter().enumerate().filter(|(at, _)| is_failed(at));
    let error = &fault.message;
    outcome.failed.extend(lost.map(|(_, id)| FailedEntry { id, error: error.clone() }));
    outcome.fault = Some(fault);
    Ok(outcome)
}

/// Returns the permission to publish to a topic, if its name is valid and scopes allow it.
///
/// # Errors
///
/// When there is no such component for the caller, the name can't be used, or a scope forbids it.
pub fn permit(
    registry: &Registry,
    by: &Principal,
    pubsub: &str,
    topic: &str,
) -> Result<Permit, Fault> {
    if registry.pubsub.is_empty() {
        let message = format!("pubsub {pubsub} is not configured");
        return Err(unknown(Kind::Invalid, Reason::PubSubNotConfigured, message));
    }
    if pubsub.is_empty() {
        let empty = Fault::new(Kind::NotFound, Reason::PubSubNameEmpty, "pubsub name is empty");
        return Err(about(empty, "", None));
    }
    let Some(component) = registry.pubsub.get(pubsub) else {
        let message = format!("pubsub {pubsub} is not found");
        return Err(unknown(Kind::NotFound, Reason::PubSubNotFound, message));
    };
    check_topic(component, topic)?;
    let allowed = match by {
        Principal::App(app_id) => component.topics.allows(TopicAccess::Publish, app_id, topic),
        Principal::Uplink(_) | Principal::Runtime => true,
    };
    if !allowed {
        let message = format!("topic {topic} is not allowed for app id {}", by.name());
        let metadata = pairs([("topic", topic), ("error", &message)]);
        let forbidden = Fault::new(Kind::Forbidden, Reason::PubSubForbidden, message);
        return Err(about(forbidden, pubsub, Some(metadata)));
    }
    Ok(Permit { component: Arc::clone(component), topic: topic.to_owned() })
}

impl Permit {
    /// Publishes messages in order: all of them durably if the component is durable, or none.
    ///
    /// # Errors
    ///
    /// When the component refuses.
    pub async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), Fault> {
        self.send(messages).await.map_err(|error| self.refused(error))
    }

    async fn send(&self, messages: Vec<Outgoing>) -> Result<(), PublishError> {
        let PubSubComponent { component, clock, .. } = &*self.component;
        complete::publish(&**component, &self.topic, messages, &**clock).await
    }

    fn refused(&self, PublishError { refusal, .. }: PublishError) -> Fault {
        let Self { component, topic } = self;
        let pubsub = &component.name;
        let cause = refusal.to_string();
        let message = format!("error when publishing to topic {topic} in pubsub {pubsub}: {cause}");
        let metadata = pairs([("topic", topic), ("error", &cause)]);
        about(Fault::refused(Reason::PublishMessage, message, refusal), pubsub, Some(metadata))
    }
}

/// Returns the error for an entry of a bulk that can't become a message.
#[must_use]
pub fn unserializable(pubsub: &str, topic: &str, by: &Principal, cause: &str) -> Fault {
    let message = format!(
        "error marshaling events to bytes for topic {topic} pubsub {pubsub}. error: {cause}"
    );
    let metadata = pairs([("appID", by.name()), ("error", cause)]);
    about(Fault::new(Kind::Invalid, Reason::MarshalEvents, message), pubsub, Some(metadata))
}

/// Returns the error for a bulk that can't be parsed.
#[must_use]
pub fn unreadable(pubsub: &str, topic: &str, by: &Principal, cause: &str) -> Fault {
    let message =
        format!("error when unmarshaling the request for topic {topic} pubsub {pubsub}: {cause}");
    let metadata = pairs([("appID", by.name())]);
    about(Fault::new(Kind::Invalid, Reason::UnmarshalEvents, message), pubsub, Some(metadata))
}

fn check_topic(component: &PubSubComponent, topic: &str) -> Result<(), Fault> {
    let pubsub = &component.name;
    if topic.is_empty() {
        let message = format!("topic is empty in pubsub {pubsub}");
        let empty = Fault::new(Kind::NotFound, Reason::TopicNameEmpty, message);
        return Err(about(empty, pubsub, None));
    }
    let bytes = topic.len();
    let limit = component.max_topic_bytes.min(topic::MAX_NAME_BYTES);
    if bytes > limit {
        let message = format!(
            "the topic's name has {bytes} bytes, the limit of pubsub {pubsub} is {limit}: shorten it, or raise spec.limits.maxTopic in the Node resource"
        );
        let too_long = Fault::new(Kind::Invalid, Reason::TopicTooLong, message);
        return Err(about(too_long, pubsub, None));
    }
    topic::check_name(topic).map_err(|illegal| {
        let message = format!(
            "nothing can be published to topic {topic:?} in pubsub {pubsub}: {illegal}; leave it out"
        );
        let metadata = pairs([("topic", topic), ("error", &illegal.to_string())]);
        about(Fault::new(Kind::Invalid, Reason::TopicIllegal, message), pubsub, Some(metadata))
    })
}

fn check_ids(entries: &[BulkEntry]) -> Result<(), &'static str> {
    let mut ids = HashSet::with_capacity(entries.len());
    if entries.iter().all(|entry| !entry.id.is_empty() && ids.insert(&entry.id)) {
        return Ok(());
    }
    Err("entryId is duplicated or not present for entry")
}

fn unacceptable(pubsub: &str, by: &Principal, metadata: &Metadata, error: AcceptError) -> Fault {
    if let AcceptError::NotAnEvent(cause) = &error {
        let metadata = pairs([("appID", by.name()), ("error", &explain(cause))]);
        let fault =
            Fault::new(Kind::Internal, Reason::CloudEventCreation, "cannot create cloudevent");
        return about(fault, pubsub, Some(metadata)).caused_by(error);
    }
    let message = format!("failed deserializing metadata. Error: {error}");
    let fault = Fault::new(Kind::Invalid, Reason::PublishMetadata, message);
    about(fault, pubsub, Some(metadata.clone())).caused_by(error)
}

/// Returns the error for a missing component.
fn unknown(kind: Kind, reason: Reason, message: String) -> Fault {
    Fault::new(kind, reason, message).with(Detail::ErrorInfo { metadata: None })
}

/// Adds the details that errors about a pub/sub component have.
fn about(fault: Fault, pubsub: &str, metadata: Option<Metadata>) -> Fault {
    let name = pubsub.to_owned();
    let description = fault.message.clone();
    fault
        .with(Detail::ResourceInfo { block: "pubsub", name, description })
        .with(Detail::ErrorInfo { metadata })
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Metadata {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
pub(crate) mod tests;
