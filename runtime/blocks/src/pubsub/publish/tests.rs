#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use components::port::Component;
use components::port::pubsub::{
    Backlog, Epoch, Identity, NodeId, PubSub, PubSubFeatures, SubscribeSpec, Subscription,
};
use components::{Refusal, RefusalKind};

use super::*;
use crate::registry::Components;
use crate::registry::TopicScopes;

/// A component that records messages and the names of its consumers, and refuses when told to.
#[derive(Default)]
pub(crate) struct FakePubSub {
    pub(crate) published: Mutex<Vec<Outgoing>>,
    pub(crate) consumers: Mutex<Vec<String>>,
    pub(crate) refusal: Option<PublishError>,
}

impl Component for FakePubSub {}

#[async_trait]
impl PubSub for FakePubSub {
    fn features(&self) -> PubSubFeatures {
        PubSubFeatures::default()
    }

    async fn publish(&self, _: &str, messages: Vec<Outgoing>) -> Result<(), PublishError> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        self.published.lock().unwrap().extend(messages);
        Ok(())
    }

    async fn subscribe(&self, _: SubscribeSpec) -> Result<Arc<dyn Subscription>, Refusal> {
        Err(Refusal::other("this fake has no store"))
    }

    fn backlog(&self) -> Option<&dyn Backlog> {
        Some(self)
    }
}

#[async_trait]
impl Backlog for FakePubSub {
    fn consumers(&self) -> Vec<String> {
        self.consumers.lock().unwrap().clone()
    }

    async fn release(&self, name: &str) -> Result<bool, Refusal> {
        self.consumers.lock().unwrap().retain(|consumer| consumer != name);
        Ok(true)
    }
}

pub(crate) fn component(component: Arc<FakePubSub>) -> PubSubComponent {
    PubSubComponent {
        name: "pubsub".into(),
        component,
        identity: Identity { node: NodeId("n".into()), epoch: Epoch(1) },
        topics: TopicScopes::default(),
        apps: Vec::new(),
        max_topic_bytes: 20,
    }
}

pub(crate) fn registry(component: PubSubComponent, app_id: &str) -> Registry {
    let pubsub = BTreeMap::from([("pubsub".to_owned(), Arc::new(component))]);
    Registry::for_app(&Components { pubsub, ..Components::default() }, app_id, "")
}

fn app(id: &str) -> Principal {
    Principal::App(id.into())
}

fn refused(registry: &Registry, topic: &str) -> Fault {
    permit(registry, &app("a"), "pubsub", topic).err().expect(topic)
}

#[test]
fn a_component_with_scopes_is_there_for_those_apps_alone() {
    let scoped = || PubSubComponent { apps: vec!["a".into()], ..component(Arc::default()) };
    assert!(permit(&registry(scoped(), "a"), &app("a"), "pubsub", "t").is_ok());
    let missing = permit(&registry(scoped(), "b"), &app("b"), "pubsub", "t").err().unwrap();
    assert_eq!(missing.reason, Reason::PubSubNotConfigured);
}

#[test]
fn without_any_component_nothing_is_configured() {
    let none = Registry::default();
    assert_eq!(refused(&none, "t").reason, Reason::PubSubNotConfigured);
}

#[test]
fn a_topic_that_no_broker_would_take_is_refused_by_its_character() {
    let registry = registry(component(Arc::default()), "a");
    for (topic, character) in [
        ("a/+", "+"),
        ("a/#", "#"),
        ("a\0", "U+0000"),
        ("a\nb", "U+000A"),
        ("a\u{7f}", "U+007F"),
        ("a\u{9f}", "U+009F"),
        ("a\u{fffe}", "U+FFFE"),
    ] {
        let refused = refused(&registry, topic);
        assert_eq!(refused.reason, Reason::TopicIllegal);
        assert!(refused.message.contains(character), "{refused}");
    }
    for topic in ["$sys/a", "a b", "a//b", "ä/ü"] {
        assert!(permit(&registry, &app("a"), "pubsub", topic).is_ok(), "{topic}");
    }
}

#[test]
fn scopes_bind_apps_and_not_the_runtime_or_its_uplinks() {
    let topics =
        TopicScopes::parse(|name| (name == "publishingScopes").then(|| "a=other".to_owned()));
    let registry = registry(PubSubComponent { topics, ..component(Arc::default()) }, "a");
    assert_eq!(refused(&registry, "t").reason, Reason::PubSubForbidden);
    for by in [Principal::Runtime, Principal::Uplink("up".into())] {
        assert!(permit(&registry, &by, "pubsub", "t").is_ok(), "{by:?}");
    }
}

fn bulk(metadata: &Metadata) -> PublishBulk<'_> {
    let entry = |id: &str| BulkEntry {
        id: id.to_owned(),
        data: id.as_bytes().to_vec(),
        content_type: "text/plain".into(),
        metadata: Metadata::new(),
    };
    PublishBulk {
        pubsub: "pubsub",
        topic: "t",
        metadata,
        traceparent: None,
        tracestate: None,
        entries: ["1", "2", "3"].map(entry).into(),
    }
}

#[tokio::test]
async fn of_a_bulk_only_those_that_the_component_names_have_failed() {
    let refusal = Refusal::new(RefusalKind::Full, "no room");
    let refusal = Some(PublishError { refusal, failed: Some(vec![1]) });
    let fake = Arc::new(FakePubSub { refusal, ..FakePubSub::default() });
    let registry = registry(component(fake), "a");
    let outcome = publish_bulk(&registry, &app("a"), bulk(&Metadata::new())).await.unwrap();
    let failed: Vec<_> = outcome.failed.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(failed, ["2"]);
    assert_eq!(outcome.fault.unwrap().kind, Kind::Full);
}
