#![allow(clippy::unwrap_used)]

use store_forward::clock::{ManualClock, Reading};
use store_forward::record::NewMessage;

use super::*;
use crate::channel::http::tests::{FakeApp, channel, closed_port};
use crate::pubsub::scope::TopicScopes;
use crate::pubsub::tests::{FakePubSub, block, entry};

fn runner(component: Arc<FakePubSub>, topics: TopicScopes) -> Subscriptions {
    let block = block(Entry { topics, ..entry(component) });
    let clock = Arc::new(ManualClock::new(Reading::default(), "boot"));
    Subscriptions::new(Arc::new(channel(1)), Arc::new(block), Vec::new(), clock, Some(3))
}

fn wanted(json: &str) -> Vec<Subscription> {
    subscriptions::parse(json.as_bytes()).unwrap().0
}

fn topics(runner: &Subscriptions) -> Vec<String> {
    runner.active().into_iter().map(|subscription| subscription.spec.topic).collect()
}

const TWO: &str = r#"[{"pubsubname":"pubsub","topic":"a","route":"/a"},
    {"pubsubname":"pubsub","topic":"b","route":"/b"}]"#;

#[tokio::test]
async fn the_list_of_what_runs_follows_the_apps_answer() {
    let runner = runner(Arc::default(), TopicScopes::default());
    runner.answered(wanted(TWO)).await;
    assert_eq!(topics(&runner), ["a", "b"]);
    runner.answered(wanted(r#"[{"pubsubname":"pubsub","topic":"b","route":"/other"}]"#)).await;
    assert_eq!(topics(&runner), ["b"]);
    assert_eq!(runner.active()[0].spec.default_route.as_deref(), Some("/other"));
    runner.stop().await;
    assert!(topics(&runner).is_empty());
}

#[tokio::test]
async fn consumers_that_nobody_names_any_more_are_forgotten_once_the_app_has_answered() {
    let component = Arc::new(FakePubSub::default());
    let former = ["app/app/pubsub/old", "app/app/pubsub/a", "app/other/pubsub/old", "uplink/x"];
    *component.consumers.lock().unwrap() = former.map(String::from).into();
    let runner = runner(component.clone(), TopicScopes::default());
    assert_eq!(component.consumers.lock().unwrap().len(), 4);
    runner.answered(wanted(TWO)).await;
    let left = ["app/app/pubsub/a", "app/other/pubsub/old", "uplink/x"];
    assert_eq!(*component.consumers.lock().unwrap(), left);
    runner.stop().await;
}

#[tokio::test]
async fn a_subscription_with_an_error_in_it_keeps_its_messages_and_holds_up_no_other() {
    let component = Arc::new(FakePubSub::default());
    component.consumers.lock().unwrap().push("app/app/pubsub/bad".into());
    let scopes =
        TopicScopes::parse(|name| (name == "subscriptionScopes").then(|| "app=a,bad".to_owned()));
    let runner = runner(component.clone(), scopes);
    let bad = r#"[{"pubsubname":"pubsub","topic":"bad","routes":{"rules":[{"match":"((","path":"/"}]}},
        {"pubsubname":"nowhere","topic":"a","route":"/"},
        {"pubsubname":"pubsub","topic":"forbidden","route":"/"},
        {"pubsubname":"pubsub","topic":"a","route":"/"}]"#;
    runner.answered(wanted(bad)).await;
    assert_eq!(topics(&runner), ["a"]);
    assert_eq!(*component.consumers.lock().unwrap(), ["app/app/pubsub/bad"]);
    runner.stop().await;
}

/// A subscription on a real store, in memory, for an app that may not be there yet.
struct OnStore {
    runner: Arc<Subscriptions>,
    block: Arc<PubSubBlock>,
    channel: Arc<AppChannel>,
    end: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl OnStore {
    async fn serve(port: u16) -> Self {
        let clock = Arc::new(ManualClock::new(Reading::default(), "boot"));
        let component = component(clock.clone()).await;
        let block = PubSubBlock::new(BTreeMap::from([(
            "pubsub".to_owned(),
            Entry {
                component,
                identity: crate::pubsub::tests::identity(),
                topics: TopicScopes::default(),
                apps: Vec::new(),
                max_topic_bytes: 100,
            },
        )]));
        let (block, channel) = (Arc::new(block), Arc::new(channel(port)));
        let runner = Subscriptions::new(channel.clone(), block.clone(), Vec::new(), clock, None);
        let runner = Arc::new(runner);
        let (end, ended) = oneshot::channel::<()>();
        let served = tokio::spawn({
            let (channel, runner) = (channel.clone(), runner.clone());
            let shutdown = async {
                let _ = ended.await;
            };
            async move { crate::channel::http::serve(&channel, None, runner.as_ref(), shutdown).await }
        });
        Self { runner, block, channel, end, served }
    }

    async fn publish(&self, topic: &str, text: &str) {
        let message = NewMessage { data: text.into(), ..NewMessage::default() };
        self.block.publish("app", "pubsub", topic, vec![message]).await.unwrap();
    }

    async fn shut_down(self) {
        drop(self.end);
        self.served.await.unwrap();
        assert!(self.runner.active().is_empty());
    }
}

async fn component(clock: Arc<dyn Clock>) -> Arc<dyn components::PubSub> {
    let options = store_forward::store::Options {
        node: None,
        limits: store_forward::limits::Limits::default(),
        volatile: true,
    };
    let disk = Arc::new(store_forward::disk::MemoryDisk::new());
    let store = store_forward::Store::open(options, disk, clock.clone()).unwrap();
    let metadata = components::Metadata::new("pubsub", &config::model::Origin::default(), []);
    let limits = store_forward::limits::Limits::default();
    let name = "pubsub".to_owned();
    let context = components::Context { name, metadata, store, limits, clock };
    match components::build("pubsub.redb", context).await.unwrap() {
        components::Built::PubSub(component) => component,
        _ => unreachable!("pubsub.redb is a pub/sub component"),
    }
}

async fn next_event(app: &mut FakeApp) -> (String, String) {
    loop {
        let asked = app.asked.recv().await.unwrap();
        if asked.path != "/dapr/subscribe" {
            let event: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
            return (asked.path, event["data"].as_str().unwrap().to_owned());
        }
    }
}

#[tokio::test]
async fn messages_reach_an_app_that_comes_late_in_order_and_the_refused_one_its_dead_letters() {
    let port = closed_port().await;
    let store = OnStore::serve(port).await;
    for text in ["one", "two", "three"] {
        store.publish("a", text).await;
    }
    let mut app = FakeApp::start_at(port).await;
    app.will_answer(
        200,
        r#"[{"pubsubname":"pubsub","topic":"a","route":"/a","deadLetterTopic":"dead"},
            {"pubsubname":"pubsub","topic":"dead","route":"/dead"}]"#,
    );
    store.channel.wait_until(crate::channel::http::AppState::takes_messages).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(next_event(&mut app).await);
    }
    let expected = ["one", "two", "three"].map(|text| ("/a".to_owned(), text.to_owned()));
    assert_eq!(seen, expected);

    app.will_answer(200, r#"{"status":"DROP"}"#);
    store.publish("a", "four").await;
    assert_eq!(next_event(&mut app).await, ("/a".to_owned(), "four".to_owned()));
    assert_eq!(next_event(&mut app).await, ("/dead".to_owned(), "four".to_owned()));
    store.shut_down().await;
}

#[tokio::test]
async fn shutdown_ends_subscriptions_of_an_app_that_went_away() {
    let app = FakeApp::start().await;
    app.will_answer(200, TWO);
    let store = OnStore::serve(app.port).await;
    store.channel.wait_until(crate::channel::http::AppState::takes_messages).await;
    assert_eq!(store.runner.active().len(), 2);
    store.shut_down().await;
}
