//! The status of an uplink, for people and for monitoring.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// The status of one uplink: written by the uplink, read by the control socket and the metrics.
#[derive(Debug)]
pub struct UplinkStatus {
    now: Mutex<UplinkSnapshot>,
}

/// An uplink at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UplinkSnapshot {
    /// The uplink's name.
    pub name: String,
    /// Host and port of the broker.
    pub url: String,
    /// True while there is a connection by which messages can go out.
    pub connected: bool,
    /// Time of the last change of `connected`, in milliseconds since 1970 by the wall clock.
    pub since: u64,
    /// Messages handed to the uplink and not answered yet.
    pub in_flight: u64,
    /// Messages that the broker has acknowledged since the start.
    pub acknowledged: u64,
    /// Messages that came down and were committed since the start.
    pub received: u64,
    /// The last error, if there was one.
    pub last_error: Option<LastError>,
}

/// An error of an uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastError {
    /// The error's message.
    pub text: String,
    /// Time of the error, in milliseconds since 1970 by the wall clock.
    pub at: u64,
}

impl UplinkStatus {
    /// Creates the status of the uplink `name` to a broker at `host`:`port`, not connected yet.
    #[must_use]
    pub fn new(name: &str, host: &str, port: u16) -> Self {
        let now = UplinkSnapshot {
            name: name.into(),
            url: if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            },
            connected: false,
            since: unix_ms(),
            in_flight: 0,
            acknowledged: 0,
            received: 0,
            last_error: None,
        };
        Self { now: Mutex::new(now) }
    }

    /// Returns the current status.
    #[must_use]
    pub fn snapshot(&self) -> UplinkSnapshot {
        self.lock().clone()
    }

    pub(super) fn connected(&self, connected: bool) {
        let mut now = self.lock();
        if now.connected != connected {
            now.connected = connected;
            now.since = unix_ms();
        }
    }

    pub(super) fn failed(&self, text: String) {
        self.lock().last_error = Some(LastError { text, at: unix_ms() });
    }

    pub(super) fn handed_over(&self, messages: usize) {
        self.lock().in_flight += messages as u64;
    }

    pub(super) fn answered(&self, messages: usize, acknowledged: usize) {
        let mut now = self.lock();
        now.in_flight = now.in_flight.saturating_sub(messages as u64);
        now.acknowledged += acknowledged as u64;
    }

    pub(super) fn received(&self, messages: usize) {
        self.lock().received += messages as u64;
    }

    fn lock(&self) -> MutexGuard<'_, UplinkSnapshot> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
