//! A component's settings: each is taken once, by whom it is for; what is left over is an error.

use std::fmt;

use config::model::Origin;
use config::near::nearest;
use config::units;

/// The settings of one component, with secrets and templates filled in. Names are matched
/// whatever their case, as Dapr does. What is wrong is collected, and told by
/// [`finish`](Self::finish) all at once; values are never told, since they may be secrets.
pub struct Metadata {
    component: String,
    origin: Origin,
    values: Vec<Value>,
    asked: Vec<&'static str>,
    problems: Vec<String>,
}

/// One setting.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    /// The name, as written.
    pub name: String,
    /// The value, as text.
    pub value: String,
    /// The line that it was read from, from 1.
    pub line: usize,
}

impl Value {
    /// The setting `name`, read from `line`.
    pub fn new(name: impl Into<String>, value: impl Into<String>, line: usize) -> Self {
        Self { name: name.into(), value: value.into(), line }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("name", &self.name).field("line", &self.line).finish()
    }
}

/// Everything that is wrong with a component's metadata, one problem a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct MetadataError {
    /// Each names the component, the file and line, the setting and the remedy.
    pub problems: Vec<String>,
}

impl Metadata {
    /// The settings of `component`, which was read from `origin`. A name may be given once.
    pub fn new(component: &str, origin: &Origin, values: impl IntoIterator<Item = Value>) -> Self {
        let mut metadata = Self {
            component: component.to_owned(),
            origin: origin.clone(),
            values: Vec::new(),
            asked: Vec::new(),
            problems: Vec::new(),
        };
        for value in values {
            match metadata.position(&value.name) {
                Some(_) => metadata.problem(&value, "is given twice: remove one of them"),
                None => metadata.values.push(value),
            }
        }
        metadata
    }

    /// Text; `None` when it isn't set or empty.
    pub fn take(&mut self, name: &'static str) -> Option<String> {
        self.take_value(name).map(|value| value.value)
    }

    /// What `parse` makes of the text; where it makes nothing of it, the problem is that the
    /// setting must be `expected`.
    pub fn take_parsed<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.take_value(name)?;
        let parsed = parse(&value.value);
        if parsed.is_none() {
            self.problem(&value, &format!("must be {expected}"));
        }
        parsed
    }

    /// A number from 0.
    pub fn take_count(&mut self, name: &'static str) -> Option<u64> {
        self.take_parsed(name, "a whole number from 0", |text| text.trim().parse().ok())
    }

    /// Bytes: a number, or one with a unit (`64Ki`, `16Mi`, `1Gi`).
    pub fn take_bytes(&mut self, name: &'static str) -> Option<u64> {
        let expected = "a number of bytes, for example 65536, 64Ki, 16Mi or 1Gi";
        self.take_parsed(name, expected, |text| units::parse_bytes(text).ok())
    }

    /// `true` or `false`, or one of Dapr's other words for them.
    pub fn take_bool(&mut self, name: &'static str) -> Option<bool> {
        self.take_parsed(name, "true or false", |text| {
            match text.trim().to_ascii_lowercase().as_str() {
                "y" | "yes" | "on" => Some(true),
                "n" | "no" | "off" => Some(false),
                other => units::parse_go_bool(other),
            }
        })
    }

    /// One of these words, whatever its case.
    pub fn take_choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.take_parsed(name, &format!("one of {}", words.join(", ")), |text| {
            let chosen = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
            chosen.map(|(_, choice)| *choice)
        })
    }

    /// Every setting must have been taken by now, and none may have been wrong.
    pub fn finish(mut self) -> Result<(), MetadataError> {
        for value in std::mem::take(&mut self.values) {
            let remedy = match nearest(&value.name, self.asked.iter().copied()) {
                Some(name) => format!("is unknown: did you mean {name}?"),
                None => "is unknown to this component type: remove it".to_owned(),
            };
            self.problem(&value, &remedy);
        }
        match self.problems {
            problems if problems.is_empty() => Ok(()),
            problems => Err(MetadataError { problems }),
        }
    }

    /// The component's name.
    #[must_use]
    pub fn component(&self) -> &str {
        &self.component
    }

    /// Where the component was read.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn take_value(&mut self, name: &'static str) -> Option<Value> {
        self.asked.push(name);
        let value = self.values.remove(self.position(name)?);
        Some(value).filter(|value| !value.value.is_empty())
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.values.iter().position(|value| value.name.eq_ignore_ascii_case(name))
    }

    fn problem(&mut self, value: &Value, remedy: &str) {
        let Self { component, origin, .. } = self;
        let Value { name, line, .. } = value;
        let file = origin.file.display();
        self.problems.push(format!("{file}:{line}: component {component:?}: {name} {remedy}"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn metadata(values: &[(&str, &str)]) -> Metadata {
        let origin = Origin { file: "store.yaml".into(), line: 1 };
        let lines = values.iter().zip(7..);
        Metadata::new(
            "orders",
            &origin,
            lines.map(|((name, value), line)| Value::new(*name, *value, line)),
        )
    }

    #[test]
    fn names_are_matched_whatever_their_case() {
        let mut metadata = metadata(&[("KEYPREFIX", "none")]);
        assert_eq!(metadata.take("keyPrefix").as_deref(), Some("none"));
        assert!(metadata.finish().is_ok());
    }

    #[test]
    fn an_empty_value_counts_as_not_set() {
        let mut metadata = metadata(&[("maxBytes", "")]);
        assert_eq!(metadata.take_bytes("maxBytes"), None);
        assert!(metadata.finish().is_ok());
    }

    #[test]
    fn what_is_left_over_is_an_error_that_names_what_was_meant() {
        let mut metadata = metadata(&[("maxByte", "1")]);
        metadata.take_bytes("maxBytes");
        let error = metadata.finish().unwrap_err();
        let expected =
            "store.yaml:7: component \"orders\": maxByte is unknown: did you mean maxBytes?";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_wrong_value_is_never_repeated_in_the_error() {
        let mut metadata = metadata(&[("maxBytes", "hunter2")]);
        assert_eq!(metadata.take_bytes("maxBytes"), None);
        let error = metadata.finish().unwrap_err().to_string();
        assert!(error.contains("must be a number of bytes") && !error.contains("hunter2"));
    }

    #[test]
    fn a_name_given_twice_is_an_error() {
        let mut metadata = metadata(&[("maxBytes", "1"), ("maxbytes", "2")]);
        assert_eq!(metadata.take_bytes("maxBytes"), Some(1));
        assert!(metadata.finish().unwrap_err().to_string().contains("given twice"));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(metadata(&[("maxBytes", "64Ki")]).take_bytes("maxBytes"), Some(65_536));
        assert_eq!(metadata(&[("maxBytes", "2MB")]).take_bytes("maxBytes"), Some(2_000_000));
    }

    #[test]
    fn booleans_have_daprs_many_words_in_any_case() {
        for word in ["1", "t", "TRUE", "tRue", "y", "Yes", "ON", " true "] {
            assert_eq!(metadata(&[("flag", word)]).take_bool("flag"), Some(true), "{word}");
        }
        for word in ["0", "F", "False", "faLse", "n", "No", "off"] {
            assert_eq!(metadata(&[("flag", word)]).take_bool("flag"), Some(false), "{word}");
        }
        assert_eq!(metadata(&[("flag", "maybe")]).take_bool("flag"), None);
    }
}
