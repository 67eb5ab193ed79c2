//! Ports.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StartError;
use crate::serve::{self, Connections};

pub(super) async fn bind(
    address: IpAddr,
    port: u16,
    flag: &'static str,
) -> Result<TcpListener, StartError> {
    TcpListener::bind((address, port)).await.map_err(|cause| StartError::Listen {
        what: std::net::SocketAddr::new(address, port).to_string(),
        flag,
        cause,
    })
}

/// Serves until the stop, and then what is under way.
pub(super) fn serve(
    listener: TcpListener,
    router: Router,
    connections: &Arc<Connections>,
    stop: &watch::Sender<bool>,
    servers: &mut JoinSet<()>,
) {
    // Small answers must not wait for company.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    servers.spawn(serve::serve(listener, router, Arc::clone(connections), stop.subscribe()));
}
