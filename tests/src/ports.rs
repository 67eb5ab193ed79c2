use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::wait::until;

/// Below the range that the system takes for outgoing connections, which would steal a port
/// between a stop and a restart.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// Handed out since this process started.
static HANDED_OUT: AtomicU16 = AtomicU16::new(0);

/// A port that nothing listens at, and that no other test of this process gets.
///
/// # Panics
/// When no port is left.
pub fn free_port() -> u16 {
    // Test programs that run side by side begin at different ports.
    let start = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    let start = u16::try_from(start).expect("less than a count of 16 bits");
    (0..COUNT)
        .map(|_| (start + HANDED_OUT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT + FIRST)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of 20,000 ports is free")
}

/// Listens at a port that [`free_port`] found.
///
/// # Panics
/// When another program has taken it meanwhile.
pub fn listen_at(port: u16) -> TcpListener {
    // A child that another test starts at this moment holds our sockets until it executes.
    until("the port is free", || TcpListener::bind(("127.0.0.1", port)).ok())
}
