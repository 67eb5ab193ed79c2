//! What the process logs and how.

mod journal;

use tracing::level_filters::LevelFilter;

/// Starts logging to standard error: text, or a JSON object a line. Where that is systemd's
/// journal, each line begins with its priority, and a text with no time: the journal has its own.
pub fn init(level: &str, as_json: bool) {
    let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    let logs = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(level >= LevelFilter::DEBUG);
    let journal = journal::is_standard_error();
    if as_json {
        let logs = logs.json().flatten_event(true);
        if journal { logs.map_event_format(journal::Prioritized).init() } else { logs.init() }
    } else if journal {
        logs.with_ansi(false).without_time().map_event_format(journal::Prioritized).init();
    } else {
        use std::io::IsTerminal;
        logs.with_ansi(std::io::stderr().is_terminal()).init();
    }
}

/// Says on standard error why the process ends; in the journal as an error.
pub fn say_failure(message: &str) {
    let message = message.trim_end();
    if journal::is_standard_error() {
        eprint!("{}", journal::with_priority(&tracing::Level::ERROR, message));
    } else {
        eprintln!("{message}");
    }
}
