//! Lines as systemd's journal takes them: each begins with its priority (sd-daemon(3)).

use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Whether standard error is the journal: `$JOURNAL_STREAM` may be inherited by a process whose
/// standard error goes elsewhere, so it tells the device and the inode (systemd.exec(5)).
pub(super) fn is_standard_error() -> bool {
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(File::from);
    match (std::env::var("JOURNAL_STREAM"), stderr) {
        (Ok(stream), Ok(stderr)) => is_stream(&stream, &stderr),
        _ => false,
    }
}

fn is_stream(stream: &str, file: &File) -> bool {
    let Some((device, inode)) = stream.split_once(':') else { return false };
    let (Ok(device), Ok(inode)) = (device.parse::<u64>(), inode.parse::<u64>()) else {
        return false;
    };
    file.metadata().is_ok_and(|file| (file.dev(), file.ino()) == (device, inode))
}

/// Formats as the inner format does, with the priority before each line.
pub(super) struct Prioritized<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Prioritized<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        writer.write_str(&with_priority(event.metadata().level(), text.trim_end()))
    }
}

/// Every line of a text with the priority of `level` before it: the journal takes each for itself.
pub(super) fn with_priority(level: &Level, text: &str) -> String {
    let priority = priority(level);
    text.lines().map(|line| format!("<{priority}>{}\n", line.trim_start())).collect()
}

/// The priorities of syslog(3): 3 is an error, 7 is for debugging.
fn priority(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests;
