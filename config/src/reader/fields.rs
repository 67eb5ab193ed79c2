//! The fields of a map. Those that nobody asked for are reported at the end.

use std::cell::RefCell;

use super::Field;
use crate::model::Origin;
use crate::near::nearest;
use crate::yaml::{MapEntry, YamlValue};

/// A map that remembers which of its fields were asked for.
pub(crate) struct Fields<'a> {
    of: Field<'a>,
    entries: &'a [MapEntry],
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(of: Field<'a>, entries: &'a [MapEntry]) -> Self {
        Self { of, entries, known: RefCell::default() }
    }

    /// Returns where the map was read.
    pub(crate) fn origin(&self) -> Origin {
        self.of.origin()
    }

    /// Returns the map as one field, for errors of several fields together.
    pub(crate) fn whole(&self) -> &Field<'a> {
        &self.of
    }

    /// Returns a field that has a value. One without a value counts as left out.
    pub(crate) fn get(&self, name: &'static str) -> Option<Field<'a>> {
        self.written(name).filter(|field| field.node.value != YamlValue::Null)
    }

    /// Returns a field, with or without a value.
    pub(crate) fn written(&self, name: &'static str) -> Option<Field<'a>> {
        self.know(&[name]);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        Some(self.field(entry))
    }

    /// Returns a field that must have a value. The example becomes part of the remedy.
    pub(crate) fn need(&self, name: &'static str, example: &str) -> Option<Field<'a>> {
        self.get(name).or_else(|| {
            let path = self.path_of(name);
            let remedy = format!("add it, for example {example}");
            self.of.report.error(&self.origin(), &path, "is missing", remedy);
            None
        })
    }

    /// Reads an optional field. The outer `None` means that its value is wrong.
    pub(crate) fn read<T>(
        &self,
        name: &'static str,
        how: impl FnOnce(Field<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.get(name) {
            Some(field) => how(field).map(Some),
            None => Some(None),
        }
    }

    /// Reads an optional field with a default. `None` means that its value is wrong.
    pub(crate) fn read_or<T>(
        &self,
        name: &'static str,
        default: T,
        how: impl FnOnce(Field<'a>) -> Option<T>,
    ) -> Option<T> {
        self.read(name, how).map(|value| value.unwrap_or(default))
    }

    /// Iterates over all fields and their names, for maps whose names the user chooses.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> + '_ {
        self.entries.iter().map(|entry| (entry.key.as_str(), self.field(entry)))
    }

    /// Accepts names that have no effect here.
    pub(crate) fn know(&self, names: &[&'static str]) {
        self.known.borrow_mut().extend_from_slice(names);
    }

    /// Ends a map of Pannier's own kinds: fields that nobody asked for are errors.
    pub(crate) fn refuse_others(&self) {
        let known = self.known.borrow();
        for entry in self.others(&known) {
            let remedy = match nearest(&entry.key, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("remove it; known here: {}", list(&known)),
            };
            self.field(entry).refuse::<()>("unknown field", remedy);
        }
    }

    /// Ends a map of Dapr's kinds. A field that looks like a misspelt known one is an error, because it
    /// would have no effect and nobody would notice. All others are warnings.
    pub(crate) fn warn_of_others(&self, not_acted_on: &[&str]) {
        let known = self.known.borrow();
        for entry in self.others(&known) {
            let field = self.field(entry);
            if not_acted_on.contains(&entry.key.as_str()) {
                field.warn("this version does not act on it");
            } else if let Some(meant) = nearest(&entry.key, known.iter().copied()) {
                field.refuse::<()>("unknown field", format!("did you mean {meant}?"));
            } else {
                field.warn("unknown field, not acted on");
            }
        }
    }

    fn others(&self, known: &[&'static str]) -> impl Iterator<Item = &'a MapEntry> {
        self.entries.iter().filter(|entry| !known.contains(&entry.key.as_str()))
    }

    fn field(&self, entry: &'a MapEntry) -> Field<'a> {
        Field {
            line: entry.line,
            path: self.path_of(&entry.key),
            node: &entry.value,
            ..self.of.clone()
        }
    }

    /// Returns the path of a field. Names come from the file, so they are escaped to keep an error on
    /// one line.
    fn path_of(&self, name: &str) -> String {
        let dot = if self.of.path.is_empty() { "" } else { "." };
        format!("{}{dot}{}", self.of.path, name.escape_debug())
    }
}

fn list(names: &[&'static str]) -> String {
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
