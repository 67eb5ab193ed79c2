//! The line format of systemd's journal: each line begins with its priority (sd-daemon(3)).

use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Returns whether standard error is the journal. A process whose standard error goes elsewhere may
/// inherit `$JOURNAL_STREAM`, so device and inode are compared (systemd.exec(5)).
pub(super) fn is_standard_error() -> bool {
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let stream = std::env::var("JOURNAL_STREAM");
    stream.is_ok_and(|stream| stderr.is_ok_and(|stderr| is_stream(&stream, &stderr)))
}

/// Returns whether `stream` (`device:inode`) is this file.
fn is_stream(stream: &str, file: &File) -> bool {
    let Some((device, inode)) = stream.split_once(':') else { return false };
    file.metadata()
        .is_ok_and(|file| device.parse() == Ok(file.dev()) && inode.parse() == Ok(file.ino()))
}

/// A format that adds the priority before each line of another one.
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

/// Adds the priority of `level` before every line of a text, since the journal stores lines one by one.
pub(super) fn with_priority(level: &Level, text: &str) -> String {
    let priority = priority(level);
    text.lines().map(|line| format!("<{priority}>{}\n", line.trim_start())).collect()
}

/// Returns the priority of syslog(3): 3 is an error, 7 is for debugging.
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
