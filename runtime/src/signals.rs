//! The signals that request a stop.

use std::io;

use components::stop::Stopper;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::logs;

/// Requests a stop at the first signal. A second one that may force it ends the process at once.
pub async fn stop_on_signal(stopper: Stopper) {
    let Ok(mut signals) = StopSignals::catch() else {
        return tracing::warn!("failed to catch signals, so a stop will be a crash");
    };
    loop {
        let may_force = signals.next().await;
        if stopper.request() && may_force {
            tracing::warn!("stopping at once, as a second signal asked");
            logs::exit(1);
        }
    }
}

/// SIGTERM and SIGINT, and SIGHUP unless the parent process ignores it (`nohup`).
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl StopSignals {
    /// Catches them from now on.
    fn catch() -> io::Result<Self> {
        let hangup = (!is_hangup_ignored()).then(|| signal(SignalKind::hangup())).transpose()?;
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())?, hangup })
    }

    /// Waits for the next one. Returns whether it may force a shutdown that has begun. SIGHUP may not:
    /// a terminal that is closed sends up to three, which ask for one and the same shutdown.
    async fn next(&mut self) -> bool {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => true,
            _ = hangup => false,
        }
    }
}

fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores_hangup(&status)
}

/// Reads `SigIgn` of proc_pid_status(5), a mask whose lowest bit is SIGHUP.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hangup_is_read_from_the_status_of_the_process() {
        assert!(ignores_hangup("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
