#![allow(clippy::unwrap_used)]

use config::model::{Rule, SubscriptionSpec};

use super::*;
use crate::app::tests::silent_app;
use crate::pubsub::publish::tests::{FakePubSub, component, registry};
use crate::registry::TopicScopes;

fn runner(fake: Arc<FakePubSub>, topics: TopicScopes) -> Subscriptions {
    let registry = registry(PubSubComponent { topics, ..component(fake) }, "app");
    Subscriptions::new(silent_app(), Arc::new(Current::new(registry)), Vec::new())
}

fn to(topic: &str, route: &str) -> SubscriptionSpec {
    SubscriptionSpec {
        pubsub: "pubsub".into(),
        topic: topic.into(),
        default_route: Some(route.into()),
        ..SubscriptionSpec::default()
    }
}

fn two() -> DeclaredByApp {
    DeclaredByApp(vec![to("a", "/a"), to("b", "/b")])
}

fn topics(runner: &Subscriptions) -> Vec<String> {
    runner.active().into_iter().map(|subscription| subscription.spec.topic).collect()
}

#[tokio::test]
async fn the_active_subscriptions_follow_the_apps_answer() {
    let runner = runner(Arc::default(), TopicScopes::default());
    runner.answered(two()).await;
    assert_eq!(topics(&runner), ["a", "b"]);
    runner.answered(DeclaredByApp(vec![to("b", "/other")])).await;
    assert_eq!(topics(&runner), ["b"]);
    assert_eq!(runner.active()[0].spec.default_route.as_deref(), Some("/other"));
    runner.stop().await;
    assert!(topics(&runner).is_empty());
}

#[tokio::test]
async fn consumers_that_nobody_names_any_more_are_released_once_the_app_has_answered() {
    let fake = Arc::new(FakePubSub::default());
    let former = ["app/app/pubsub/old", "app/app/pubsub/a", "app/other/pubsub/old", "uplink/x"];
    *fake.consumers.lock().unwrap() = former.map(String::from).into();
    let runner = runner(fake.clone(), TopicScopes::default());
    assert_eq!(fake.consumers.lock().unwrap().len(), 4);
    runner.answered(two()).await;
    let left = ["app/app/pubsub/a", "app/other/pubsub/old", "uplink/x"];
    assert_eq!(*fake.consumers.lock().unwrap(), left);
    runner.stop().await;
}

#[tokio::test]
async fn a_component_that_the_app_may_not_use_any_more_releases_its_consumers() {
    let fake = Arc::new(FakePubSub::default());
    fake.consumers.lock().unwrap().push("app/app/pubsub/a".into());
    let for_another = PubSubComponent { apps: vec!["other".into()], ..component(fake.clone()) };
    let registry = Arc::new(Current::new(registry(for_another, "app")));
    let runner = Subscriptions::new(silent_app(), registry, Vec::new());
    runner.answered(DeclaredByApp::default()).await;
    assert!(fake.consumers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_subscription_with_an_error_in_it_keeps_its_messages_and_holds_up_no_other() {
    let fake = Arc::new(FakePubSub::default());
    fake.consumers.lock().unwrap().push("app/app/pubsub/bad".into());
    let scopes =
        TopicScopes::parse(|name| (name == "subscriptionScopes").then(|| "app=a,bad".to_owned()));
    let runner = runner(fake.clone(), scopes);
    let bad_rule = Rule { matches: "((".into(), path: "/".into() };
    let bad = SubscriptionSpec { rules: vec![bad_rule], ..to("bad", "/") };
    let nowhere = SubscriptionSpec { pubsub: "nowhere".into(), ..to("a", "/") };
    let declared = vec![bad, nowhere, to("forbidden", "/"), to("a", "/")];
    runner.answered(DeclaredByApp(declared)).await;
    assert_eq!(topics(&runner), ["a"]);
    assert_eq!(*fake.consumers.lock().unwrap(), ["app/app/pubsub/bad"]);
    runner.stop().await;
}
