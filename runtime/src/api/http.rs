//! The HTTP API of one app.

pub mod error;
pub mod health;
pub mod metadata;
pub mod publish;
mod request;
pub mod routes;
mod state;

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::uri::PathAndQuery;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use blocks::Principal;
use blocks::registry::{Current, Registry};
use components::stop::Stopper;
use serde::Serialize;
use subtle::ConstantTimeEq;
use tower_service::Service;

use self::error::ApiError;
use self::health::Health;
use self::metadata::{AppConnection, ComponentInfo, Described};

/// The header that carries the API's token.
const TOKEN_HEADER: &str = "dapr-api-token";

/// Everything that the API of one app serves.
pub struct Api {
    /// The app.
    pub app_id: Arc<str>,
    /// The components that it may use.
    pub registry: Arc<Current>,
    /// The token that callers must present, if any.
    pub api_token: Option<ApiToken>,
    /// Most bytes of a body.
    pub max_body: usize,
    /// Progress of the start.
    pub health: Arc<Health>,
    /// Subscriptions and attributes for `/v1.0/metadata`.
    pub described: Arc<Described>,
    /// The components that the app may use.
    pub components: Vec<ComponentInfo>,
    /// The way to the app.
    pub app: AppConnection,
    /// The request to stop, which the app may make.
    pub shutdown: Stopper,
}

/// A token, never printed.
#[derive(Clone)]
pub struct ApiToken(String);

impl ApiToken {
    /// The token; none when it is empty, as in Dapr.
    pub fn new(token: impl Into<String>) -> Option<Self> {
        Some(Self(token.into())).filter(|token| !token.0.is_empty())
    }

    fn admits(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

/// A shared [`Api`], which handlers get.
#[derive(Clone)]
pub struct ApiState {
    api: Arc<Api>,
    principal: Principal,
}

impl ApiState {
    /// Shares `api`.
    #[must_use]
    pub fn new(api: Api) -> Self {
        let principal = Principal::App(Arc::clone(&api.app_id));
        Self { api: Arc::new(api), principal }
    }

    /// Returns the components as they are now; a call keeps them to its end.
    fn registry(&self) -> Arc<Registry> {
        self.api.registry.snapshot()
    }
}

impl Deref for ApiState {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

/// The API: tokens and limits are checked and paths made plain before a route is looked for.
pub fn router(state: ApiState) -> Router {
    let routes = routes::router()
        .method_not_allowed_fallback(no_route)
        .layer(DefaultBodyLimit::max(state.max_body));
    let stripped = routes.clone().fallback(no_route).with_state(state.clone());
    let routes = routes
        .fallback(move |request: Request| strip_slash(stripped.clone(), request))
        .with_state(state.clone());
    Router::new().fallback(move |request: Request| admit(state.clone(), routes.clone(), request))
}

async fn admit(state: ApiState, mut routes: Router, mut request: Request) -> Response {
    if let Some(refusal) = refusal(&state, &request) {
        return refusal;
    }
    if let Some(uri) = plain(request.uri()) {
        *request.uri_mut() = uri;
    }
    let response = infallible(routes.call(request).await);
    let is_ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|v| v == JSON);
    match response.status() {
        // A body without a length that went over the limit while an extractor read it.
        StatusCode::PAYLOAD_TOO_LARGE if !is_ours => {
            ApiError::oversize(state.max_body).into_response()
        }
        _ => response,
    }
}

fn refusal(state: &ApiState, request: &Request) -> Option<Response> {
    if !request::is_escaped_well(request.uri().path()) {
        let message = "the path has a % without two hexadecimal digits after it";
        return Some(ApiError::malformed(message).into_response());
    }
    if !is_admitted(state, request) {
        return Some((StatusCode::UNAUTHORIZED, "invalid api token").into_response());
    }
    let length = request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse::<usize>();
    length
        .is_ok_and(|length| length > state.max_body)
        .then(|| ApiError::oversize(state.max_body).into_response())
}

fn is_admitted(state: &ApiState, request: &Request) -> bool {
    let Some(token) = &state.api_token else { return true };
    let presented = request.headers().get(TOKEN_HEADER);
    presented.is_some_and(|presented| token.admits(presented.as_bytes()))
        || routes::is_open(request.uri().path())
}

/// The same address without double slashes, and with spaces for `+` in the path, as Go reads it;
/// `None` if it is plain already.
fn plain(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") && !path.contains('+') {
        return None;
    }
    let mut cleaned = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '/' if cleaned.ends_with('/') => {}
            '+' => cleaned.push_str("%20"),
            c => cleaned.push(c),
        }
    }
    with_path(uri, cleaned)
}

async fn strip_slash(mut routes: Router, mut request: Request<Body>) -> Response {
    let stripped = request.uri().path().strip_suffix('/').map(str::to_owned);
    match stripped.and_then(|path| with_path(request.uri(), path)) {
        Some(uri) => {
            *request.uri_mut() = uri;
            infallible(routes.call(request).await)
        }
        None => ApiError::no_route().into_response(),
    }
}

fn with_path(uri: &Uri, mut path: String) -> Option<Uri> {
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

async fn no_route() -> ApiError {
    ApiError::no_route()
}

fn infallible<T>(result: Result<T, Infallible>) -> T {
    let Ok(value) = result;
    value
}

const JSON: &str = "application/json";

fn json(body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("names and texts are always JSON");
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}

#[cfg(test)]
mod tests;
