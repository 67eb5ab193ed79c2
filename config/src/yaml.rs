//! Parses YAML into a tree in which every value has its line.
//!
//! Nesting is bounded, and so is the memory of the tree with all aliases expanded. An error ends its
//! document; the next document of the same file is still read.

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

mod build;
#[cfg(test)]
mod tests;

/// Levels of nesting. The deepest kind of resource has 6.
pub(crate) const MAX_DEPTH: usize = 32;

/// Bytes that a file's tree may take with its aliases expanded. Bounds a "billion laughs" attack.
const MAX_TREE_BYTES: usize = 8 << 20;

/// A value and its line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct YamlNode {
    pub(crate) line: usize,
    pub(crate) value: YamlValue,
}

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum YamlValue {
    /// Nothing, `~` or `null`.
    Null,
    /// Text; `quoted` tells `"5"` from `5`.
    Scalar {
        text: String,
        quoted: bool,
    },
    List(Vec<YamlNode>),
    Map(Vec<MapEntry>),
}

/// One entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MapEntry {
    pub(crate) line: usize,
    pub(crate) key: String,
    pub(crate) value: YamlNode,
}

/// A reason why a text, or a part of it, can't be read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct YamlFault {
    pub(crate) line: usize,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

impl YamlFault {
    fn new(line: usize, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { line, problem: problem.into(), remedy: remedy.into() }
    }
}

/// Returns every document that can be read, and every fault. Empty documents are left out.
pub(crate) fn read(text: &str) -> (Vec<YamlNode>, Vec<YamlFault>) {
    let mut documents = Vec::new();
    let mut faults = Vec::new();
    let mut budget = MAX_TREE_BYTES;
    let mut stretch = Stretch { skipped: 0, text };
    loop {
        let mut builder = build::Builder::new(stretch.skipped, &mut budget);
        let fault = builder.run(stretch);
        let (built, duplicates) = builder.finish();
        documents.extend(built);
        faults.extend(duplicates);
        let Some(fault) = fault else { break };
        // The parser stops at an error. Go on with the next document, in a parser of its own.
        let next = stretch.next_document(fault.line);
        if faults.last() != Some(&fault) {
            faults.push(fault);
        }
        match next {
            Some(next) => stretch = next,
            None => break,
        }
    }
    (documents, faults)
}

/// The rest of a text, and how many lines come before it.
#[derive(Clone, Copy)]
struct Stretch<'a> {
    skipped: usize,
    text: &'a str,
}

impl<'a> Stretch<'a> {
    /// Returns the last line that isn't empty. At the end of a text the parser may report a later one.
    /// YAML ends lines at carriage returns, too.
    fn last_line(self) -> usize {
        let text = self.text.trim_end_matches(['\n', '\r']);
        text.matches(['\n', '\r']).count() - text.matches("\r\n").count() + 1
    }

    /// Returns the text from the first `---` at a line or after it, except on the first line of this
    /// stretch. `---` starts a document even after an error.
    fn next_document(self, line: usize) -> Option<Self> {
        let mut start = 0;
        for (index, text) in self.text.split_inclusive('\n').enumerate() {
            let here = self.skipped + index + 1;
            if index > 0 && here >= line && is_marker(text) {
                return Some(Self { skipped: here - 1, text: &self.text[start..] });
            }
            start += text.len();
        }
        None
    }
}

/// Returns whether a line starts a document.
fn is_marker(line: &str) -> bool {
    let rest = line.strip_prefix("---");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

impl build::Builder<'_> {
    /// Feeds the parser's events to the tree until the end or the first fault.
    fn run(&mut self, stretch: Stretch<'_>) -> Option<YamlFault> {
        let mut parser = Parser::new_from_str(stretch.text);
        let last = stretch.last_line();
        while let Some(event) = parser.next_event() {
            let taken = match event {
                Ok((Event::StreamEnd, _)) => return None,
                Ok((event, span)) => self.take(event, span.start.line().min(last)),
                Err(error) => Err(syntax(&error, stretch)),
            };
            if let Err(fault) = taken {
                return Some(fault);
            }
        }
        None
    }
}

/// Converts the parser's error. A tab in the indentation is named, because it is invisible and the
/// parser's message rarely mentions it.
fn syntax(error: &ScanError, stretch: Stretch<'_>) -> YamlFault {
    let line = error.marker().line().clamp(1, stretch.last_line());
    let before = line.saturating_sub(2);
    let around = stretch.text.lines().enumerate().skip(before).take(line + 1 - before);
    for (index, text) in around {
        let indented = text.trim_start_matches(' ').starts_with('\t');
        if indented && !text.trim().is_empty() {
            let line = stretch.skipped + index + 1;
            return YamlFault::new(line, "a tab in the indentation", "indent with spaces");
        }
    }
    YamlFault::new(
        stretch.skipped + line,
        format!("not valid YAML: {}", error.info().escape_debug()),
        "check the indentation, the quotes and the colons on this line and the one before",
    )
}

/// Returns the value of a scalar.
fn scalar(text: String, style: ScalarStyle) -> YamlValue {
    let is_plain = style == ScalarStyle::Plain;
    if is_plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        return YamlValue::Null;
    }
    YamlValue::Scalar { text, quoted: !is_plain }
}
