#![allow(clippy::unwrap_used)]

use std::future::Ready;

use http::StatusCode;

use super::*;

/// An API that answers every call with 204, and a denial with its name.
#[derive(Clone)]
struct FakeApi;

impl GuardedApi for FakeApi {
    fn label(&self, _: &str) -> &'static str {
        "fake"
    }

    fn is_open(&self, path: &str) -> bool {
        path == "/open"
    }

    fn deny(&self, denial: Denial) -> Response {
        Response::builder().status(400).body(format!("{denial:?}").into()).unwrap()
    }
}

impl Service<Request<()>> for FakeApi {
    type Response = Response;
    type Error = Infallible;
    type Future = Ready<Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        std::future::ready(Ok(response))
    }
}

/// Returns the denial of a request by a stack with the token `secret` and a limit of 10 bytes; empty
/// if the API was called.
async fn denial(path: &str, headers: &[(&str, &str)]) -> String {
    let observer = Observer { calls: Arc::default(), app: "app".into(), log: false };
    let guard = Guard { api_token: ApiToken::new("secret"), max_body: 10, observer };
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = Stack::new(guard, FakeApi).call(request.body(()).unwrap()).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

const SECRET: (&str, &str) = (TOKEN_HEADER, "secret");

#[tokio::test]
async fn a_token_is_needed_where_the_api_is_not_open() {
    assert_eq!(denial("/a", &[]).await, "WrongToken");
    assert_eq!(denial("/a", &[(TOKEN_HEADER, "other")]).await, "WrongToken");
    assert_eq!(denial("/a", &[SECRET]).await, "");
    assert_eq!(denial("/open", &[]).await, "");
}

#[tokio::test]
async fn an_announced_body_over_the_limit_is_denied() {
    let length = |length| ("content-length", length);
    assert_eq!(denial("/a", &[SECRET, length("10")]).await, "");
    assert_eq!(denial("/a", &[SECRET, length("11")]).await, "BodyTooLarge { limit: 10 }");
    assert_eq!(denial("/a", &[length("11")]).await, "WrongToken");
}

#[tokio::test]
async fn a_path_that_is_badly_escaped_is_denied_first() {
    for path in ["/%", "/%2", "/a%zz/b"] {
        assert_eq!(denial(path, &[]).await, "MalformedPath", "{path}");
    }
    assert_eq!(denial("/%2fa", &[SECRET]).await, "");
}
