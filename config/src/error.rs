//! Configuration errors, each with its place and its remedy.

use std::fmt;
use std::path::PathBuf;

/// One configuration error. It never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file or directory, as it was named.
    pub file: PathBuf,
    /// The line, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// The path of the field, for example `spec.routes[0].topic`; empty when no field is meant.
    pub field: String,
    /// The problem, as a predicate of the field: `is missing`.
    pub problem: String,
    /// The way to correct it, in the imperative.
    pub remedy: String,
}

/// Formats as `file:line: field: problem; remedy`, without the parts that don't apply.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, " {}:", self.field)?;
        }
        write!(f, " {}; {}", self.problem, self.remedy)
    }
}

/// Every error of a configuration, sorted by file and line; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Sorts the errors; `None` when there are none.
    pub(crate) fn collect(mut errors: Vec<ConfigError>) -> Option<Self> {
        errors.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// Iterates over the errors in order.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl IntoIterator for ConfigErrors {
    type Item = ConfigError;
    type IntoIter = std::vec::IntoIter<ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Formats one error per line.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(file: &str, line: usize, field: &str) -> ConfigError {
        ConfigError {
            file: file.into(),
            line,
            field: field.into(),
            problem: "is wrong".into(),
            remedy: "put it right".into(),
        }
    }

    #[test]
    fn errors_are_shown_one_a_line_by_file_and_line() {
        let all =
            vec![error("b.yaml", 2, ""), error("a.yaml", 10, "spec.x"), error("a.yaml", 9, "")];
        let shown = ConfigErrors::collect(all).map(|errors| errors.to_string());
        let expected = "a.yaml:9: is wrong; put it right\n\
                        a.yaml:10: spec.x: is wrong; put it right\n\
                        b.yaml:2: is wrong; put it right";
        assert_eq!(shown.as_deref(), Some(expected));
    }

    #[test]
    fn an_error_of_a_whole_file_names_no_line() {
        assert_eq!(error("a", 0, "").to_string(), "a: is wrong; put it right");
    }

    #[test]
    fn no_errors_are_no_errors() {
        assert_eq!(ConfigErrors::collect(Vec::new()), None);
    }
}
