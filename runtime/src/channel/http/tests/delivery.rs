use std::collections::BTreeMap;

use blocks::Registry;
use blocks::pubsub::cloudevent::Content;
use blocks::pubsub::route::Routes;
use blocks::pubsub::subscriber::AppSink;
use blocks::pubsub::subscriptions::{Subscription, SubscriptionSource};
use blocks::pubsub::{self, Publish, Subscriptions};
use blocks::registry::{Components, Current, PubSubComponent};
use components::clock::{ManualClock, Reading};
use components::port::pubsub::{
    Delivery, Epoch, Identity, Message, NodeId, Sequence, Sink, StreamId, Timestamp, Topic,
};
use components::{Built, Context, Embedded, Metadata};
use config::model::{Bulk as BulkSpec, Origin, Rule};
use serde_json::{Value, json};
use store_forward::disk::MemoryDisk;
use store_forward::limits::Limits;
use store_forward::store::Options;

use super::*;

fn wanted() -> SubscriptionSpec {
    SubscriptionSpec {
        pubsub: "pubsub".into(),
        topic: "t".into(),
        rules: vec![Rule { matches: "event.type == 'special'".into(), path: "/special".into() }],
        default_route: Some("/normal".into()),
        ..SubscriptionSpec::default()
    }
}

/// The sink of a subscription of an app that has started.
async fn sink(fake: &mut FakeApp, spec: SubscriptionSpec) -> (Arc<AppSink>, Stopper) {
    let app = app_at(fake.port, None);
    let (_, stopper) = run_in_background(app.clone());
    app.gate().wait_until(AppState::takes_messages).await;
    assert_eq!(fake.asked.recv().await.unwrap().path, "/dapr/subscribe");
    let routes = Routes::compile("pubsub/t", &spec.rules, spec.default_route.as_deref()).unwrap();
    let subscription = Subscription { spec, source: SubscriptionSource::Programmatic };
    let sink = AppSink {
        app,
        settings: subscription.settings().unwrap(),
        subscription,
        routes,
        component: pubsub_component().await,
    };
    (Arc::new(sink), stopper)
}

/// A component on a store in memory.
async fn pubsub_component() -> Arc<PubSubComponent> {
    let clock = Arc::new(ManualClock::new(Reading::default(), "boot"));
    Arc::new(PubSubComponent {
        name: "pubsub".into(),
        component: component(clock.clone()).await,
        identity: identity(),
        topics: Default::default(),
        apps: Vec::new(),
        max_topic_bytes: 100,
        clock,
    })
}

fn identity() -> Identity {
    Identity { node: NodeId("n".into()), epoch: Epoch(1) }
}

async fn send(sink: &Arc<AppSink>, batch: Vec<Delivery>) -> Vec<Outcome> {
    let slot = sink.ready().await;
    Arc::clone(sink).deliver(slot, batch).await
}

fn delivery(sequence: u64, attributes: &[(&str, &str)]) -> Delivery {
    Delivery {
        topic: Topic::new("pubsub", "t"),
        stream: StreamId(1),
        attempt: 2,
        message: Message {
            sequence: Sequence(sequence),
            at: Timestamp::default(),
            expires_in_ms: None,
            content_type: None,
            attributes: attributes.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            key: Some("k".into()),
            priority: 0,
            data: sequence.to_string().into_bytes(),
        },
    }
}

fn kinds(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes.iter().map(answer::tests::kind).collect()
}

#[tokio::test]
async fn an_event_is_posted_to_its_route_with_brokers_headers() {
    let mut app = FakeApp::start().await;
    let (sink, _stopper) = sink(&mut app, wanted()).await;
    let trace = [("traceparent", "00-1-2-01"), ("tracestate", "a=b"), ("type", "special")];
    assert_eq!(send(&sink, vec![delivery(7, &trace)]).await, [Outcome::Ack]);
    let asked = app.asked.recv().await.unwrap();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/special"));
    for (name, value) in [
        ("content-type", "application/cloudevents+json"),
        ("traceparent", "00-1-2-01"),
        ("tracestate", "a=b"),
        ("pubsubname", "pubsub"),
        ("partitionkey", "k"),
        ("pannier-sequence", "7"),
        ("pannier-attempt", "2"),
    ] {
        assert_eq!(asked.headers[name], value, "{name}");
    }
    let event: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!((&event["data"], &event["topic"]), (&json!("7"), &json!("t")));
}

#[tokio::test]
async fn the_apps_answer_decides_the_outcome() {
    let mut app = FakeApp::start().await;
    let (sink, _stopper) = sink(&mut app, wanted()).await;
    app.will_answer(200, r#"{"status":"SUCCESS"}"#);
    app.will_answer(200, r#"{"status":"RETRY"}"#);
    app.will_answer(200, r#"{"status":"DROP"}"#);
    app.will_answer(404, "");
    app.will_answer(503, "");
    for expected in ["ack", "retry", "reject", "reject", "retry"] {
        let outcomes = send(&sink, vec![delivery(1, &[])]).await;
        assert_eq!(kinds(&outcomes), [expected]);
    }
}

#[tokio::test]
async fn a_message_that_no_rule_matches_is_rejected_without_a_call() {
    let mut app = FakeApp::start().await;
    let spec = SubscriptionSpec { default_route: None, ..wanted() };
    let (sink, _stopper) = sink(&mut app, spec).await;
    let outcomes = send(&sink, vec![delivery(1, &[])]).await;
    assert_eq!(kinds(&outcomes), ["reject"]);
    assert!(app.asked.try_recv().is_err());
}

#[tokio::test]
async fn a_raw_subscription_gets_binary_data() {
    let mut app = FakeApp::start().await;
    let metadata = BTreeMap::from([("rawPayload".to_owned(), "true".to_owned())]);
    let spec = SubscriptionSpec { metadata, ..wanted() };
    let raw = delivery(1, &[("rawpayload", "true")]);
    let (sink, _stopper) = sink(&mut app, spec).await;
    send(&sink, vec![raw]).await;
    let event: Value = serde_json::from_slice(&app.asked.recv().await.unwrap().body).unwrap();
    assert_eq!(event["data_base64"], json!("MQ=="));
}

#[tokio::test]
async fn a_bulk_is_one_call_for_each_run_of_messages_with_one_route() {
    let mut app = FakeApp::start().await;
    let bulk = Some(BulkSpec { max_messages: 10, max_await: Duration::from_secs(1) });
    let (sink, _stopper) = sink(&mut app, SubscriptionSpec { bulk, ..wanted() }).await;
    app.will_answer(
        200,
        r#"{"statuses":[{"entryId":"1-1","status":"SUCCESS"},{"entryId":"1-2","status":"DROP"}]}"#,
    );
    app.will_answer(200, r#"{"statuses":[]}"#);
    let batch = vec![
        delivery(1, &[]),
        delivery(2, &[]),
        delivery(3, &[("type", "special")]),
        delivery(4, &[]),
    ];
    app.will_answer(404, "");
    let outcomes = send(&sink, batch).await;
    assert_eq!(kinds(&outcomes), ["ack", "reject", "retry", "reject"]);
    let asked = app.asked.recv().await.unwrap();
    assert_eq!(
        (asked.path.as_str(), &asked.headers["content-type"]),
        ("/normal", &HeaderValue::from_static("application/json"))
    );
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(body["type"], json!("com.dapr.event.sent.bulk"));
    assert_eq!((&body["topic"], &body["pubsubname"]), (&json!("t"), &json!("pubsub")));
    let entries = body["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["entryId"], json!("1-1"));
    assert_eq!(entries[0]["event"]["data"], json!("1"));
    assert_eq!(entries[0]["contentType"], json!("application/cloudevents+json"));
    assert_eq!(app.asked.recv().await.unwrap().path, "/special");
}

#[tokio::test]
async fn a_batch_with_a_slot_of_an_earlier_life_is_not_sent() {
    let mut fake = FakeApp::start().await;
    let (sink, _stopper) = sink(&mut fake, wanted()).await;
    let early = sink.ready().await;
    let port = fake.port;
    fake.close().await;
    assert_eq!(kinds(&send(&sink, vec![delivery(1, &[])]).await), ["unreachable"]);
    let mut fake = FakeApp::start_at(port).await;
    sink.app.gate().wait_until(AppState::takes_messages).await;
    assert_eq!(fake.asked.recv().await.unwrap().path, "/dapr/subscribe");
    let outcomes = Arc::clone(&sink).deliver(early, vec![delivery(1, &[])]).await;
    assert_eq!(kinds(&outcomes), ["unreachable"]);
    assert!(fake.asked.try_recv().is_err());
}

const TWO_SUBSCRIPTIONS: &str = r#"[{"pubsubname":"pubsub","topic":"a","route":"/a"},
    {"pubsubname":"pubsub","topic":"b","route":"/b"}]"#;

/// The subscriptions of an app, which may not be there yet, on a real store in memory.
struct SubscriptionsOnStore {
    runner: Arc<Subscriptions>,
    registry: Arc<Current>,
    app: Arc<App>,
    stopper: Stopper,
    served: tokio::task::JoinHandle<()>,
}

impl SubscriptionsOnStore {
    async fn serve(port: u16) -> Self {
        let mut components = Components::default();
        components.pubsub.insert("pubsub".to_owned(), pubsub_component().await);
        let registry = Registry::for_app(&components, "app", "");
        let registry = Arc::new(Current::new(registry));
        let app = app_at(port, None);
        let runner = Subscriptions::new(app.clone(), registry.clone(), Vec::new());
        let runner = Arc::new(runner);
        let stopper = Stopper::default();
        let served = tokio::spawn({
            let app = app.clone();
            let runner = runner.clone();
            let stop = stopper.subscribe();
            async move { app.run(runner.as_ref(), &stop).await }
        });
        Self { runner, registry, app, stopper, served }
    }

    async fn publish(&self, topic: &str, text: &str) {
        let content = Content {
            data: text.into(),
            content_type: None,
            metadata: &BTreeMap::new(),
            traceparent: None,
            tracestate: None,
        };
        let message = Publish { pubsub: "pubsub", topic, content };
        let by = blocks::Principal::App("app".into());
        pubsub::publish(&self.registry.snapshot(), &by, message).await.unwrap();
    }

    async fn shut_down(self) {
        self.stopper.request();
        self.served.await.unwrap();
        assert!(self.runner.active().is_empty());
    }
}

async fn component(clock: Arc<ManualClock>) -> Arc<dyn components::PubSub> {
    let options = Options { volatile: true, ..Options::default() };
    let context = Context {
        name: "pubsub".to_owned(),
        metadata: Metadata::new("pubsub", &Origin::default(), []),
        embedded: Embedded::new(options, Arc::new(MemoryDisk::new()), clock),
        limits: Limits::default(),
    };
    match components::build("pubsub.redb", context).await.unwrap() {
        Built::PubSub(component) => component,
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
    let store = SubscriptionsOnStore::serve(port).await;
    for text in ["one", "two", "three"] {
        store.publish("a", text).await;
    }
    let mut app = FakeApp::start_at(port).await;
    app.will_answer(
        200,
        r#"[{"pubsubname":"pubsub","topic":"a","route":"/a","deadLetterTopic":"dead"},
            {"pubsubname":"pubsub","topic":"dead","route":"/dead"}]"#,
    );
    store.app.gate().wait_until(AppState::takes_messages).await;
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
    app.will_answer(200, TWO_SUBSCRIPTIONS);
    let store = SubscriptionsOnStore::serve(app.port).await;
    store.app.gate().wait_until(AppState::takes_messages).await;
    assert_eq!(store.runner.active().len(), 2);
    store.shut_down().await;
}
