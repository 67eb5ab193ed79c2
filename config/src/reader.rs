//! Typed access to the tree. Errors are collected; reading goes on after one.
//!
//! Every method that reads returns `None` after it has put an error into the report, so that callers
//! can read the rest of a resource before they give it up.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::model::Origin;
use crate::report::Report;
use crate::units::{self, UnitError};
use crate::yaml::{YamlNode, YamlValue};

mod fields;
#[cfg(test)]
mod tests;

pub(crate) use fields::Fields;

/// A value with its file, its line and its path.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    report: &'a Report,
    file: &'a Path,
    line: usize,
    path: String,
    node: &'a YamlNode,
}

impl<'a> Field<'a> {
    /// Returns a whole document.
    pub(crate) fn document(report: &'a Report, file: &'a Path, node: &'a YamlNode) -> Self {
        Self { report, file, line: node.line, path: String::new(), node }
    }

    /// Returns where it was read.
    pub(crate) fn origin(&self) -> Origin {
        Origin { file: self.file.to_path_buf(), line: self.line }
    }

    /// Reports an error of this field. Returns `None`, so that a reader can end with the call.
    pub(crate) fn refuse<T>(
        &self,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Option<T> {
        self.report.error(&self.origin(), &self.path, problem, remedy);
        None
    }

    /// Reports something that has no effect.
    pub(crate) fn warn(&self, text: &str) {
        self.report.warning(&self.origin(), &self.path, text);
    }

    /// Takes a name that must be unique among all `what`; reports an error if it is taken.
    pub(crate) fn claim(&self, what: &'static str, name: &str, remedy: &str) -> Option<()> {
        let Some(first) = self.report.claim(what, name, &self.origin()) else { return Some(()) };
        let place = format!("{}:{}", first.file.display(), first.line);
        let name = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        self.refuse(format!("{what}{name} is defined in {place} too"), remedy)
    }

    /// Reads text as it was written, which may look like a number. It may not be empty.
    pub(crate) fn text(&self) -> Option<String> {
        match self.any_text()? {
            text if text.is_empty() => self.refuse("is empty", "write a value, or leave it out"),
            text => Some(text),
        }
    }

    /// Reads text as it was written. It may be empty.
    pub(crate) fn any_text(&self) -> Option<String> {
        match &self.node.value {
            YamlValue::Scalar { text, .. } => Some(text.clone()),
            YamlValue::Null => Some(String::new()),
            YamlValue::List(_) | YamlValue::Map(_) => {
                self.wrong_type("text", "put text with { or [ in quotes")
            }
        }
    }

    /// Reads one of YAML's booleans.
    pub(crate) fn flag(&self) -> Option<bool> {
        match &self.node.value {
            YamlValue::Scalar { text, quoted: false } => match text.as_str() {
                "true" | "True" | "TRUE" => Some(true),
                "false" | "False" | "FALSE" => Some(false),
                _ => self.wrong_type("true or false", "write true or false"),
            },
            _ => self.wrong_type("true or false", "write true or false, without quotes"),
        }
    }

    /// Reads a whole number within a range.
    pub(crate) fn number<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let least = range.start();
        let most = range.end();
        let remedy = format!("write a number from {least} to {most}, without quotes");
        let YamlValue::Scalar { text, quoted: false } = &self.node.value else {
            return self.wrong_type("a whole number", &remedy);
        };
        match text.parse() {
            Ok(number) if range.contains(&number) => Some(number),
            Err(_) if !is_integer(text) => self.wrong_type("a whole number", &remedy),
            _ => self.refuse(format!("{text} is not within {least} to {most}"), remedy),
        }
    }

    /// Reads a size in bytes.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.unit("a size", "write for example 4Mi", units::parse_bytes)
    }

    /// Reads a duration with its unit.
    pub(crate) fn duration(&self) -> Option<Duration> {
        self.unit("a duration", "write for example 5s", units::parse_duration)
    }

    /// Reads a duration of at least `least`.
    pub(crate) fn duration_from(&self, least: Duration) -> Option<Duration> {
        match self.duration()? {
            duration if duration < least => {
                let problem = format!("{duration:?} is too short");
                self.refuse(problem, format!("write at least {least:?}"))
            }
            duration => Some(duration),
        }
    }

    /// Reads an IP address.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let text = self.text()?;
        text.parse().ok().or_else(|| {
            let remedy = "write one without a port, for example 127.0.0.1 or ::1";
            self.refuse(format!("{text:?} is not an IP address"), remedy)
        })
    }

    /// Returns the items of a list.
    pub(crate) fn items(&self) -> Option<Vec<Field<'a>>> {
        let YamlValue::List(items) = &self.node.value else {
            return self.wrong_type("a list", "start each entry on its own line with a dash");
        };
        let item = |(index, node): (usize, &'a YamlNode)| Field {
            line: node.line,
            path: format!("{}[{index}]", self.path),
            node,
            ..self.clone()
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// Reads every item of a list, so that the errors of all are reported.
    pub(crate) fn list<T>(&self, read: impl Fn(Field<'a>) -> Option<T>) -> Option<Vec<T>> {
        let items: Vec<_> = self.items()?.into_iter().map(read).collect();
        items.into_iter().collect()
    }

    /// Reads a list of texts.
    pub(crate) fn texts(&self) -> Option<Vec<String>> {
        self.list(|item| item.text())
    }

    /// Returns the fields of a map.
    pub(crate) fn fields(&self) -> Option<Fields<'a>> {
        match &self.node.value {
            YamlValue::Map(entries) => Some(Fields::new(self.clone(), entries)),
            _ => self.wrong_type("a map", "write its fields below it, indented"),
        }
    }

    /// Returns whether the value is a map, for fields that may hold a text or a map.
    pub(crate) fn is_map(&self) -> bool {
        matches!(self.node.value, YamlValue::Map(_))
    }

    fn unit<T>(
        &self,
        wanted: &str,
        remedy: &str,
        parse: impl Fn(&str) -> Result<T, UnitError>,
    ) -> Option<T> {
        let YamlValue::Scalar { text, .. } = &self.node.value else {
            return self.wrong_type(wanted, remedy);
        };
        parse(text).map_err(|error| self.refuse::<T>(error.problem, error.remedy)).ok()
    }

    fn wrong_type<T>(&self, wanted: &str, remedy: &str) -> Option<T> {
        self.refuse(format!("expected {wanted}, found {}", self.found()), remedy)
    }

    /// Names the type of the value. Its text stays out of errors: it may be a misplaced secret.
    fn found(&self) -> &'static str {
        match &self.node.value {
            YamlValue::Null => "nothing",
            YamlValue::Scalar { quoted: true, .. } => "text in quotes",
            YamlValue::Scalar { text, .. } if is_integer(text) => "a number",
            YamlValue::Scalar { .. } => "text",
            YamlValue::List(_) => "a list",
            YamlValue::Map(_) => "a map",
        }
    }
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
