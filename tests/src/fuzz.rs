//! Fuzz targets: each takes any bytes, and panics when something doesn't hold.
//!
//! The crate `fuzz` drives them with libFuzzer (`tests/fuzz/run`); `tests/fuzz_corpus.rs` replays
//! the inputs that are kept in `tests/fuzz/corpus`. A target is a file here and a line in
//! `TARGETS`.

mod answers;
mod api;
mod config;
mod event;
mod input;
mod journal;
mod record;
mod replay;
mod rule;
mod topic;

/// What reads bytes that we didn't write.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: of its file here, and of its corpus.
    pub name: &'static str,
    /// Bytes of an input at most: beyond them nothing new happens, but slowly.
    pub max_bytes: usize,
    /// Reads one input.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target { name: "answers", max_bytes: 4096, run: answers::run },
    Target { name: "api", max_bytes: 4096, run: api::run },
    Target { name: "config", max_bytes: 4096, run: config::run },
    Target { name: "event", max_bytes: 4096, run: event::run },
    Target { name: "journal", max_bytes: 4096, run: journal::run },
    Target { name: "record", max_bytes: 4096, run: record::run },
    Target { name: "replay", max_bytes: 4096, run: replay::run },
    Target { name: "rule", max_bytes: 4096, run: rule::run },
    Target { name: "topic", max_bytes: 1024, run: topic::run },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
