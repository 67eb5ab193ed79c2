//! The socket in the data directory by which `pannier status` asks the running process. Whoever
//! may read the directory may ask; nobody else can.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use store_forward::Store;
use tokio::net::{UnixListener, UnixStream};

use crate::uplink::{Snapshot, UplinkStatus};

/// The socket's name in the data directory.
const SOCKET: &str = "control.sock";

/// What the process tells of itself.
#[derive(Clone)]
pub struct Control {
    /// The node's store.
    pub store: Store,
    /// The ways out.
    pub uplinks: Arc<Vec<Arc<UplinkStatus>>>,
    /// The apps and where they call us.
    pub apps: Arc<BTreeMap<String, u16>>,
}

/// A process as it stands.
#[derive(Serialize)]
pub struct Status {
    /// This version.
    pub version: &'static str,
    /// The process.
    pub pid: u32,
    /// HTTP ports by app id.
    pub apps: BTreeMap<String, u16>,
    /// The store.
    #[serde(flatten)]
    pub store: store_forward::store::Status,
    /// The ways out.
    pub uplinks: Vec<Snapshot>,
}

impl Control {
    /// The process as it stands.
    ///
    /// # Errors
    ///
    /// When the store can't be read.
    pub fn status(&self) -> Result<Status, store_forward::Error> {
        Ok(Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            apps: (*self.apps).clone(),
            store: self.store.status()?,
            uplinks: self.uplinks.iter().map(|uplink| uplink.snapshot()).collect(),
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

async fn status(State(control): State<Control>) -> Response {
    match control.status() {
        Ok(status) => Json(status).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn forget(State(control): State<Control>, Segment(name): Segment<String>) -> Response {
    match control.store.unregister(&name).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error @ store_forward::Error::UnknownConsumer(_)) => {
            (StatusCode::NOT_FOUND, error.to_string()).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
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
    Err(refused(&String::from_utf8_lossy(&body)))
}

fn refused(dir: &Path, cause: &(impl std::fmt::Display + ?Sized)) -> AskError {
    AskError::Refused { dir: dir.into(), cause: cause.to_string() }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
