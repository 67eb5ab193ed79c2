//! The client of the control socket.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::SOCKET;
use super::messages::AdminRequest;

/// Error of a request to the running process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// No process listens.
    #[error("no pannier runs on {}: start it with `pannier run --data-dir {}`, or name its --data-dir", .0.display(), .0.display())]
    NotRunning(PathBuf),
    /// The socket belongs to another user.
    #[error("the pannier on {} answers to its own user and to root alone: ask with sudo", .0.display())]
    NotAllowed(PathBuf),
    /// The process answered with an error.
    #[error("{0}")]
    Refused(String),
    /// The process can't be reached, or doesn't answer.
    #[error("pannier on {} can't be asked: {cause}", dir.display())]
    Unreachable {
        /// The data directory.
        dir: PathBuf,
        /// The error of the socket, of HTTP or of the request.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The answer is not what the request asks for.
    #[error("the answer can't be read: {0}")]
    Unreadable(#[source] serde_json::Error),
}

/// Sends a request to the process that runs on `data_dir`.
///
/// # Errors
///
/// When no process runs there, or it refuses or can't answer.
pub async fn ask<R: AdminRequest>(data_dir: &Path, request: &R) -> Result<R::Answer, AskError> {
    serde_json::from_slice(&exchange(data_dir, request).await?).map_err(AskError::Unreadable)
}

/// Like [`ask`], but returns the answer as it came, with all that a newer process adds to it.
///
/// # Errors
///
/// As [`ask`].
pub async fn ask_json<R: AdminRequest>(data_dir: &Path, request: &R) -> Result<Value, AskError> {
    serde_json::from_slice(&exchange(data_dir, request).await?).map_err(AskError::Unreadable)
}

async fn exchange<R: AdminRequest>(data_dir: &Path, request: &R) -> Result<Bytes, AskError> {
    let stream = UnixStream::connect(data_dir.join(SOCKET)).await;
    let stream = stream.map_err(|error| not_connected(data_dir, error))?;
    let answer = send(stream, request).await;
    let (status, body) = answer.map_err(|cause| unreachable(data_dir, cause))?.into_parts();
    if status.status.is_success() {
        return Ok(body);
    }
    Err(AskError::Refused(String::from_utf8_lossy(&body).into_owned()))
}

async fn send<R: AdminRequest>(
    stream: UnixStream,
    request: &R,
) -> Result<http::Response<Bytes>, Box<dyn Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::builder().method(R::METHOD).uri(request.uri());
    let request = request.header("host", "pannier").body(Empty::<Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(http::Response::from_parts(head, body.collect().await?.to_bytes()))
}

fn not_connected(data_dir: &Path, error: io::Error) -> AskError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NotRunning(data_dir.into())
        }
        io::ErrorKind::PermissionDenied => AskError::NotAllowed(data_dir.into()),
        _ => unreachable(data_dir, error.into()),
    }
}

fn unreachable(data_dir: &Path, cause: Box<dyn Error + Send + Sync>) -> AskError {
    AskError::Unreachable { dir: data_dir.into(), cause }
}
