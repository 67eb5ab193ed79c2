//! The table of routes. A new route is a handler and an entry here.

use axum::http::Method;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::request::ApiRequest;
use super::{health, metadata, path, publish, state};

/// A route of the API.
pub(super) struct Route {
    /// The methods.
    methods: &'static [Method],
    /// The path, a pattern of [`path`].
    pub(super) path: &'static str,
    /// The path in metrics, with which every path of the route begins. Paths hold keys and topics, so
    /// there is no end of them.
    label: &'static str,
    access: Access,
    pub(super) handler: fn(ApiRequest) -> BoxFuture<'static, Response>,
}

/// The callers that a route admits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Callers with the API's token, if there is one.
    WithToken,
    /// Everyone: probes have no token.
    Open,
}

const GET: &[Method] = &[Method::GET, Method::HEAD];
const PUT: &[Method] = &[Method::PUT];
const POST: &[Method] = &[Method::POST];
const POST_OR_PUT: &[Method] = &[Method::POST, Method::PUT];
const DELETE: &[Method] = &[Method::DELETE];

/// All routes. The first one that has the method and matches the path is taken.
const ROUTES: &[Route] = &[
    Route {
        methods: GET,
        path: "/v1.0/healthz",
        label: "/v1.0/healthz",
        access: Access::Open,
        handler: |request| run(health::healthz(request)),
    },
    Route {
        methods: GET,
        path: "/v1.0/healthz/outbound",
        label: "/v1.0/healthz",
        access: Access::Open,
        handler: |request| run(health::outbound(request)),
    },
    Route {
        methods: GET,
        path: "/v1.0/metadata",
        label: "/v1.0/metadata",
        access: Access::WithToken,
        handler: |request| run(metadata::get_metadata(request)),
    },
    Route {
        methods: PUT,
        path: "/v1.0/metadata/{key}",
        label: "/v1.0/metadata",
        access: Access::WithToken,
        handler: |request| run(metadata::put_metadata(request)),
    },
    Route {
        methods: POST,
        path: "/v1.0/shutdown",
        label: "/v1.0/shutdown",
        access: Access::WithToken,
        handler: |request| run(metadata::shutdown(request)),
    },
    Route {
        methods: POST_OR_PUT,
        path: "/v1.0/state/{store}",
        label: "/v1.0/state",
        access: Access::WithToken,
        handler: |request| run(state::save(request)),
    },
    Route {
        methods: GET,
        path: "/v1.0/state/{store}/{key}",
        label: "/v1.0/state",
        access: Access::WithToken,
        handler: |request| run(state::get_one(request)),
    },
    Route {
        methods: DELETE,
        path: "/v1.0/state/{store}/{key}",
        label: "/v1.0/state",
        access: Access::WithToken,
        handler: |request| run(state::delete_one(request)),
    },
    Route {
        methods: POST_OR_PUT,
        path: "/v1.0/state/{store}/bulk",
        label: "/v1.0/state",
        access: Access::WithToken,
        handler: |request| run(state::get_bulk(request)),
    },
    Route {
        methods: POST_OR_PUT,
        path: "/v1.0/state/{store}/transaction",
        label: "/v1.0/state",
        access: Access::WithToken,
        handler: |request| run(state::transaction(request)),
    },
    Route {
        methods: POST_OR_PUT,
        path: "/v1.0-alpha1/state/{store}/query",
        label: "/v1.0-alpha1/state",
        access: Access::WithToken,
        handler: |request| run(state::query(request)),
    },
    Route {
        methods: POST_OR_PUT,
        path: "/v1.0/publish/bulk/{pubsub}/{*topic}",
        label: "/v1.0/publish",
        access: Access::WithToken,
        handler: |request| run(publish::publish_bulk(request)),
    },
    Route {
        methods: POST_OR_PUT,
        path: "/v1.0-alpha1/publish/bulk/{pubsub}/{*topic}",
        label: "/v1.0-alpha1/publish",
        access: Access::WithToken,
        handler: |request| run(publish::publish_bulk(request)),
    },
    Route {
        methods: POST_OR_PUT,
        path: "/v1.0/publish/{pubsub}/",
        label: "/v1.0/publish",
        access: Access::WithToken,
        handler: |request| run(publish::publish(request)),
    },
    Route {
        methods: POST_OR_PUT,
        path: "/v1.0/publish/{pubsub}/{*topic}",
        label: "/v1.0/publish",
        access: Access::WithToken,
        handler: |request| run(publish::publish(request)),
    },
];

/// Finds the route of a method and a path.
pub(super) fn find(method: &Method, path: &str) -> Option<&'static Route> {
    let is_meant =
        |route: &&Route| route.methods.contains(method) && path::is_match(route.path, path);
    ROUTES.iter().find(is_meant)
}

/// Tells whether a path admits callers without a token.
pub(super) fn is_open(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    ROUTES.iter().any(|route| route.access == Access::Open && route.path == path)
}

/// Returns the label of a path in metrics; `other` where no route begins so.
pub(super) fn label(path: &str) -> &'static str {
    let labels = ROUTES.iter().map(|route| route.label);
    labels.into_iter().find(|label| path.starts_with(label)).unwrap_or("other")
}

/// Boxes the run of a handler and the encoding of its response together.
fn run<T: IntoResponse + 'static>(
    handler: impl Future<Output = T> + Send + 'static,
) -> BoxFuture<'static, Response> {
    Box::pin(handler.map(T::into_response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_begins_with_its_label() {
        for route in ROUTES {
            assert!(route.path.starts_with(route.label), "{}", route.path);
            assert_eq!(label(route.path), route.label);
        }
        assert_eq!(label("/v2.0/state"), "other");
    }

    #[test]
    fn only_health_is_told_to_everyone() {
        let open: Vec<_> = ROUTES.iter().filter(|route| is_open(route.path)).collect();
        assert!(open.iter().all(|route| route.label == "/v1.0/healthz"));
        assert_eq!(open.len(), 2);
        assert!(is_open("/v1.0/healthz/"));
        assert!(!is_open("/v1.0/healthz/outbound/more"));
    }
}
