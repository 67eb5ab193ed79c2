#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use async_trait::async_trait;
use components::SubscribeSpec;
use store_forward::Consumer;
use store_forward::ids::{Epoch, NodeId};
use store_forward::record::{ConsumerKind, ConsumerSpec, Filter};

use super::*;

/// A component that keeps what it is given, and refuses when told to.
#[derive(Default)]
pub(crate) struct FakePubSub {
    pub(crate) published: Mutex<Vec<Vec<(String, NewMessage)>>>,
    pub(crate) consumers: Mutex<Vec<String>>,
    pub(crate) refusal: Option<Refusal>,
}

#[async_trait]
impl PubSub for FakePubSub {
    async fn publish(&self, messages: Vec<(String, NewMessage)>) -> Result<(), Refusal> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        self.published.lock().unwrap().push(messages);
        Ok(())
    }

    async fn subscribe(&self, _: SubscribeSpec) -> Result<Consumer, Refusal> {
        Err(Refusal::Other("this fake has no store".into()))
    }

    async fn unsubscribe(&self, name: &str) -> Result<bool, Refusal> {
        self.consumers.lock().unwrap().retain(|consumer| consumer != name);
        Ok(true)
    }

    fn consumers(&self) -> Vec<ConsumerSpec> {
        let spec = |name: &String| ConsumerSpec {
            name: name.clone(),
            kind: ConsumerKind::App,
            filters: vec![Filter { component: "pubsub".into(), topic: "t".into() }],
            dead_letter: None,
        };
        self.consumers.lock().unwrap().iter().map(spec).collect()
    }

    fn features(&self) -> &'static [&'static str] {
        &[]
    }
}

pub(crate) fn identity() -> Identity {
    Identity { node: NodeId("n".into()), epoch: Epoch(1) }
}

pub(crate) fn entry(component: Arc<FakePubSub>) -> Entry {
    Entry {
        component,
        identity: identity(),
        topics: TopicScopes::default(),
        apps: Vec::new(),
        max_topic_bytes: 20,
    }
}

pub(crate) fn block(entry: Entry) -> PubSubBlock {
    PubSubBlock::new(BTreeMap::from([("pubsub".to_owned(), entry)]))
}

#[test]
fn a_component_with_scopes_is_there_for_those_apps_alone() {
    let entry = Entry { apps: vec!["a".into()], ..entry(Arc::default()) };
    let block = block(entry);
    assert!(block.check("a", "pubsub", "t").is_ok());
    let missing = block.check("b", "pubsub", "t").err();
    assert_eq!(missing, Some(PublishError::NotConfigured { pubsub: "pubsub".into() }));
}

#[test]
fn without_any_component_nothing_is_configured() {
    let error = PubSubBlock::default().check("a", "p", "t").err();
    assert_eq!(error, Some(PublishError::NotConfigured { pubsub: "p".into() }));
}

#[test]
fn a_topic_that_no_broker_would_take_is_refused_by_its_character() {
    let block = block(entry(Arc::default()));
    for (topic, character) in [
        ("a/+", "+"),
        ("a/#", "#"),
        ("a\0", "U+0000"),
        ("a\nb", "U+000A"),
        ("a\u{7f}", "U+007F"),
        ("a\u{9f}", "U+009F"),
        ("a\u{fffe}", "U+FFFE"),
    ] {
        let refused = block.check("a", "pubsub", topic).err().expect(topic);
        assert!(matches!(refused, PublishError::TopicIllegal { .. }), "{refused}");
        assert!(refused.to_string().contains(character), "{refused}");
    }
    for topic in ["$sys/a", "a b", "a//b", "ä/ü"] {
        assert!(block.check("a", "pubsub", topic).is_ok(), "{topic}");
    }
}
