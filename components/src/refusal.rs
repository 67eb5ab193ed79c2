use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use store_forward::Error;

/// The error of a component that did not do what it was asked for.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The class of the reason, which tells callers whether to try again.
    pub kind: RefusalKind,
    cause: Arc<dyn StdError + Send + Sync>,
}

/// Classes of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// There is no room; trying again later may succeed.
    Full,
    /// Something is too large; trying again fails too.
    TooLarge,
    /// Nothing can be written until a restart.
    Unavailable,
    /// Anything else.
    Other,
}

impl Refusal {
    /// Creates a refusal of that class, with its cause.
    pub fn new(kind: RefusalKind, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, cause: Arc::from(cause.into()) }
    }

    /// Creates a refusal of no particular class.
    pub fn other(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(RefusalKind::Other, cause)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl StdError for Refusal {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.source()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let kind = match &error {
            error if error.is_full() => RefusalKind::Full,
            Error::TooLarge { .. } => RefusalKind::TooLarge,
            Error::Poisoned { .. } | Error::Closed => RefusalKind::Unavailable,
            _ => RefusalKind::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_failed_disk_are_told_apart() {
        let full = Refusal::from(Error::DiskFull { free: 1, reserve: 2, holder: None });
        assert_eq!(full.kind, RefusalKind::Full);
        let failed = Refusal::from(Error::Poisoned { cause: "fdatasync: EIO".into() });
        assert_eq!(failed.kind, RefusalKind::Unavailable);
    }
}
