#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, Mutex};

use super::*;

/// A writer that keeps the bytes.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns the lines that are logged.
fn logged(log: impl FnOnce()) -> String {
    let kept = Kept::default();
    let writer = kept.clone();
    let logs = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(Level::TRACE)
        .with_target(false)
        .with_ansi(false)
        .without_time()
        .map_event_format(Prioritized)
        .finish();
    tracing::subscriber::with_default(logs, log);
    let bytes = kept.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn each_line_begins_with_its_priority_and_has_no_time() {
    let logged = logged(|| {
        tracing::error!("the disk has failed");
        tracing::warn!(uplink = "home", "no link");
        tracing::info!("ready");
        tracing::debug!("details");
        tracing::trace!("more");
    });
    assert_eq!(
        logged.lines().collect::<Vec<_>>(),
        [
            "<3>ERROR the disk has failed",
            "<4>WARN no link uplink=\"home\"",
            "<6>INFO ready",
            "<7>DEBUG details",
            "<7>TRACE more",
        ]
    );
}

#[test]
fn every_line_of_a_long_message_has_the_priority() {
    let cause = "first\nsecond";
    let logged = logged(|| tracing::error!(%cause, "failed"));
    assert_eq!(logged, "<3>ERROR failed cause=first\n<3>second\n");
}

#[test]
fn the_journal_is_known_by_device_and_inode() {
    let file = File::open("/dev/null").unwrap();
    let metadata = file.metadata().unwrap();
    let device = metadata.dev();
    let inode = metadata.ino();
    assert!(is_stream(&format!("{device}:{inode}"), &file));
    for other in [format!("{device}:{}", inode + 1), format!("{}:{inode}", device + 1)] {
        assert!(!is_stream(&other, &file), "{other}");
    }
    for broken in ["", ":", "1", "a:b", "1:2:3"] {
        assert!(!is_stream(broken, &file), "{broken}");
    }
}
