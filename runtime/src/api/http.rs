//! The HTTP API of one app.

pub mod error;
pub mod health;
pub mod metadata;
mod path;
mod publish;
mod request;
mod routes;
mod state;

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use blocks::Principal;
use blocks::registry::{Current, Registry};
use components::stop::Stopper;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, NeverError, ready};
use serde::Serialize;
use tower_service::Service;

use self::error::ApiError;
use self::health::Health;
use self::metadata::{AppConnection, ComponentInfo, Described};
use self::request::{ApiRequest, RequestBody, RequestHead};
use super::stack::{Denial, Guard, GuardedApi, Stack};

/// Everything that the API of one app serves.
pub struct Api {
    /// The app.
    pub app_id: Arc<str>,
    /// The components that it may use.
    pub registry: Arc<Current>,
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

/// Returns the API behind the stack.
pub fn service(state: ApiState, guard: Guard) -> Stack<HttpApi> {
    let api = HttpApi { state, max_body: guard.max_body };
    Stack::new(guard, api)
}

/// The codec: finds the route of a request and runs its handler.
#[derive(Clone)]
pub struct HttpApi {
    state: ApiState,
    max_body: usize,
}

impl GuardedApi for HttpApi {
    fn label(&self, path: &str) -> &'static str {
        routes::label(path)
    }

    fn is_open(&self, path: &str) -> bool {
        routes::is_open(path)
    }

    fn deny(&self, denial: Denial) -> Response {
        match denial {
            Denial::MalformedPath => {
                let message = "the path has a % without two hexadecimal digits after it";
                ApiError::malformed(message).into_response()
            }
            Denial::WrongToken => (StatusCode::UNAUTHORIZED, "invalid api token").into_response(),
            Denial::BodyTooLarge { limit } => ApiError::oversize(limit).into_response(),
        }
    }
}

impl Service<Request> for HttpApi {
    type Response = Response;
    type Error = Infallible;
    type Future = NeverError<BoxFuture<'static, Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.run(request).never_error()
    }
}

impl HttpApi {
    fn run(&self, request: Request) -> BoxFuture<'static, Response> {
        let (mut parts, body) = request.into_parts();
        if let Some(uri) = path::plain(&parts.uri) {
            parts.uri = uri;
        }
        let mut route = routes::find(&parts.method, parts.uri.path());
        if route.is_none()
            && let Some(uri) = path::without_last_slash(&parts.uri)
        {
            parts.uri = uri;
            route = routes::find(&parts.method, parts.uri.path());
        }
        let Some(route) = route else {
            return Box::pin(ready(ApiError::no_route().into_response()));
        };
        (route.handler)(ApiRequest {
            api: self.state.clone(),
            head: RequestHead { parts, pattern: route.path },
            body: RequestBody { body, limit: self.max_body },
        })
    }
}

const JSON: &str = "application/json";

fn json(body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("names and texts are always JSON");
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}

#[cfg(test)]
mod tests;
