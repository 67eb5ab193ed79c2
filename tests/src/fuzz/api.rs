//! The HTTP API of an app, over the components that every device has.

use std::cell::RefCell;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use blocks::registry::{Current, Registry};
use components::Embedded;
use components::stop::Stopper;
use http_body_util::BodyExt;
use runtime::api::http::metadata::AppConnection;
use runtime::api::http::{Api, ApiState, HttpApi, service};
use runtime::api::stack::{Guard, Stack};
use runtime::assemble::{AssemblyContext, assemble};
use runtime::metrics::Observer;
use serde_json::Value;
use store_forward::clock::{ManualClock, Reading};
use store_forward::disk::MemoryDisk;
use store_forward::limits::Limits;
use store_forward::store::Options;
use tokio::runtime::{Builder, Runtime};
use tower_service::Service;

use super::input::Input;

/// Bytes of a body at most.
const MAX_BODY: usize = 4096;

/// Methods and the starts of paths; the input has the rest.
const CALLS: [(&str, &str); 13] = [
    ("POST", "/v1.0/state/statestore"),
    ("POST", "/v1.0/state/statestore/bulk"),
    ("POST", "/v1.0/state/statestore/transaction"),
    ("GET", "/v1.0/state/statestore/"),
    ("DELETE", "/v1.0/state/statestore/"),
    ("POST", "/v1.0/publish/pubsub/"),
    ("POST", "/v1.0/publish/bulk/pubsub/topic"),
    ("POST", "/v1.0-alpha1/publish/bulk/pubsub/topic"),
    ("PUT", "/v1.0/metadata/"),
    ("GET", "/v1.0/metadata"),
    ("GET", "/v1.0/healthz"),
    ("POST", "/v1.0-alpha1/state/statestore/query"),
    ("POST", "/"),
];

/// Requests of one input.
const MAX_REQUESTS: usize = 8;

/// Inputs that one device serves: making a new one takes longer than most inputs.
const INPUTS_OF_A_DEVICE: u32 = 100;

thread_local! {
    static DEVICE: RefCell<Option<Device>> = const { RefCell::new(None) };
}

struct Device {
    tokio: Runtime,
    service: Stack<HttpApi>,
    inputs: u32,
}

/// A few requests, one after the other.
pub(super) fn run(data: &[u8]) {
    DEVICE.with_borrow_mut(|device| {
        let Device { tokio, service, inputs } = device.get_or_insert_with(Device::new);
        let mut input = Input(data);
        for _ in 0..MAX_REQUESTS {
            let Some(which) = input.byte() else { break };
            tokio.block_on(send(service, CALLS[usize::from(which) % CALLS.len()], &mut input));
        }
        *inputs += 1;
        if *inputs == INPUTS_OF_A_DEVICE {
            *device = None;
        }
    });
}

impl Device {
    fn new() -> Self {
        let tokio = Builder::new_current_thread().build().expect("it can be built");
        let observer = Observer { calls: Arc::default(), app: "app".into(), log: false };
        let guard = Guard { api_token: None, max_body: MAX_BODY, observer };
        let service = service(tokio.block_on(state()), guard);
        Self { tokio, service, inputs: 0 }
    }
}

async fn state() -> ApiState {
    let reading = Reading { wall_ms: 1_767_225_600_000, up_ms: 1, believed: true };
    let clock = Arc::new(ManualClock::new(reading, "boot"));
    let limits = Limits { reserve_bytes: 0, cache_bytes: 64 << 10, ..Limits::default() };
    let options = Options { node: None, limits: limits.clone(), volatile: true };
    let context = AssemblyContext {
        embedded: Embedded::new(options, Arc::new(MemoryDisk::new()), clock),
        limits,
        app_id: "app".to_owned(),
        namespace: String::new(),
    };
    let assembly = assemble(&config::model::Resources::default(), &context).await;
    let components = assembly.expect("the defaults are valid").components;
    ApiState::new(Api {
        app_id: "app".into(),
        registry: Arc::new(Current::new(Registry::for_app(&components, "app", ""))),
        health: Arc::default(),
        described: Arc::default(),
        components: Vec::new(),
        app: AppConnection::default(),
        shutdown: Stopper::default(),
    })
}

async fn send(service: &mut Stack<HttpApi>, (method, path): (&str, &str), input: &mut Input<'_>) {
    let (tail, content_type, etag) = (input.text(), input.part(), input.part());
    let mut request = Request::builder().method(method).uri(format!("{path}{tail}"));
    for (name, value) in [("content-type", content_type), ("if-match", etag)] {
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    // A request that can't be built never reaches the API.
    let Ok(request) = request.body(Body::from(input.part().to_vec())) else { return };
    let Ok(response) = service.call(request).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("an answer is in memory").to_bytes();
    let is_json = parts.headers.get("content-type").is_some_and(|kind| kind == "application/json");
    let is_error = parts.status.is_client_error() || parts.status.is_server_error();
    if is_json && is_error {
        let error: Value = serde_json::from_slice(&body).expect("an error is JSON");
        let message = error["message"].as_str().or(error["failedEntries"][0]["error"].as_str());
        assert!(message.is_some_and(|message| !message.is_empty()), "{method} {path}: {error}");
    }
    assert!(is_json || parts.status.as_u16() < 500, "{method} {path}: {}", parts.status);
}
