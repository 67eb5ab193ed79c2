//! The ports that the process listens at.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::serve::ListenerExt;
use rustix::io::Errno;
use tokio::net::TcpListener;

use super::{Device, StartError, Tasks};
use crate::serve::{self, Served};
use crate::settings::Address;

/// Maximum attempts to find a port that is free at both loopback addresses.
const MAX_ATTEMPTS: usize = 16;

/// The flags and fields that choose a port and its addresses, for errors.
#[derive(Debug)]
pub(super) struct PortFlags {
    port: &'static str,
    address: &'static str,
}

pub(super) const API: PortFlags = PortFlags {
    port: "--dapr-http-port (httpPort of an App)",
    address: "--dapr-listen-addresses (listeners.http of the Node)",
};
pub(super) const METRICS: PortFlags = PortFlags {
    port: "--metrics-port (listeners.metrics of the Node)",
    address: "--metrics-listen-address (listeners.metrics of the Node)",
};

/// A port that can't be listened at.
#[derive(Debug)]
pub struct ListenError {
    at: SocketAddr,
    flags: &'static PortFlags,
    cause: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, flags: PortFlags { port, address }, cause } = self;
        match cause.kind() {
            ErrorKind::AddrInUse => write!(
                f,
                "port {} of {} is in use: stop the program that listens there, or choose another port with {port}",
                at.port(),
                at.ip()
            ),
            ErrorKind::PermissionDenied => write!(
                f,
                "port {} needs rights that this process lacks: choose one from 1024 with {port}, or give it the capability CAP_NET_BIND_SERVICE",
                at.port()
            ),
            ErrorKind::AddrNotAvailable => write!(
                f,
                "this machine has no address {}: choose one that it has with {address}",
                at.ip()
            ),
            _ => write!(
                f,
                "cannot listen at {at}: {cause}; choose another port with {port}, or another address with {address}"
            ),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Listens at an address; for [`Address::Loopback`] at both loopback addresses, if this machine has both.
/// Returns the address of the first listener, whose port all have.
pub(super) async fn bind(
    address: Address,
    port: u16,
    flags: &'static PortFlags,
) -> Result<(SocketAddr, Vec<TcpListener>), StartError> {
    let refused = |ip: IpAddr| {
        move |cause| StartError::Listen(ListenError { at: SocketAddr::new(ip, port), flags, cause })
    };
    let bound = match address {
        Address::Ip(ip) => one(ip, port).await.map_err(refused(ip))?,
        Address::Loopback => loopback(port).await.map_err(refused(Ipv4Addr::LOCALHOST.into()))?,
    };
    Ok(bound)
}

async fn one(ip: IpAddr, port: u16) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let listener = TcpListener::bind((ip, port)).await?;
    Ok((listener.local_addr()?, vec![listener]))
}

/// Listens at both loopback addresses, since a program that calls `localhost` may use either. A failure
/// at the second one is only a warning.
async fn loopback(port: u16) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let mut attempts = 0;
    loop {
        let (at, mut listeners) = one(Ipv4Addr::LOCALHOST.into(), port).await?;
        attempts += 1;
        match TcpListener::bind((Ipv6Addr::LOCALHOST, at.port())).await {
            Ok(second) => listeners.push(second),
            Err(error) if is_missing(&error) => {}
            Err(error)
                if port == 0 && error.kind() == ErrorKind::AddrInUse && attempts < MAX_ATTEMPTS =>
            {
                continue;
            }
            Err(error) => tracing::warn!(
                port = at.port(),
                %error,
                "cannot listen at ::1, a program that calls localhost may reach another program there"
            ),
        }
        return Ok((at, listeners));
    }
}

/// Returns whether this machine lacks the address, or IPv6.
fn is_missing(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
}

/// Serves until a stop is requested, and then finishes the requests that are under way.
pub(super) fn serve(
    listeners: Vec<TcpListener>,
    service: &impl Served,
    device: &Device,
    tasks: &mut Tasks,
) {
    for listener in listeners {
        // Small answers must not wait for further ones.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let service = service.clone();
        let connections = Arc::clone(&device.connections);
        tasks.servers.spawn(serve::serve(listener, service, connections, device.stop()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn message(at: &str, errno: Errno) -> String {
        let cause = io::Error::from(errno);
        ListenError { at: at.parse().unwrap(), flags: &API, cause }.to_string()
    }

    #[test]
    fn each_reason_has_its_own_remedy() {
        let taken = message("127.0.0.1:3500", Errno::ADDRINUSE);
        assert!(taken.starts_with("port 3500 of 127.0.0.1 is in use: stop"), "{taken}");
        let low = message("0.0.0.0:80", Errno::ACCESS);
        assert!(low.starts_with("port 80 needs rights") && low.contains("1024"), "{low}");
        let elsewhere = message("192.0.2.1:3500", Errno::ADDRNOTAVAIL);
        assert!(elsewhere.contains("no address 192.0.2.1"), "{elsewhere}");
        assert!(elsewhere.contains("--dapr-listen-addresses"), "{elsewhere}");
        let other = message("127.0.0.1:3500", Errno::MFILE);
        assert!(other.starts_with("cannot listen at 127.0.0.1:3500: "), "{other}");
    }

    #[test]
    fn a_machine_without_ipv6_is_not_warned_of() {
        for errno in [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT] {
            assert!(is_missing(&io::Error::from(errno)));
        }
        assert!(!is_missing(&io::Error::from(Errno::ADDRINUSE)));
    }
}
