//! What can go wrong with the journal.

use std::io;

use crate::ids::Lsn;

/// Why the journal can't be opened or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk failed.
    #[error("can't {op} {file}: {source}; check the disk")]
    Io {
        /// The file.
        file: String,
        /// What was tried.
        op: &'static str,
        /// What the disk said.
        source: io::Error,
    },
    /// There is no room for another file.
    #[error("the disk is full: {file} needs {needed} bytes and {free} are free; free some space")]
    DiskFull {
        /// The file.
        file: String,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The process, or the system, has no file left to open.
    #[error(
        "{file} can't be made: too many files are open; raise the limit (ulimit -n, LimitNOFILE)"
    )]
    TooManyFiles {
        /// The file.
        file: String,
    },
    /// A record doesn't fit in a segment.
    #[error(
        "a record has {bytes} bytes, a journal segment takes {limit}: make it smaller, or raise the segment size"
    )]
    TooLarge {
        /// Bytes of the record.
        bytes: usize,
        /// Bytes that fit.
        limit: u64,
    },
    /// A segment size that can't work.
    #[error("a journal segment of {bytes} bytes can't be used: choose {least} to {most} bytes")]
    SegmentSize {
        /// Bytes asked for.
        bytes: u64,
        /// The least that works.
        least: u64,
        /// The most that works.
        most: u64,
    },
    /// Numbers have run out: of segments, openings or records. Only files that nobody wrote in
    /// earnest come so far.
    #[error(
        "{file} can't be begun: the journal's numbers are used up, which none reaches in its life; keep the directory for a look, and start in an empty one"
    )]
    Exhausted {
        /// The segment's file.
        file: String,
    },
    /// Another version wrote it.
    #[error(
        "{file} has journal format {found}, this version reads {known}: use the version that wrote it"
    )]
    Format {
        /// The segment's file.
        file: String,
        /// The format found.
        found: u16,
        /// The format known.
        known: u16,
    },
    /// Whoever replays it refused a record.
    #[error("record {lsn} of the journal can't be applied: {source}")]
    Replay {
        /// Which record.
        lsn: Lsn,
        /// Why.
        source: ReplayError,
    },
    /// Writing or syncing failed before: what the disk holds is unknown.
    #[error(
        "the journal takes nothing more since it failed ({cause}): check the disk, then restart"
    )]
    Poisoned {
        /// What failed.
        cause: String,
    },
}

/// Why a replayed record was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReplayError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl ReplayError {
    /// Wraps whatever went wrong.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl JournalError {
    /// Whether nothing but room was missing: what the disk holds is known, and it may work later.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::TooManyFiles { .. })
    }
}

/// Whether there was no file left to open (`EMFILE`, `ENFILE`).
pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    let numbers = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    numbers.iter().any(|number| error.raw_os_error() == Some(number.raw_os_error()))
}

/// Turns what the disk said about a file into our error.
pub(super) fn io(file: &str, op: &'static str) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Io { file: file.to_owned(), op, source }
}
