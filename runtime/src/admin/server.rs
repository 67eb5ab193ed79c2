//! The server of the control socket.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as Segment, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use store_forward::store::{self, Forgotten, LossCount};
use store_forward::{Error, Store};
use tokio::net::UnixListener;

use super::SOCKET;
use super::messages::{
    AdminRequest, AppReadiness, AppStatus, ComponentStatus, ForgetConsumer, ForgottenBacklog,
    GetStatus, RetryConsumer, Status,
};
use crate::uplink::UplinkStatus;
use blocks::app::{App, AppState};

/// The parts of the process that the control socket and the metrics report on.
#[derive(Clone)]
pub struct Control {
    /// The node's store, if one is open.
    pub store: Option<Store>,
    /// Bytes on disk that the store may use.
    pub disk_limit: u64,
    /// The uplinks.
    pub uplinks: Arc<Vec<Arc<UplinkStatus>>>,
    /// The apps.
    pub apps: Arc<Vec<ServedApp>>,
    /// The components.
    pub components: Arc<Vec<ComponentStatus>>,
    /// Messages that had been lost before the start, by reason.
    pub lost_before: Arc<BTreeMap<String, u64>>,
}

/// An app that has an API.
pub struct ServedApp {
    /// The app's id.
    pub id: String,
    /// The port of its API.
    pub http_port: u16,
    /// The addresses of its API.
    pub addresses: Vec<String>,
    /// The app and the port at which it listens; `None` if it is not called.
    pub called: Option<(Arc<App>, u16)>,
}

impl Control {
    /// Returns the status of the process.
    ///
    /// # Errors
    ///
    /// When the store can't be read.
    pub fn status(&self) -> Result<Status, Error> {
        let store = self.store.as_ref().map(Store::status).transpose()?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            apps: self.apps.iter().map(ServedApp::status).collect(),
            components: (*self.components).clone(),
            disk_limit: store.as_ref().map(|_| self.disk_limit),
            lost_since_start: store
                .as_ref()
                .map(|it| self.lost_since_start(it))
                .unwrap_or_default(),
            store,
            uplinks: self.uplinks.iter().map(|uplink| uplink.snapshot()).collect(),
            log_lines_lost: crate::logs::lost(),
        })
    }

    fn lost_since_start(&self, store: &store::Status) -> BTreeMap<String, u64> {
        let mut lost = losses(store);
        for (reason, messages) in &mut lost {
            let before = self.lost_before.get(reason).copied().unwrap_or_default();
            *messages = messages.saturating_sub(before);
        }
        lost
    }

    /// Listens in `data_dir`. The caller holds the lock on it, so a socket there was left by a process
    /// that has ended.
    ///
    /// # Errors
    ///
    /// When the socket can't be made.
    pub fn listen(data_dir: &Path) -> io::Result<UnixListener> {
        let path = data_dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// Returns the routes of the control socket.
    pub fn router(self) -> Router {
        Router::new()
            .route(GetStatus::ROUTE, get(status))
            .route(ForgetConsumer::ROUTE, delete(forget))
            .route(RetryConsumer::ROUTE, post(retry))
            .with_state(self)
    }

    /// Returns the store, in which `consumer` is looked for. Without a store there are no consumers.
    fn store_of(&self, consumer: &str) -> Result<&Store, Error> {
        self.store.as_ref().ok_or_else(|| Error::UnknownConsumer(consumer.into()))
    }
}

impl ServedApp {
    fn status(&self) -> AppStatus {
        let called = self.called.as_ref();
        AppStatus {
            id: self.id.clone(),
            http_port: self.http_port,
            app_port: called.map(|(_, port)| *port),
            state: called.map(|(app, _)| readiness(app.gate().state())).unwrap_or_default(),
        }
    }
}

fn readiness(state: AppState) -> AppReadiness {
    if !state.listening {
        AppReadiness::WaitingForPort
    } else if !state.healthy {
        AppReadiness::Unhealthy
    } else if !state.started {
        AppReadiness::AskedForSubscriptions
    } else {
        AppReadiness::TakesMessages
    }
}

/// Counts the messages that ever left a store's streams without being acknowledged, by reason.
#[must_use]
pub fn losses(store: &store::Status) -> BTreeMap<String, u64> {
    let mut lost = BTreeMap::new();
    for LossCount { reason, messages } in store.streams.iter().flat_map(|it| it.lost.by_reason()) {
        *lost.entry(reason.to_owned()).or_default() += messages;
    }
    lost
}

type Answered<R> = Result<Json<<R as AdminRequest>::Answer>, Failure>;

async fn status(State(control): State<Control>) -> Answered<GetStatus> {
    Ok(Json(control.status()?))
}

async fn forget(
    State(control): State<Control>,
    Segment(consumer): Segment<String>,
    uri: Uri,
) -> Answered<ForgetConsumer> {
    let ForgetConsumer { consumer, force } = ForgetConsumer::read(consumer, uri.query());
    let forgotten = control.store_of(&consumer)?.forget(&consumer, force).await?;
    let Forgotten { deleted, kept } = forgotten;
    Ok(Json(ForgottenBacklog { deleted, kept }))
}

async fn retry(
    State(control): State<Control>,
    Segment(consumer): Segment<String>,
) -> Answered<RetryConsumer> {
    let held = control.store_of(&consumer)?.retry(&consumer)?;
    Ok(Json(held as u64))
}

/// An error of the store as an answer.
struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match self.0 {
            Error::UnknownConsumer(_) => StatusCode::NOT_FOUND,
            Error::InUse(_) => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, self.0.to_string()).into_response()
    }
}
