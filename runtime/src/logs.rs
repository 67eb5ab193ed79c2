//! What the process logs and how.

use tracing::level_filters::LevelFilter;

/// Starts logging to standard error: text, or a JSON object a line.
pub fn init(level: &str, as_json: bool) {
    let level: LevelFilter = level.parse().unwrap_or(LevelFilter::INFO);
    let logs = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(level >= LevelFilter::DEBUG);
    if as_json {
        logs.json().flatten_event(true).init();
    } else {
        use std::io::IsTerminal;
        logs.with_ansi(std::io::stderr().is_terminal()).init();
    }
}
