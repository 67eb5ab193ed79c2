//! Newtypes for every id and sequence number: none of them can stand in for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// The place of a record in the journal. Starts at 1, never repeats, never goes back.
    Lsn(u64)
);
number!(
    /// The place of a message in its stream. Starts at 1, never repeats.
    Sequence(u64)
);
number!(
    /// The number of a stream in this store, given when its first message is published.
    StreamId(u32)
);
number!(
    /// The number of a consumer in this store, given when it registers.
    ConsumerId(u32)
);
number!(
    /// One life of this store: drawn at random when the store is created, so that a store made
    /// anew under the same node id never repeats an identity.
    Epoch(u32)
);

impl Sequence {
    /// The sequence after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The sequence before this one; zero stays zero.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Lsn {
    /// The log sequence number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The device's name, the first part of every record's identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub String);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
