//! The errors, warnings and taken names that are found while files are read.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::error::ConfigError;
use crate::model::Origin;

/// The findings in all files. Readers share it, so it is written through a shared reference.
#[derive(Default)]
pub(crate) struct Report {
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<String>>,
    claims: RefCell<BTreeMap<(&'static str, String), Origin>>,
}

impl Report {
    pub(crate) fn error(
        &self,
        origin: &Origin,
        field: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.errors.borrow_mut().push(ConfigError {
            file: origin.file.clone(),
            line: origin.line,
            field: field.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }

    pub(crate) fn warning(&self, origin: &Origin, field: &str, text: &str) {
        let place = format!("{}:{}", origin.file.display(), origin.line);
        let field = if field.is_empty() { String::new() } else { format!(" {field}:") };
        self.warnings.borrow_mut().push(format!("{place}:{field} {text}"));
    }

    /// Takes a name. Returns where it was taken if that has happened before.
    pub(crate) fn claim(&self, what: &'static str, name: &str, origin: &Origin) -> Option<Origin> {
        let mut claims = self.claims.borrow_mut();
        let key = (what, name.to_owned());
        if let Some(first) = claims.get(&key) {
            return Some(first.clone());
        }
        claims.insert(key, origin.clone());
        None
    }

    /// Returns the errors and the warnings, in the order of reading.
    pub(crate) fn finish(self) -> (Vec<ConfigError>, Vec<String>) {
        (self.errors.into_inner(), self.warnings.into_inner())
    }
}
