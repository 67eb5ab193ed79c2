//! The program as a process of its own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::{Result, disk, load};

/// The longest time of a start.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two probes during a start, and so the precision of its time.
const PAUSE: Duration = Duration::from_micros(500);

/// Resident memory of a process, in megabytes.
pub(crate) struct Memory {
    pub(crate) now: f64,
    pub(crate) peak: f64,
}

/// A running program, killed on drop.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The time from its start to its first good response to healthz.
    pub(crate) took: Duration,
}

impl Process {
    /// Starts the program over a data directory, and waits until it is healthy.
    pub(crate) fn start(data: &Path) -> Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(program());
        command.arg("run").arg("--data-dir").arg(data);
        command.args(["--dapr-http-port", &address.port().to_string()]);
        command.args(["--metrics-port", "0", "--log-level", "warn"]);
        let started = Instant::now();
        let child = command.env_clear().spawn()?;
        let mut process = Self { child, address, took: Duration::ZERO };
        while !process.is_healthy() {
            if process.child.try_wait()?.is_some() || started.elapsed() > PATIENCE {
                return Err("the program did not become healthy".into());
            }
            std::thread::sleep(PAUSE);
        }
        process.took = started.elapsed();
        Ok(process)
    }

    /// Returns the resident memory.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let megabytes = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib: f64 =
                line.ok_or("/proc has no such line")?.trim_end_matches("kB").trim().parse()?;
            Ok(kib * 1024.0 / 1e6)
        };
        Ok(Memory { now: megabytes("VmRSS:")?, peak: megabytes("VmHWM:")? })
    }

    /// Returns the bytes that it has caused to be written so far.
    pub(crate) fn written(&self) -> Result<u64> {
        disk::process_bytes(self.child.id())
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(self) {
        drop(self);
    }

    fn is_healthy(&self) -> bool {
        let mut status = [0; 12];
        let asked = TcpStream::connect(self.address).and_then(|mut stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(&load::get("/v1.0/healthz"))?;
            stream.read_exact(&mut status)
        });
        asked.is_ok() && status.ends_with(b"204")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ignore errors: it may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    std::env::var_os("PANNIER_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_pannier")), PathBuf::from)
}
