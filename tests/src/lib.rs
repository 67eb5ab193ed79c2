//! The harness of the end-to-end tests: the real binary, a real broker, and apps on loopback.
//!
//! Everything here panics with the reason when something goes wrong: a test has no use for errors.

/// An app: an HTTP server that records what it is sent, and answers as told.
pub mod app;
/// The program under test: where it is, and how its commands are run.
pub mod binary;
/// mosquitto, as the far side of an uplink.
pub mod broker;
/// Certificates for a broker, from a CA of its own.
pub mod certificates;
/// The program as a device runs it: own directory, own ports, own life.
pub mod device;
/// A message broker in memory that can do next to nothing.
pub mod fake_broker;
/// A small HTTP/1.1 client.
pub mod http;
/// What reached the broker, checked against what was promised.
pub mod ledger;
/// A link to a broker that can be cut.
pub mod proxy;
/// A stand-in for a disk that fails, and for a clock that jumps.
pub mod shim;
/// A device and its world, simulated.
pub mod simulator;
/// An MQTT client that collects what a broker sends.
pub mod subscriber;

/// Fuzz targets.
pub mod fuzz;

/// Stores that released versions wrote.
pub mod golden;

mod directory;
mod memory;
mod ports;
mod process;
mod untested;
mod volume;
mod wait;

pub use app::App;
pub use broker::Broker;
pub use device::Device;
pub use directory::Directory;
pub use memory::MemoryLimit;
pub use ports::{free_port, listen_at};
pub use proxy::Proxy;
pub use shim::Shim;
pub use subscriber::Subscriber;
pub use untested::untested;
pub use volume::Volume;
pub use wait::{PATIENCE, in_time, until};
