//! The stack in front of each API: the token, the limits, and the observation of calls.
//!
//! The stack decides by the head of a request alone. The body's type and the encoding of errors are those
//! of the API behind it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::response::Response;
use futures_util::future::{BoxFuture, Either, ready};
use http::{HeaderMap, Request, header};
use subtle::ConstantTimeEq;
use tower_service::Service;

use crate::metrics::Observer;

/// The header that carries the API's token.
pub const TOKEN_HEADER: &str = "dapr-api-token";

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

/// The rules of one app's APIs.
pub struct Guard {
    /// The token that callers must present, if any.
    pub api_token: Option<ApiToken>,
    /// Most bytes of a body.
    pub max_body: usize,
    /// The observer of the app's calls.
    pub observer: Observer,
}

/// An API that the stack stands in front of.
pub trait GuardedApi {
    /// Returns the label of a path in metrics.
    fn label(&self, path: &str) -> &'static str;

    /// Tells whether a path admits callers without a token.
    fn is_open(&self, path: &str) -> bool;

    /// Encodes the response to a request that is denied.
    fn deny(&self, denial: Denial) -> Response;
}

/// The reason to answer a request without a call of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The path has a `%` without two hexadecimal digits after it.
    MalformedPath,
    /// The token is missing or wrong.
    WrongToken,
    /// The body's announced length is over the limit.
    BodyTooLarge {
        /// Most bytes of a body.
        limit: usize,
    },
}

/// An API and the stack in front of it.
#[derive(Clone)]
pub struct Stack<A> {
    guard: Arc<Guard>,
    api: A,
}

impl<A> Stack<A> {
    /// Puts `guard` in front of `api`.
    pub fn new(guard: Guard, api: A) -> Self {
        Self { guard: Arc::new(guard), api }
    }
}

impl<A, B> Service<Request<B>> for Stack<A>
where
    A: Service<Request<B>, Response = Response, Error = Infallible> + GuardedApi,
    A::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.api.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let label = self.api.label(request.uri().path());
        let observation = self.guard.observer.begin(&request, label);
        let response = match self.guard.denial(&self.api, &request) {
            Some(denial) => Either::Left(ready(Ok(self.api.deny(denial)))),
            None => Either::Right(self.api.call(request)),
        };
        Box::pin(async move {
            let response = response.await?;
            observation.end(response.status());
            Ok(response)
        })
    }
}

impl Guard {
    fn denial<B>(&self, api: &impl GuardedApi, request: &Request<B>) -> Option<Denial> {
        let path = request.uri().path();
        if !is_escaped_well(path) {
            return Some(Denial::MalformedPath);
        }
        if !self.is_admitted(request.headers()) && !api.is_open(path) {
            return Some(Denial::WrongToken);
        }
        let length = announced_length(request.headers());
        let is_too_large = length.is_some_and(|length| length > self.max_body);
        is_too_large.then_some(Denial::BodyTooLarge { limit: self.max_body })
    }

    fn is_admitted(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.api_token else { return true };
        headers.get(TOKEN_HEADER).is_some_and(|presented| token.admits(presented.as_bytes()))
    }
}

fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Tells whether each `%` is followed by two hexadecimal digits.
pub fn is_escaped_well(text: &str) -> bool {
    let digits = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    text.split('%').skip(1).all(digits)
}

#[cfg(test)]
mod tests;
