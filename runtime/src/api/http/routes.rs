//! The table of routes. A new route is a handler and a line here.

use axum::Router;
use axum::routing::{MethodRouter, get, post, put};

use super::{ApiState, health, metadata, publish, state};

/// A route of the API.
struct Route {
    /// The path, as axum matches it.
    path: &'static str,
    /// The path in metrics, with which every path of the route begins. Paths hold keys and topics, so
    /// there is no end of them.
    label: &'static str,
    access: Access,
    handlers: fn() -> MethodRouter<ApiState>,
}

/// The callers that a route admits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Callers with the API's token, if there is one.
    WithToken,
    /// Everyone: probes have no token.
    Open,
}

const ROUTES: &[Route] = &[
    Route {
        path: "/v1.0/healthz",
        label: "/v1.0/healthz",
        access: Access::Open,
        handlers: || get(health::healthz),
    },
    Route {
        path: "/v1.0/healthz/outbound",
        label: "/v1.0/healthz",
        access: Access::Open,
        handlers: || get(health::outbound),
    },
    Route {
        path: "/v1.0/metadata",
        label: "/v1.0/metadata",
        access: Access::WithToken,
        handlers: || get(metadata::get_metadata),
    },
    Route {
        path: "/v1.0/metadata/{key}",
        label: "/v1.0/metadata",
        access: Access::WithToken,
        handlers: || put(metadata::put_metadata),
    },
    Route {
        path: "/v1.0/shutdown",
        label: "/v1.0/shutdown",
        access: Access::WithToken,
        handlers: || post(metadata::shutdown),
    },
    Route {
        path: "/v1.0/state/{store}",
        label: "/v1.0/state",
        access: Access::WithToken,
        handlers: || post(state::save).put(state::save),
    },
    Route {
        path: "/v1.0/state/{store}/{key}",
        label: "/v1.0/state",
        access: Access::WithToken,
        handlers: || get(state::get_one).delete(state::delete_one),
    },
    Route {
        path: "/v1.0/state/{store}/bulk",
        label: "/v1.0/state",
        access: Access::WithToken,
        handlers: || {
            let one = get(state::get_one).delete(state::delete_one);
            one.post(state::get_bulk).put(state::get_bulk)
        },
    },
    Route {
        path: "/v1.0/state/{store}/transaction",
        label: "/v1.0/state",
        access: Access::WithToken,
        handlers: || {
            let one = get(state::get_one).delete(state::delete_one);
            one.post(state::transaction).put(state::transaction)
        },
    },
    Route {
        path: "/v1.0-alpha1/state/{store}/query",
        label: "/v1.0-alpha1/state",
        access: Access::WithToken,
        handlers: || post(state::query).put(state::query),
    },
    Route {
        path: "/v1.0/publish/{pubsub}/",
        label: "/v1.0/publish",
        access: Access::WithToken,
        handlers: || post(publish::publish).put(publish::publish),
    },
    Route {
        path: "/v1.0/publish/{pubsub}/{*topic}",
        label: "/v1.0/publish",
        access: Access::WithToken,
        handlers: || post(publish::publish).put(publish::publish),
    },
    Route {
        path: "/v1.0/publish/bulk/{pubsub}/{*topic}",
        label: "/v1.0/publish",
        access: Access::WithToken,
        handlers: || post(publish::publish_bulk).put(publish::publish_bulk),
    },
    Route {
        path: "/v1.0-alpha1/publish/bulk/{pubsub}/{*topic}",
        label: "/v1.0-alpha1/publish",
        access: Access::WithToken,
        handlers: || post(publish::publish_bulk).put(publish::publish_bulk),
    },
];

/// Returns a router of all routes.
pub(super) fn router() -> Router<ApiState> {
    let add =
        |router: Router<ApiState>, route: &Route| router.route(route.path, (route.handlers)());
    ROUTES.iter().fold(Router::new(), add)
}

/// Tells whether a path admits callers without a token.
pub(super) fn is_open(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    ROUTES.iter().any(|route| route.access == Access::Open && route.path == path)
}

/// Returns the label of a path in metrics; `other` where no route begins so.
#[must_use]
pub fn label(path: &str) -> &'static str {
    let labels = ROUTES.iter().map(|route| route.label);
    labels.into_iter().find(|label| path.starts_with(label)).unwrap_or("other")
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
