//! Reports a panic before the process ends.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;

use crate::logs;

/// Prefix of the folder that redb was compiled in.
const REDB: &str = "redb-";

/// Installs a hook that logs each panic. It goes through the log's queue, because standard error may be
/// blocked, and a process that waits for it would neither work nor end.
///
/// redb panics when its file is corrupt. The message of such a panic says what to do.
pub fn explain() {
    std::panic::set_hook(Box::new(|panic| {
        if panic.location().is_some_and(|place| is_redb(place.file())) {
            logs::say_failure(&format!(
                "the store's tables are damaged: {}; nothing was deleted: check the disk, then restore the data directory from a copy, or move it away to start empty",
                cause(panic)
            ));
            logs::exit(1);
        }
        logs::say_failure(&describe(panic));
        logs::flush();
    }));
}

fn is_redb(file: &str) -> bool {
    file.split(['/', '\\']).any(|folder| folder.starts_with(REDB))
}

/// Describes a panic, with its backtrace if one is enabled.
fn describe(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let name = thread.name().unwrap_or("without a name");
    let mut text = format!("thread {name} panicked at {place}: {}", cause(panic));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("\n{trace}"));
    }
    text
}

/// Returns the message of a panic.
fn cause<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_panic_of_redb_means_a_corrupt_file() {
        assert!(is_redb("/root/.cargo/registry/src/index/redb-4.6.0/src/tree_store/btree.rs"));
        assert!(!is_redb("components/src/state/redb.rs"));
        assert!(!is_redb("/home/redb/runtime/src/main.rs"));
    }
}
