//! A component's settings. Each is taken once; those that are left over are errors.

use std::fmt;

use config::model::Origin;
use config::near::nearest;
use config::units;

/// The settings of one component, with secrets and templates filled in. Names are compared without
/// regard to letter case, as in Dapr. Problems are collected, and returned by
/// [`finish`](Self::finish) all at once. They never contain a value, which may be a secret.
pub struct Metadata {
    component: String,
    origin: Origin,
    settings: Vec<Setting>,
    /// The names that the component knows.
    asked: Vec<&'static str>,
    problems: Vec<String>,
}

/// One setting.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The name, as written.
    pub name: String,
    /// The value, as text.
    pub value: String,
    /// The line in the file, from 1.
    pub line: usize,
}

impl Setting {
    /// Creates the setting `name`, which was read from `line`.
    pub fn new(name: impl Into<String>, value: impl Into<String>, line: usize) -> Self {
        Self { name: name.into(), value: value.into(), line }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("name", &self.name).field("line", &self.line).finish()
    }
}

/// All problems of a component's settings, one per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct MetadataError {
    /// The problems. Each names the component, the file and line, the setting and the remedy.
    pub problems: Vec<String>,
}

impl Metadata {
    /// Creates the settings of `component`, which was read from `origin`. A name that is given twice is a
    /// problem.
    pub fn new(
        component: &str,
        origin: &Origin,
        settings: impl IntoIterator<Item = Setting>,
    ) -> Self {
        let mut metadata = Self {
            component: component.to_owned(),
            origin: origin.clone(),
            settings: Vec::new(),
            asked: Vec::new(),
            problems: Vec::new(),
        };
        for setting in settings {
            match metadata.position(&setting.name) {
                Some(_) => metadata.report(&setting, "is given twice: remove one of them"),
                None => metadata.settings.push(setting),
            }
        }
        metadata
    }

    /// Takes a text; `None` if it isn't set or is empty.
    pub fn take(&mut self, name: &'static str) -> Option<String> {
        self.take_setting(name).map(|setting| setting.value)
    }

    /// Takes a text and parses it. Where `parse` returns `None`, the problem is that the setting must be
    /// `expected`.
    pub fn take_parsed<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let setting = self.take_setting(name)?;
        let parsed = parse(&setting.value);
        if parsed.is_none() {
            self.report(&setting, &format!("must be {expected}"));
        }
        parsed
    }

    /// Takes a whole number from 0.
    pub fn take_count(&mut self, name: &'static str) -> Option<u64> {
        self.take_parsed(name, "a whole number from 0", |text| text.trim().parse().ok())
    }

    /// Takes a number of bytes, with or without a unit (`64Ki`, `16Mi`, `1Gi`).
    pub fn take_bytes(&mut self, name: &'static str) -> Option<u64> {
        let expected = "a number of bytes, for example 65536, 64Ki, 16Mi or 1Gi";
        self.take_parsed(name, expected, |text| units::parse_bytes(text).ok())
    }

    /// Takes `true` or `false`, or another of Dapr's words for them (`yes`, `1`, `off`, ...).
    pub fn take_bool(&mut self, name: &'static str) -> Option<bool> {
        self.take_parsed(name, "true or false", |text| {
            match text.trim().to_ascii_lowercase().as_str() {
                "y" | "yes" | "on" => Some(true),
                "n" | "no" | "off" => Some(false),
                other => units::parse_go_bool(other),
            }
        })
    }

    /// Takes one of these words, in any letter case.
    pub fn take_choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.take_parsed(name, &format!("one of {}", words.join(", ")), |text| {
            let chosen = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim()));
            chosen.map(|(_, choice)| *choice)
        })
    }

    /// Returns all problems: wrong settings, and those that were not taken.
    pub fn finish(mut self) -> Result<(), MetadataError> {
        for setting in std::mem::take(&mut self.settings) {
            let remedy = match nearest(&setting.name, self.asked.iter().copied()) {
                Some(name) => format!("is unknown: did you mean {name}?"),
                None => "is unknown to this component type: remove it".to_owned(),
            };
            self.report(&setting, &remedy);
        }
        match self.problems {
            problems if problems.is_empty() => Ok(()),
            problems => Err(MetadataError { problems }),
        }
    }

    /// Returns the component's name.
    #[must_use]
    pub fn component(&self) -> &str {
        &self.component
    }

    /// Returns where the component was read.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn take_setting(&mut self, name: &'static str) -> Option<Setting> {
        self.asked.push(name);
        let setting = self.settings.remove(self.position(name)?);
        Some(setting).filter(|setting| !setting.value.is_empty())
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.settings.iter().position(|setting| setting.name.eq_ignore_ascii_case(name))
    }

    fn report(&mut self, setting: &Setting, remedy: &str) {
        let component = &self.component;
        let file = self.origin.file.display();
        let Setting { name, line, .. } = setting;
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
            lines.map(|((name, value), line)| Setting::new(*name, *value, line)),
        )
    }

    #[test]
    fn names_are_compared_without_regard_to_case() {
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
    fn a_setting_that_is_not_taken_is_an_error_that_names_the_nearest_one() {
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
