//! Logging that never blocks and never ends the process: lines go through a bounded queue to a thread
//! that writes them, and lost ones are counted.

mod journal;
mod queue;
mod writer;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use queue::Queue;

/// The longest time that the end of the process waits for queued lines: a pipe that nobody reads must
/// not block it.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

static QUEUE: Queue = Queue::new();

/// Starts logging to standard error: text, or one JSON object per line. If that is systemd's journal,
/// each line begins with its priority, and text has no time, because the journal adds its own.
///
/// # Errors
///
/// Returns an error if the thread that writes can't be started.
pub fn init(level: &str, as_json: bool) -> io::Result<()> {
    writer::start(&QUEUE)?;
    let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    let logs = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(|| Lines)
        .log_internal_errors(false)
        .with_target(level >= LevelFilter::DEBUG);
    let is_journal = journal::is_standard_error();
    if as_json {
        let logs = logs.json().flatten_event(true);
        if is_journal { logs.map_event_format(journal::Prioritized).init() } else { logs.init() }
    } else if is_journal {
        logs.with_ansi(false).without_time().map_event_format(journal::Prioritized).init();
    } else {
        logs.with_ansi(io::stderr().is_terminal()).init();
    }
    Ok(())
}

/// Returns whether a person reads the log as it is written: on a terminal, unless the format is JSON or
/// the level excludes [`tracing::Level::INFO`].
#[must_use]
pub fn is_for_people(as_json: bool) -> bool {
    !as_json && io::stderr().is_terminal() && tracing::enabled!(tracing::Level::INFO)
}

/// Returns how many lines were lost since the start, because standard error refused them or was too
/// slow.
#[must_use]
pub fn lost() -> u64 {
    QUEUE.lost()
}

/// Writes to standard error why the process ends; to the journal with the priority of an error.
pub fn say_failure(message: &str) {
    let message = message.trim_end();
    if journal::is_standard_error() {
        say(&journal::with_priority(&tracing::Level::ERROR, message));
    } else {
        say(&format!("{message}\n"));
    }
}

/// Writes lines to standard error, after those that are queued. Errors are ignored, because there is no
/// other place to report them.
pub fn say(lines: &str) {
    if !QUEUE.push(lines.as_bytes()) {
        let _ = io::stderr().write_all(lines.as_bytes());
    }
}

/// Waits until the queued lines are written, for a second at most.
pub fn flush() {
    QUEUE.drain(FLUSH_PATIENCE);
}

/// Ends the process as soon as the queued lines are written.
pub fn exit(code: i32) -> ! {
    flush();
    std::process::exit(code)
}

/// The writer of the subscriber, which passes all lines of an event in one call.
struct Lines;

impl Write for Lines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        QUEUE.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
