//! Errors of commits and reads.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::ids::{Lsn, StreamId};
use crate::journal::JournalError;
use crate::record::Topic;

/// Why the store refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key was not in the state that the caller asked for. Nothing of the record took effect.
    #[error("key {key:?} does not match: expected {}, found {}", tag(*expected), tag(*found))]
    Conflict {
        /// The operation's place in the record.
        op: usize,
        /// The key.
        key: String,
        /// The entity tag asked for; `None` means absent.
        expected: Option<u64>,
        /// The entity tag found; `None` means absent.
        found: Option<u64>,
    },
    /// Something is longer than it may be.
    #[error(
        "{what} has {bytes} bytes, the limit is {limit}: shorten it, or raise {setting} in the Node resource"
    )]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
        /// The setting that raises the limit.
        setting: &'static str,
    },
    /// A stream or component is full and its policy is to refuse.
    #[error(
        "{topic} is full ({limit}){}: wait until its consumers catch up, raise the limit, or choose another overflow policy",
        held(holder.as_deref())
    )]
    Full {
        /// The stream.
        topic: Topic,
        /// The limit that was reached.
        limit: String,
        /// Who holds most of what is there.
        holder: Option<Box<Holder>>,
    },
    /// The disk is too full to take more in.
    #[error(
        "the disk is full: {free} bytes are free and {reserve} are held back for acknowledgements and deletions{}: free some space",
        held(holder.as_deref())
    )]
    DiskFull {
        /// Bytes free.
        free: u64,
        /// Bytes held back.
        reserve: u64,
        /// Who holds most of what the store keeps.
        holder: Option<Box<Holder>>,
    },
    /// There is no file left to open for what is taken in.
    #[error(
        "too many files are open, so the journal can't grow: try again, or raise the limit of open files (ulimit -n, LimitNOFILE)"
    )]
    TooManyFiles,
    /// The store has reached the node's limit.
    #[error(
        "the store uses {used} bytes, the limit is {limit}{}: wait until the backlog drains, or raise spec.limits.disk in the Node resource",
        held(holder.as_deref())
    )]
    NodeFull {
        /// Bytes used.
        used: u64,
        /// Bytes allowed.
        limit: u64,
        /// Who holds most of what is there.
        holder: Option<Box<Holder>>,
    },
    /// No more streams or consumers.
    #[error(
        "there are {limit} {what} already: remove some, or raise {setting} in the Node resource"
    )]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        limit: u32,
        /// The setting that raises the limit.
        setting: &'static str,
    },
    /// Writing or syncing failed: what the disk holds is unknown, so nothing more is written.
    #[error(
        "the store refuses writes since the disk failed ({cause}): check the disk, then restart"
    )]
    Poisoned {
        /// What failed.
        cause: String,
    },
    /// A row can't be read back.
    #[error("{what} at {lsn} can't be decoded: the tables are damaged; see `pannier status`")]
    Damaged {
        /// What it is.
        what: &'static str,
        /// Where it was found.
        lsn: Lsn,
    },
    /// The tables failed, or the journal did.
    #[error("the tables failed: {0}")]
    Tables(#[source] Arc<TablesError>),
    /// No such consumer.
    #[error("there is no consumer {0:?}")]
    UnknownConsumer(String),
    /// A consumer is still in use.
    #[error(
        "consumer {0} is in use: take it out of the configuration or out of the app's subscriptions first, or add --force, which deletes its backlog and lets it go on with the next message"
    )]
    InUse(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// Whether there is no room: the caller may try again later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Full { .. }
                | Self::DiskFull { .. }
                | Self::NodeFull { .. }
                | Self::TooManyFiles
                | Self::TooMany { .. }
        )
    }
}

/// The cause of [`Error::Tables`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TablesError {
    /// The tables' file failed.
    #[error("{0}")]
    Database(#[source] redb::Error),
    /// The journal failed.
    #[error("{0}")]
    Journal(#[source] JournalError),
    /// A row or a record can't be encoded.
    #[error("can't encode {what}: {source}")]
    Encode {
        /// The kind of row.
        what: &'static str,
        /// The encoder's error.
        source: postcard::Error,
    },
    /// The reserve on the disk can't be renewed.
    #[error("can't hold space back: {0}")]
    Reserve(#[source] io::Error),
    /// Another version wrote the tables.
    #[error(
        "format {found} is not the one this version reads ({known}): use the version that wrote it"
    )]
    Format {
        /// The format found.
        found: u16,
        /// The format known.
        known: u16,
    },
    /// A message's stream is unknown.
    #[error("stream {0} is not in the index")]
    UnknownStream(StreamId),
    /// The data directory was removed, moved or replaced.
    #[error("{0}")]
    Place(String),
}

impl From<TablesError> for Error {
    fn from(cause: TablesError) -> Self {
        Self::Tables(Arc::new(cause))
    }
}

/// The consumer that holds most of the messages when there is no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub consumer: String,
    /// Messages that wait for it.
    pub messages: u64,
    /// Whether nobody names it any more.
    pub inactive: bool,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { consumer, messages, inactive } = self;
        write!(f, "{messages} messages wait for {consumer}")?;
        if *inactive {
            write!(f, ", which is not in use any more (`pannier forget` deletes them)")?;
        }
        Ok(())
    }
}

fn held(holder: Option<&Holder>) -> String {
    holder.map(|holder| format!("; {holder}")).unwrap_or_default()
}

fn tag(etag: Option<u64>) -> String {
    etag.map_or_else(|| "no value".to_owned(), |etag| format!("etag {etag}"))
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                TablesError::Database(error.into()).into()
            }
        })*
    };
}

from_redb!(
    redb::Error,
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_failure_of_the_tables_keeps_its_cause() {
        let cause = io::Error::other("the card is gone");
        let error = Error::from(redb::StorageError::Io(cause));
        assert!(error.to_string().starts_with("the tables failed: "), "{error}");
        let cause = error.source().and_then(|cause| cause.source());
        assert!(cause.is_some_and(|cause| cause.is::<redb::Error>()));
    }
}
