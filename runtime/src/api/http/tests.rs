#![allow(clippy::unwrap_used)]

//! A router over a fake store, and what holds for every route.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Mutex;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{HeaderMap, Method};
use blocks::registry::{Components, KeyPrefix, StateComponent};
use bytes::Bytes;
use components::port::Component;
use components::port::state::StateFeatures;
use components::{EtagCondition, Item, Refusal, RefusalKind, StateError, StateOp, StateStore};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::*;
use crate::api::stack::{ApiToken, TOKEN_HEADER};
use crate::metrics::Observer;

/// A state store of a map; the entity tag counts writes. Keys that start with `full`, `large`,
/// `poisoned` or `broken` (after the prefix) fail so.
#[derive(Default)]
pub(super) struct FakeStore {
    rows: Mutex<BTreeMap<String, Item>>,
    writes: Mutex<u64>,
}

impl FakeStore {
    pub(super) fn row(&self, key: &str) -> Option<Item> {
        self.rows.lock().unwrap().get(key).cloned()
    }

    fn check(&self, at: usize, op: &StateOp) -> Result<(), StateError> {
        let (StateOp::Set { key, condition, .. } | StateOp::Delete { key, condition }) = op;
        failure(key)?;
        let found = self.row(key).map(|item| item.etag);
        let holds = match condition {
            EtagCondition::Any => true,
            EtagCondition::FirstWrite => found.is_none(),
            EtagCondition::Matches(etag) if etag.parse::<u64>().is_err() => {
                return Err(StateError::EtagInvalid { etag: etag.clone() });
            }
            EtagCondition::Matches(etag) => found.as_ref() == Some(etag),
        };
        let expected = match condition {
            EtagCondition::Matches(etag) => Some(etag.clone()),
            _ => None,
        };
        let mismatch = StateError::EtagMismatch { op: at, key: key.clone(), expected, found };
        if holds { Ok(()) } else { Err(mismatch) }
    }
}

fn failure(key: &str) -> Result<(), Refusal> {
    let key = key.rsplit('|').next().unwrap();
    Err(match key.split('-').next().unwrap() {
        "full" => Refusal::new(RefusalKind::Full, "the disk is full"),
        "large" => Refusal::new(RefusalKind::TooLarge, "the key is too long"),
        "poisoned" => Refusal::new(RefusalKind::Unavailable, "the disk failed"),
        "broken" => Refusal::other("no luck"),
        _ => return Ok(()),
    })
}

#[async_trait]
impl StateStore for FakeStore {
    fn features(&self) -> StateFeatures {
        let transaction = NonZeroUsize::new(3);
        StateFeatures { etag: true, ttl: true, transaction, ..StateFeatures::default() }
    }

    async fn get(&self, keys: &[String]) -> Vec<Result<Option<Item>, Refusal>> {
        keys.iter().map(|key| failure(key).map(|()| self.row(key))).collect()
    }

    async fn write(&self, ops: Vec<StateOp>) -> Result<(), StateError> {
        for (at, op) in ops.iter().enumerate() {
            self.check(at, op)?;
        }
        let mut writes = self.writes.lock().unwrap();
        *writes += 1;
        let mut rows = self.rows.lock().unwrap();
        for op in ops {
            match op {
                StateOp::Set { key, value, ttl, .. } => {
                    let etag = writes.to_string();
                    rows.insert(key, Item { value, etag, expires_in: ttl });
                }
                StateOp::Delete { key, .. } => drop(rows.remove(&key)),
            }
        }
        Ok(())
    }
}

impl Component for FakeStore {}

/// The API of `app` over the store `store`, bodies of 1 KiB at most.
pub(super) struct Fixture {
    pub(super) store: Arc<FakeStore>,
    pub(super) state: ApiState,
    service: Stack<HttpApi>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub(super) fn code(&self) -> (u16, String) {
        (self.status, self.json()["errorCode"].as_str().unwrap().to_owned())
    }

    pub(super) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut Api)) -> Self {
        Self::with_token(None, change)
    }

    fn with_token(api_token: Option<ApiToken>, change: impl FnOnce(&mut Api)) -> Self {
        let store = Arc::new(FakeStore::default());
        let component = StateComponent {
            name: "store".into(),
            store: Arc::clone(&store) as Arc<dyn StateStore>,
            prefix: KeyPrefix::AppId,
            apps: vec![],
        };
        let mut components = Components::default();
        components.state.push(Arc::new(component));
        let mut api = Api {
            app_id: "app".into(),
            registry: Arc::new(Current::new(Registry::for_app(&components, "app", ""))),
            health: Arc::default(),
            described: Arc::default(),
            components: vec![],
            app: AppConnection::default(),
            shutdown: Stopper::default(),
        };
        change(&mut api);
        let state = ApiState::new(api);
        let observer = Observer { calls: Arc::default(), app: "app".into(), log: false };
        let guard = Guard { api_token, max_body: 1024, observer };
        Self { store, state: state.clone(), service: service(state, guard) }
    }

    pub(super) async fn send(&self, request: Request) -> Answer {
        let response = self.service.clone().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = body.collect().await.unwrap().to_bytes().to_vec();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(text).unwrap(),
        }
    }

    pub(super) async fn call(&self, method: Method, path: &str, body: &str) -> Answer {
        let request = Request::builder().method(method).uri(path);
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "").await
    }

    pub(super) async fn post(&self, path: &str, body: &str) -> Answer {
        self.call(Method::POST, path, body).await
    }
}

#[tokio::test]
async fn what_no_route_has_is_a_service_invocation_without_an_app() {
    let api = Fixture::new();
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/v1.0/nothing"),
        (Method::PATCH, "/v1.0/state/store"),
        (Method::GET, "/v1.0/state/store"),
        (Method::GET, "/v1.0/shutdown"),
        (Method::POST, "/v1.0/healthz"),
    ] {
        let answer = api.call(method, path, "").await;
        assert_eq!(answer.code(), (404, "ERR_DIRECT_INVOKE".into()), "{path}");
    }
}

#[tokio::test]
async fn double_slashes_are_cleaned_and_a_last_slash_is_stripped_if_nothing_matches() {
    let api = Fixture::new();
    assert_eq!(api.post("//v1.0//state/store/", r#"[{"key":"a b","value":1}]"#).await.status, 204);
    assert_eq!(api.get("/v1.0/state//store/a%20b").await.text, "1");
    assert_eq!(api.get("/v1.0/state/store/a+b?consistency=strong").await.text, "1");
    assert_eq!(api.get("/v1.0/state/store/a+b/").await.text, "1");
}

#[tokio::test]
async fn a_path_that_is_badly_escaped_is_malformed() {
    let api = Fixture::new();
    for path in ["/v1.0/state/store/%zz", "/v1.0/state/store/%ff", "/v1.0/state/store/a?x=%ff"] {
        assert_eq!(api.get(path).await.code(), (400, "ERR_MALFORMED_REQUEST".into()), "{path}");
    }
}

#[tokio::test]
async fn a_wrong_token_is_refused_everywhere_but_at_health() {
    let api = Fixture::with_token(ApiToken::new("secret"), |api| {
        api.health.set_outbound_ready(true);
    });
    for token in [None, Some("wrong"), Some("secret2")] {
        let mut request = Request::builder().uri("/v1.0/metadata");
        if let Some(token) = token {
            request = request.header(TOKEN_HEADER, token);
        }
        let answer = api.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.text.as_str()), (401, "invalid api token"));
    }
    let request = Request::builder().uri("/v1.0/metadata").header(TOKEN_HEADER, "secret");
    assert_eq!(api.send(request.body(Body::empty()).unwrap()).await.status, 200);
    assert_eq!(api.get("/v1.0/healthz/outbound").await.status, 204);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_its_length_known_or_not() {
    let api = Fixture::new();
    let body = format!(r#"[{{"key":"k","value":"{}"}}]"#, "x".repeat(2000));
    let known = api.post("/v1.0/state/store", &body).await;
    assert_eq!(known.code(), (413, "ERR_BODY_READ".into()));
    assert!(known.message().contains("1024 bytes"), "{}", known.message());
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1.0/state/store")
        .header(header::CONTENT_LENGTH, "5000000000");
    let declared = api.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(declared.code(), (413, "ERR_BODY_READ".into()));
}

#[tokio::test]
async fn health_tells_outbound_from_all_ready() {
    let api = Fixture::new();
    let outbound = api.get("/v1.0/healthz/outbound").await;
    assert_eq!(outbound.code(), (500, "ERR_OUTBOUND_HEALTH_NOT_READY".into()));
    api.state.health.set_outbound_ready(true);
    assert_eq!(api.get("/v1.0/healthz/outbound").await.status, 204);
    assert_eq!(api.get("/v1.0/healthz").await.code(), (500, "ERR_HEALTH_NOT_READY".into()));
    api.state.health.set_ready(true);
    assert_eq!(api.get("/v1.0/healthz?appid=app").await.status, 204);
    let other = api.get("/v1.0/healthz?appid=other").await;
    assert_eq!(other.code(), (500, "ERR_HEALTH_APPID_NOT_MATCH".into()));
}

#[tokio::test]
async fn metadata_has_daprs_shape_and_versions() {
    let api = Fixture::with(|api| {
        api.components.push(ComponentInfo {
            name: "store".into(),
            kind: "state.redb".into(),
            version: "v1".into(),
            capabilities: vec!["ETAG"],
        });
        api.app.port = Some(8080);
    });
    let text = api.get("/v1.0/metadata").await.json();
    assert_eq!(text["id"], "app");
    assert_eq!(text["runtimeVersion"], "1.18.0");
    assert_eq!(text["extended"]["daprRuntimeVersion"], "1.18.0");
    assert!(text["extended"]["pannierVersion"].is_string());
    assert_eq!(text["components"][0]["type"], "state.redb");
    assert_eq!(text["appConnectionProperties"], json!({ "port": 8080 }));
    assert!(text.get("subscriptions").is_none());
}

#[tokio::test]
async fn subscriptions_are_told_as_they_are_set() {
    let api = Fixture::new();
    api.state.described.set_subscriptions(vec![metadata::SubscriptionInfo {
        pubsub: "bus".into(),
        topic: "orders".into(),
        metadata: BTreeMap::new(),
        rules: vec![metadata::RuleInfo { matches: String::new(), path: "/orders".into() }],
        dead_letter_topic: String::new(),
        kind: "PROGRAMMATIC",
    }]);
    let expected = json!([{
        "pubsubname": "bus", "topic": "orders", "rules": [{ "path": "/orders" }],
        "deadLetterTopic": "", "type": "PROGRAMMATIC",
    }]);
    assert_eq!(api.get("/v1.0/metadata").await.json()["subscriptions"], expected);
}

#[tokio::test]
async fn attributes_are_kept_but_never_hide_our_version() {
    let api = Fixture::new();
    for (name, value) in [("cliPID", "17"), ("daprRuntimeVersion", "0.1")] {
        let path = format!("/v1.0/metadata/{name}");
        assert_eq!(api.call(Method::PUT, &path, value).await.status, 204);
    }
    let extended = api.get("/v1.0/metadata").await.json()["extended"].clone();
    assert_eq!(extended["cliPID"], "17");
    assert_eq!(extended["daprRuntimeVersion"], "1.18.0");
}

#[tokio::test]
async fn attributes_are_bounded_in_number() {
    let api = Fixture::new();
    for at in 0..100 {
        let path = format!("/v1.0/metadata/{at}");
        assert_eq!(api.call(Method::PUT, &path, "v").await.status, 204);
    }
    let answer = api.call(Method::PUT, "/v1.0/metadata/more", "v").await;
    assert_eq!(answer.code(), (400, "ERR_MALFORMED_REQUEST".into()));
    assert_eq!(api.call(Method::PUT, "/v1.0/metadata/7", "w").await.status, 204);
}

#[tokio::test]
async fn a_shutdown_request_is_answered_and_passed_on() {
    let api = Fixture::new();
    let asked = api.state.shutdown.subscribe();
    assert_eq!(api.post("/v1.0/shutdown", "").await.status, 204);
    assert!(asked.is_requested());
}

#[tokio::test]
async fn a_body_that_stalls_is_a_timeout_that_says_what_to_do() {
    let api = Fixture::new();
    let frames = futures_util::stream::iter([Ok(Bytes::from("[")), Err(crate::serve::Stalled)]);
    let body = Body::from_stream(frames);
    let request = Request::post("/v1.0/state/store").body(body).unwrap();
    let answer = api.send(request).await;
    assert_eq!(answer.code(), (408, "ERR_BODY_READ".into()));
    assert!(answer.message().contains("send it again"), "{}", answer.message());
}
