//! Notifications to the service manager: `sd_notify(3)` and `sd_watchdog_enabled(3)`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A notification to the service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The process serves.
    Ready,
    /// The shutdown has begun.
    Stopping,
    /// The process is alive.
    Watchdog,
}

/// Notifies the service manager, if there is one.
pub fn notify(notice: Notice) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    if let Err(error) = send(&socket, notice) {
        tracing::warn!(%error, ?notice, "failed to notify the service manager");
    }
}

/// Returns the longest time that the service manager allows between two [`Notice::Watchdog`]s of this
/// process; `None` if it has no watchdog.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let patience = number("WATCHDOG_USEC").filter(|micros| *micros > 0)?;
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    is_ours.then(|| Duration::from_micros(patience))
}

fn send(socket: &OsStr, notice: Notice) -> io::Result<()> {
    let text = match notice {
        Notice::Ready => "READY=1",
        Notice::Stopping => "STOPPING=1",
        Notice::Watchdog => "WATCHDOG=1",
    };
    let datagram = UnixDatagram::unbound()?;
    // A service manager that doesn't read must not block this process.
    datagram.set_nonblocking(true)?;
    datagram.send_to_addr(text.as_bytes(), &address(socket)?)?;
    Ok(())
}

/// Returns the address of a socket: a path, or after an `@` a name in Linux's abstract namespace.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Some(name) = socket.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(socket)
}
