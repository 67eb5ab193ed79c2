//! The socket in the data directory by which `pannier status` asks the running process. Whoever
//! may read the directory may ask; nobody else can.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Path as Segment, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use store_forward::Store;
use store_forward::store::Forgotten;
use tokio::net::{UnixListener, UnixStream};

use crate::app::{AppChannel, AppState};
use crate::uplink::{UplinkSnapshot, UplinkStatus};

/// The socket's name in the data directory.
const SOCKET: &str = "control.sock";

/// Asks for a consumer to be forgotten that is in use.
const FORCE: &str = "force=true";

/// What became of the backlog of a consumer that was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetAnswer {
    /// Messages that nobody else waits for: they are deleted.
    pub deleted: u64,
    /// Messages that stay for others.
    pub kept: u64,
}

/// What the process tells of itself.
#[derive(Clone)]
pub struct Control {
    /// The node's store.
    pub store: Store,
    /// Bytes on disk that the store may use.
    pub disk_limit: u64,
    /// The ways out.
    pub uplinks: Arc<Vec<Arc<UplinkStatus>>>,
    /// The apps.
    pub apps: Arc<Vec<ServedApp>>,
    /// The components.
    pub components: Arc<Vec<ComponentStatus>>,
    /// Messages that had been lost before the start, by reason.
    pub lost_before: Arc<BTreeMap<String, u64>>,
}

/// An app that is served.
pub struct ServedApp {
    /// Its id.
    pub id: String,
    /// The port of its API.
    pub http_port: u16,
    /// Where its API is.
    pub addresses: Vec<String>,
    /// The way to it, and the port at which it listens; none where it is not called.
    pub channel: Option<(Arc<AppChannel>, u16)>,
}

/// A process as it stands.
#[derive(Serialize)]
pub struct Status {
    /// This version.
    pub version: &'static str,
    /// The process.
    pub pid: u32,
    /// The apps.
    pub apps: Vec<AppStatus>,
    /// The components.
    pub components: Vec<ComponentStatus>,
    /// The store.
    #[serde(flatten)]
    pub store: store_forward::store::Status,
    /// Bytes on disk that it may use.
    pub disk_limit: u64,
    /// The ways out.
    pub uplinks: Vec<UplinkSnapshot>,
    /// Messages lost since the start, by reason.
    pub lost_since_start: BTreeMap<String, u64>,
    /// Log lines that could not be written since the start.
    pub log_lines_lost: u64,
}

/// An app as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct AppStatus {
    /// Its id.
    pub id: String,
    /// The port of its API.
    pub http_port: u16,
    /// The port at which it listens; none where it is not called.
    pub app_port: Option<u16>,
    /// Whether it takes messages, or what it lacks for that.
    pub state: &'static str,
}

/// A component.
#[derive(Clone, Debug, Serialize)]
pub struct ComponentStatus {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether what it holds outlives the process.
    pub durable: bool,
}

impl ServedApp {
    fn status(&self) -> AppStatus {
        let state = self.channel.as_ref().map(|(channel, _)| channel.state());
        AppStatus {
            id: self.id.clone(),
            http_port: self.http_port,
            app_port: self.channel.as_ref().map(|(_, port)| *port),
            state: state.map_or("not called", describe),
        }
    }
}

fn describe(state: AppState) -> &'static str {
    if !state.listening {
        "waiting for its port"
    } else if !state.healthy {
        "unhealthy"
    } else if !state.started {
        "asked for its subscriptions"
    } else {
        "takes messages"
    }
}

impl Control {
    /// The process as it stands.
    ///
    /// # Errors
    ///
    /// When the store can't be read.
    pub fn status(&self) -> Result<Status, store_forward::Error> {
        let store = self.store.status()?;
        let before = |reason: &str| self.lost_before.get(reason).copied().unwrap_or_default();
        let lost = losses(&store).into_iter();
        let lost =
            lost.map(|(reason, lost)| (reason.clone(), lost.saturating_sub(before(&reason))));
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            apps: self.apps.iter().map(ServedApp::status).collect(),
            components: (*self.components).clone(),
            lost_since_start: lost.collect(),
            store,
            disk_limit: self.disk_limit,
            uplinks: self.uplinks.iter().map(|uplink| uplink.snapshot()).collect(),
            log_lines_lost: crate::logs::lost(),
        })
    }

    /// Listens in `data_dir`; the lock on it is held, so a socket there is a dead process's.
    ///
    /// # Errors
    ///
    /// When the socket can't be made.
    pub fn listen(data_dir: &Path) -> io::Result<UnixListener> {
        use std::os::unix::fs::PermissionsExt;
        let path = data_dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// What is served there.
    pub fn router(self) -> Router {
        Router::new()
            .route("/status", get(status))
            .route("/consumers/{*name}", delete(forget).post(retry))
            .with_state(self)
    }
}

/// Messages that ever left a store's streams without being acknowledged, by reason.
#[must_use]
pub fn losses(store: &store_forward::store::Status) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for stream in &store.streams {
        let Ok(serde_json::Value::Object(lost)) = serde_json::to_value(stream.lost) else {
            continue;
        };
        for (reason, count) in lost {
            *all.entry(reason).or_default() += count.as_u64().unwrap_or_default();
        }
    }
    all
}

async fn status(State(control): State<Control>) -> Response {
    match control.status() {
        Ok(status) => Json(status).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn forget(
    State(control): State<Control>,
    Segment(name): Segment<String>,
    uri: Uri,
) -> Response {
    use store_forward::Error;
    match control.store.forget(&name, uri.query() == Some(FORCE)).await {
        Ok(Forgotten { deleted, kept }) => Json(ForgetAnswer { deleted, kept }).into_response(),
        Err(error) => {
            let status = match error {
                Error::UnknownConsumer(_) => StatusCode::NOT_FOUND,
                Error::InUse(_) => StatusCode::CONFLICT,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, error.to_string()).into_response()
        }
    }
}

/// Has a consumer forgotten, and says what became of its backlog. With `force` one that is in use
/// loses its backlog and goes on with the next message.
///
/// # Errors
///
/// When there is no such consumer, it is in use, or nobody answers.
pub async fn ask_to_forget(
    data_dir: &Path,
    consumer: &str,
    force: bool,
) -> Result<ForgetAnswer, AskError> {
    let name = utf8_percent_encode(consumer, NON_ALPHANUMERIC);
    let query = if force { format!("?{FORCE}") } else { String::new() };
    let answer = ask(data_dir, "DELETE", &format!("/consumers/{name}{query}")).await?;
    serde_json::from_slice(&answer).map_err(|error| refused(data_dir, &error))
}

async fn retry(State(control): State<Control>, Segment(name): Segment<String>) -> Response {
    match control.store.retry(&name) {
        Ok(held) => Json(held).into_response(),
        Err(error @ store_forward::Error::UnknownConsumer(_)) => {
            (StatusCode::NOT_FOUND, error.to_string()).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Has a consumer try again what it holds; returns how many messages that is.
///
/// # Errors
///
/// When there is no such consumer, or nobody answers.
pub async fn ask_to_retry(data_dir: &Path, consumer: &str) -> Result<u64, AskError> {
    let name = utf8_percent_encode(consumer, NON_ALPHANUMERIC);
    let answer = ask(data_dir, "POST", &format!("/consumers/{name}")).await?;
    serde_json::from_slice(&answer).map_err(|error| refused(data_dir, &error))
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nothing listens.
    #[error("no pannier runs on {}: start it with `pannier run --data-dir {}`, or name its --data-dir", .0.display(), .0.display())]
    NotRunning(PathBuf),
    /// Others than its user ask.
    #[error("the pannier on {} answers to its own user and to root alone: ask with sudo", .0.display())]
    NotAllowed(PathBuf),
    /// It refused.
    #[error("{0}")]
    Answered(String),
    /// It can't answer.
    #[error("pannier on {} can't be asked: {cause}", dir.display())]
    Refused {
        /// The data directory.
        dir: PathBuf,
        /// Why.
        cause: String,
    },
}

/// Asks the process that runs on `data_dir`.
///
/// # Errors
///
/// When none does, or it can't answer.
pub async fn ask(data_dir: &Path, method: &str, path: &str) -> Result<Vec<u8>, AskError> {
    let stream = match UnixStream::connect(data_dir.join(SOCKET)).await {
        Ok(stream) => stream,
        Err(error) if is_nobody(&error) => return Err(AskError::NotRunning(data_dir.into())),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(AskError::NotAllowed(data_dir.into()));
        }
        Err(error) => return Err(refused(data_dir, &error)),
    };
    let refused = |error: &dyn std::fmt::Display| refused(data_dir, error);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| refused(&e))?;
    tokio::spawn(connection);
    let request = hyper::Request::builder().method(method).uri(path).header("host", "pannier");
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|e| refused(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| refused(&e))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|e| refused(&e))?.to_bytes();
    if status.is_success() {
        return Ok(body.to_vec());
    }
    Err(AskError::Answered(String::from_utf8_lossy(&body).into_owned()))
}

fn refused(dir: &Path, cause: &(impl std::fmt::Display + ?Sized)) -> AskError {
    AskError::Refused { dir: dir.into(), cause: cause.to_string() }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
