//! `/v1.0/healthz`: readiness of the API, of the app, and of the store.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use store_forward::Store;

use super::error::ApiError;
use super::request::ApiRequest;

/// Progress of the start of an app's side.
#[derive(Default)]
pub struct Health {
    outbound: AtomicBool,
    ready: AtomicBool,
    store: OnceLock<Store>,
}

impl Health {
    /// Notes whether the API serves, so that the app may call.
    pub fn set_outbound_ready(&self, ready: bool) {
        self.outbound.store(ready, Ordering::Release);
    }

    /// Notes whether the app is there and its subscriptions run.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Sets the store that must take writes.
    pub fn watch(&self, store: &Store) {
        let _ = self.store.set(store.clone());
    }

    /// Tells whether the store takes writes. Once its disk has failed it waits for a restart.
    #[must_use]
    pub fn is_store_ready(&self) -> bool {
        self.store.get().is_none_or(|store| !store.refuses_writes())
    }

    /// Tells whether the app may call.
    #[must_use]
    pub fn is_outbound_ready(&self) -> bool {
        self.outbound.load(Ordering::Acquire)
    }

    /// Tells whether everything is up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_outbound_ready() && self.ready.load(Ordering::Acquire) && self.is_store_ready()
    }
}

pub(super) async fn healthz(request: ApiRequest) -> Result<StatusCode, ApiError> {
    let ApiRequest { api, head, .. } = request;
    let query = head.query()?;
    if !api.health.is_ready() {
        let waits_for = match (api.health.is_outbound_ready(), api.health.is_store_ready()) {
            (false, _) => "api",
            (true, false) => "store",
            (true, true) => "app",
        };
        let message = format!("dapr is not ready: [{waits_for}]");
        return Err(unhealthy("ERR_HEALTH_NOT_READY", message));
    }
    match query.get("appid") {
        Some(asked) if asked != &*api.app_id => {
            Err(unhealthy("ERR_HEALTH_APPID_NOT_MATCH", "dapr app-id does not match".to_owned()))
        }
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

pub(super) async fn outbound(request: ApiRequest) -> Result<StatusCode, ApiError> {
    if request.api.health.is_outbound_ready() {
        Ok(StatusCode::NO_CONTENT)
    } else {
        let message = "dapr outbound is not ready".to_owned();
        Err(unhealthy("ERR_OUTBOUND_HEALTH_NOT_READY", message))
    }
}

fn unhealthy(code: &'static str, message: String) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, code, message)
}
