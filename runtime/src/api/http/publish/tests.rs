#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use blocks::registry::TopicScopes;
use blocks::registry::{Components, Current, PubSubComponent, Registry};
use components::clock::OsClock;
use components::port::Component;
use components::port::pubsub::{
    Epoch, Identity, NodeId, Outgoing, PubSub, PubSubFeatures, PublishError, SubscribeSpec,
    Subscription,
};
use components::{Refusal, RefusalKind};
use serde_json::{Value, json};

use super::super::tests::Fixture;

/// Messages of one publish, and their topic.
#[derive(Clone)]
struct Published {
    topic: String,
    messages: Vec<Outgoing>,
}

/// A component that keeps what is published, and refuses when told to.
#[derive(Default)]
struct FakePubSub {
    published: Mutex<Vec<Published>>,
    refusal: Option<Refusal>,
}

impl Component for FakePubSub {}

#[async_trait]
impl PubSub for FakePubSub {
    fn features(&self) -> PubSubFeatures {
        PubSubFeatures::default()
    }

    async fn publish(&self, topic: &str, messages: Vec<Outgoing>) -> Result<(), PublishError> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone().into());
        }
        self.published.lock().unwrap().push(Published { topic: topic.to_owned(), messages });
        Ok(())
    }

    async fn subscribe(&self, _: SubscribeSpec) -> Result<Arc<dyn Subscription>, Refusal> {
        Err(Refusal::other("this fake has no subscribers"))
    }
}

struct Api {
    component: Arc<FakePubSub>,
    topics: TopicScopes,
}

impl Api {
    fn new() -> Self {
        Self::with(FakePubSub::default())
    }

    fn with(component: FakePubSub) -> Self {
        Self { component: Arc::new(component), topics: TopicScopes::default() }
    }

    async fn call(&self, request: Request<Body>) -> (StatusCode, Value) {
        let component = PubSubComponent {
            name: "pubsub".into(),
            component: self.component.clone(),
            identity: Identity { node: NodeId("n".into()), epoch: Epoch(1) },
            topics: self.topics.clone(),
            apps: Vec::new(),
            max_topic_bytes: 20,
            clock: Arc::new(OsClock::new()),
        };
        let mut components = Components::default();
        components.pubsub.insert("pubsub".to_owned(), Arc::new(component));
        self.call_on(&components, request).await
    }

    async fn call_on(
        &self,
        components: &Components,
        request: Request<Body>,
    ) -> (StatusCode, Value) {
        let registry = Registry::for_app(components, "app", "");
        let api = Fixture::with(|api| api.registry = Arc::new(Current::new(registry)));
        let answer = api.send(request).await;
        let status = StatusCode::from_u16(answer.status).unwrap();
        (status, serde_json::from_str(&answer.text).unwrap_or_default())
    }

    fn published(&self) -> Vec<Published> {
        self.component.published.lock().unwrap().clone()
    }
}

fn request(path: &str, body: &str) -> Request<Body> {
    Request::post(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap()
}

#[tokio::test]
async fn a_publish_is_stored_and_answered_with_204() {
    let api = Api::new();
    let (status, _) =
        api.call(request("/v1.0/publish/pubsub/a/b%20c?metadata.priority=3", "{}")).await;
    assert_eq!(status, 204);
    let published = api.published();
    let message = &published[0].messages[0];
    assert_eq!((published[0].topic.as_str(), message.priority), ("a/b c", 3));
    assert_eq!(message.content_type.as_deref(), Some("application/json"));
}

#[tokio::test]
async fn put_is_as_good_as_post() {
    let api = Api::new();
    let put = Request::put("/v1.0/publish/pubsub/t").body(Body::from("x")).unwrap();
    assert_eq!(api.call(put).await.0, 204);
    assert_eq!(api.published().len(), 1);
}

#[tokio::test]
async fn errors_are_worded_as_dapr_words_them() {
    let api = Api::new();
    let (status, body) = api.call(request("/v1.0/publish/nope/t", "{}")).await;
    assert_eq!(status, 404);
    assert_eq!(
        body,
        json!({
            "errorCode": "ERR_PUBSUB_NOT_FOUND", "message": "pubsub nope is not found",
            "details": [{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "dapr.io",
                "metadata": {}, "reason": "DAPR_PUBSUB_NOT_FOUND",
            }],
        })
    );
    let (status, body) = api.call(request("/v1.0/publish/pubsub/", "{}")).await;
    assert_eq!((status.as_u16(), &body["errorCode"]), (404, &json!("ERR_TOPIC_NAME_EMPTY")));
    assert_eq!(body["message"], json!("topic is empty in pubsub pubsub"));
    let resource = json!({
        "@type": "type.googleapis.com/google.rpc.ResourceInfo",
        "resource_type": "pubsub", "resource_name": "pubsub", "owner": "",
        "description": "topic is empty in pubsub pubsub",
    });
    assert_eq!(body["details"][0], resource);

    let (status, body) =
        api.call_on(&Components::default(), request("/v1.0/publish/p/t", "")).await;
    assert_eq!((status.as_u16(), &body["errorCode"]), (400, &json!("ERR_PUBSUB_NOT_CONFIGURED")));
}

#[tokio::test]
async fn a_topic_out_of_scope_is_forbidden() {
    let mut api = Api::new();
    api.topics =
        TopicScopes::parse(|name| (name == "publishingScopes").then(|| "app=other".to_owned()));
    let (status, body) = api.call(request("/v1.0/publish/pubsub/t", "{}")).await;
    assert_eq!((status.as_u16(), &body["errorCode"]), (403, &json!("ERR_PUBSUB_FORBIDDEN")));
    assert_eq!(body["message"], json!("topic t is not allowed for app id app"));
}

#[tokio::test]
async fn a_topic_that_is_too_long_is_refused_with_the_limit() {
    let path = format!("/v1.0/publish/pubsub/{}", "x".repeat(21));
    let (status, body) = Api::new().call(request(&path, "{}")).await;
    assert_eq!(status, 400);
    assert!(body["message"].as_str().unwrap().contains("the limit of pubsub pubsub is 20"));
}

#[tokio::test]
async fn bad_metadata_and_events_are_refused() {
    let api = Api::new();
    let (status, body) =
        api.call(request("/v1.0/publish/pubsub/t?metadata.rawPayload=yes", "{}")).await;
    assert_eq!((status.as_u16(), &body["errorCode"]), (400, &json!("ERR_PUBSUB_REQUEST_METADATA")));
    let event = Request::post("/v1.0/publish/pubsub/t")
        .header("content-type", "application/cloudevents+json")
        .body(Body::from("[]"))
        .unwrap();
    let (status, body) = api.call(event).await;
    assert_eq!((status.as_u16(), &body["errorCode"]), (500, &json!("ERR_PUBSUB_CLOUD_EVENTS_SER")));
    assert!(api.published().is_empty());
}

#[tokio::test]
async fn a_refusal_of_the_store_tells_full_from_broken() {
    for (refusal, expected) in [
        (Refusal::new(RefusalKind::Full, "no room"), 507),
        (Refusal::new(RefusalKind::TooLarge, "too large"), 413),
        (Refusal::new(RefusalKind::Unavailable, "failed"), 503),
        (Refusal::other("broken"), 500),
    ] {
        let api = Api::with(FakePubSub { refusal: Some(refusal), ..FakePubSub::default() });
        let (status, body) = api.call(request("/v1.0/publish/pubsub/t", "{}")).await;
        assert_eq!(status.as_u16(), expected);
        assert_eq!(body["errorCode"], json!("ERR_PUBSUB_PUBLISH_MESSAGE"));
        let message = body["message"].as_str().unwrap();
        assert!(message.starts_with("error when publishing to topic t in pubsub pubsub: "));
    }
}

#[tokio::test]
async fn a_bulk_is_one_record_of_all_its_entries() {
    let api = Api::new();
    let body = r#"[{"entryId":"1","event":{"n":1.10},"contentType":"application/json"},
        {"entryId":"2","event":"AP8=","contentType":"application/octet-stream","metadata":{"ttlInSeconds":"1"}},
        {"entryId":"3","event":"a\"b","contentType":"text/plain"}]"#;
    for path in ["/v1.0/publish/bulk/pubsub/t", "/v1.0-alpha1/publish/bulk/pubsub/t"] {
        assert_eq!(api.call(request(path, body)).await.0, 204);
    }
    let published = api.published();
    assert_eq!(published.len(), 2);
    let data: Vec<&[u8]> = published[0].messages.iter().map(|m| m.data.as_slice()).collect();
    assert_eq!(data, [br#"{"n":1.10}"#.as_slice(), &[0, 255], b"a\"b"]);
    assert_eq!(published[0].messages[1].ttl_ms, Some(1000));
}

#[tokio::test]
async fn a_bulk_names_the_entries_that_failed_and_publishes_the_others() {
    let api = Api::new();
    let body = r#"[{"entryId":"1","event":1,"contentType":"application/json"},
        {"entryId":"2","event":1,"contentType":"application/json","metadata":{"priority":"9"}}]"#;
    let (status, body) = api.call(request("/v1.0/publish/bulk/pubsub/t", body)).await;
    assert_eq!(status, 500);
    assert_eq!(body["errorCode"], json!("ERR_PUBSUB_PUBLISH_MESSAGE"));
    assert_eq!(body["failedEntries"].as_array().unwrap().len(), 1);
    assert_eq!(body["failedEntries"][0]["entryId"], json!("2"));
    assert_eq!(api.published()[0].messages.len(), 1);
}

#[tokio::test]
async fn a_bulk_that_the_store_refuses_fails_as_a_whole() {
    let api = Api::with(FakePubSub {
        refusal: Some(Refusal::new(RefusalKind::Full, "no room")),
        ..FakePubSub::default()
    });
    let body = r#"[{"entryId":"1","event":1,"contentType":"application/json"}]"#;
    let (status, body) = api.call(request("/v1.0/publish/bulk/pubsub/t", body)).await;
    assert_eq!((status.as_u16(), &body["failedEntries"][0]["entryId"]), (507, &json!("1")));
}

#[tokio::test]
async fn a_bulk_that_cannot_be_read_is_refused_before_anything_is_published() {
    for (body, reason) in [
        ("{}", "DAPR_PUBSUB_UNMARSHAL_EVENTS"),
        (r#"[{"event":1,"contentType":"application/json"}]"#, "DAPR_PUBSUB_MARSHAL_EVENTS"),
        (
            r#"[{"entryId":"1","event":1,"contentType":"application/json"},
                {"entryId":"1","event":1,"contentType":"application/json"}]"#,
            "DAPR_PUBSUB_MARSHAL_EVENTS",
        ),
        (r#"[{"entryId":"1","event":1,"contentType":"text/plain"}]"#, "DAPR_PUBSUB_MARSHAL_EVENTS"),
        (r#"[{"entryId":"1","event":"x"}]"#, "DAPR_PUBSUB_MARSHAL_EVENTS"),
    ] {
        let api = Api::new();
        let (status, answer) = api.call(request("/v1.0/publish/bulk/pubsub/t", body)).await;
        assert_eq!((status.as_u16(), &answer["errorCode"]), (400, &json!("ERR_PUBSUB_EVENTS_SER")));
        assert_eq!(answer["details"][1]["reason"], json!(reason), "{body}");
        assert!(api.published().is_empty());
    }
}
