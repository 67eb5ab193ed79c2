//! Reads the secrets that resources refer to. They are never printed.

use std::io;
use std::path::{Path, PathBuf};

use config::model::Secret;

/// A reason why a secret can't be read. It never contains any part of the secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The environment variable is not set.
    #[error("the environment variable {0} is not set: set it")]
    NotSet(String),
    /// The file can't be read.
    #[error("cannot read {path}: {source}; check the path and its permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The secret isn't text.
    #[error("{0} is not UTF-8 text: write only the secret into it")]
    NotText(String),
    /// The secret is empty.
    #[error("{0} is empty: write the secret into it")]
    Empty(String),
}

impl SecretError {
    /// Returns whether the secret may exist later, or for another user, as systemd's credentials do.
    #[must_use]
    pub fn may_come(&self) -> bool {
        match self {
            Self::NotSet(_) => true,
            Self::Read { source, .. } => file_may_come(source),
            _ => false,
        }
    }
}

/// Returns whether a file that can't be read now may be readable later, or for another user.
#[must_use]
pub fn file_may_come(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

/// Reads a secret. One `\n` or `\r\n` at the end of a file is cut off. Blocks on the disk.
///
/// # Errors
/// Returns an error if it is missing, is not text, or is empty.
pub fn reveal(secret: &Secret) -> Result<String, SecretError> {
    let (text, from) = match secret {
        Secret::Env(name) => (read_variable(name)?, format!("the environment variable {name}")),
        Secret::File(path) => (read_file(path)?, path.display().to_string()),
        Secret::Literal(text) => (text.clone(), "the secret".to_owned()),
        other => return Err(SecretError::NotText(format!("{other:?}"))),
    };
    if text.is_empty() { Err(SecretError::Empty(from)) } else { Ok(text) }
}

fn read_variable(name: &str) -> Result<String, SecretError> {
    std::env::var(name).map_err(|error| match error {
        std::env::VarError::NotPresent => SecretError::NotSet(name.to_owned()),
        std::env::VarError::NotUnicode(_) => {
            SecretError::NotText(format!("the environment variable {name}"))
        }
    })
}

fn read_file(path: &Path) -> Result<String, SecretError> {
    let bytes = std::fs::read(path)
        .map_err(|source| SecretError::Read { path: path.to_owned(), source })?;
    let text =
        String::from_utf8(bytes).map_err(|_| SecretError::NotText(path.display().to_string()))?;
    Ok(without_line_end(&text).to_owned())
}

/// Cuts off one `\n` or `\r\n`. Editors add it; anything before it may belong to the secret.
fn without_line_end(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Reads a secret from a file with this content.
    fn in_a_file(bytes: &[u8]) -> Result<String, SecretError> {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, bytes).unwrap();
        reveal(&Secret::File(path))
    }

    #[test]
    fn one_line_end_at_the_end_of_a_file_is_cut_off() {
        let without = [("a b", "a b"), (" a ", " a "), ("a\r", "a\r"), ("a\nb", "a\nb")];
        let with = [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r\n\r\n", "a\r\n")];
        let mixed = [("a\r\r\n", "a\r"), ("a\n\r", "a\n\r"), ("a\n\r\n", "a\n")];
        for (content, secret) in without.into_iter().chain(with).chain(mixed) {
            assert_eq!(in_a_file(content.as_bytes()).unwrap(), secret, "{content:?}");
        }
    }

    #[test]
    fn a_file_without_a_secret_is_refused_for_good() {
        for bytes in [&b""[..], b"\n", b"caf\xe9"] {
            let error = in_a_file(bytes).unwrap_err();
            assert!(!error.may_come(), "{error}");
            assert!(!error.to_string().contains("caf"), "{error}");
        }
        let directory = tempfile::TempDir::new().unwrap();
        let error = reveal(&Secret::File(directory.path().into())).unwrap_err();
        assert!(!error.may_come() && error.to_string().contains("directory"), "{error}");
    }

    #[test]
    fn a_missing_secret_may_still_come() {
        for secret in [Secret::File("/no/such/file".into()), Secret::Env("PANNIER_NO_SUCH".into())]
        {
            let error = reveal(&secret).unwrap_err();
            assert!(error.may_come(), "{error}");
        }
    }
}
