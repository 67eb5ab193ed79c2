//! The last word of a process that can't go on.

use std::panic::PanicHookInfo;

/// Where redb's source was when it was compiled, wherever that was.
const REDB: &str = "redb-";

/// redb panics where its file holds what it can't: a process that finds that out ends with a word on
/// what to do. Any other panic ends as it would.
pub fn explain_damage() {
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|place| is_redb(place.file())) {
            return otherwise(panic);
        }
        eprintln!(
            "the store's tables are damaged: {}; nothing was deleted: check the disk, then restore the data directory from a copy, or move it away to start empty",
            cause(panic)
        );
        std::process::exit(1);
    }));
}

fn is_redb(file: &str) -> bool {
    file.split(['/', '\\']).any(|folder| folder.starts_with(REDB))
}

fn cause<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_redb_speaks_of_its_file() {
        assert!(is_redb("/root/.cargo/registry/src/index/redb-4.6.0/src/tree_store/btree.rs"));
        assert!(!is_redb("components/src/state/redb.rs"));
        assert!(!is_redb("/home/redb/runtime/src/main.rs"));
    }
}
