use store_forward::Error;

/// Why a component did not do what it was asked for, whatever it is for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no room: it may work later.
    #[error("{0}")]
    Full(String),
    /// Something is too long: it will never work.
    #[error("{0}")]
    TooLarge(String),
    /// Nothing can be written until a restart.
    #[error("{0}")]
    Unavailable(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            error if error.is_full() => Self::Full(message),
            Error::TooLarge { .. } => Self::TooLarge(message),
            Error::Poisoned { .. } | Error::Closed => Self::Unavailable(message),
            _ => Self::Other(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_failed_disk_are_told_apart() {
        let full = Refusal::from(Error::DiskFull { free: 1, reserve: 2, holder: None });
        assert!(matches!(full, Refusal::Full(_)));
        let failed = Refusal::from(Error::Poisoned { cause: "fdatasync: EIO".into() });
        assert!(matches!(failed, Refusal::Unavailable(_)));
    }
}
