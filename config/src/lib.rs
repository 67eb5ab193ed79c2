//! Reads configuration files into typed values, and reports every error at once.
//!
//! A leaf of the workspace. Apart from reading the named files it has no side effects.
//!
//! | module | one sentence |
//! | --- | --- |
//! | [`model`] | the typed values: one that exists is valid |
//! | [`error`] | errors with file, line, field, problem and remedy |
//! | [`units`] | sizes, durations and booleans |
//! | `load` | finds and reads the files |
//! | `yaml` | parses text into a bounded tree in which every value has its line |
//! | `reader` | reads typed values from the tree and collects errors |
//! | `report` | the errors, warnings and names found while reading |
//! | `kinds` | one file for each kind of resource |
//! | `rules` | the rules for names, topics and secrets |
//! | [`near`] | the known name that was probably meant |

use std::path::PathBuf;

pub mod error;
mod kinds;
mod load;
pub mod model;
pub mod near;
mod reader;
mod report;
mod rules;
#[cfg(test)]
mod tests;
pub mod units;
mod yaml;

pub use error::{ConfigError, ConfigErrors};
pub use load::{MAX_FILE_BYTES, load, load_with_errors};
use model::{Origin, Resources};
use reader::Field;
use report::Report;

/// Reads named texts, in order. A text may hold several documents, or none.
///
/// # Errors
/// Returns all errors of all texts.
pub fn parse(sources: &[(PathBuf, String)]) -> Result<Resources, ConfigErrors> {
    strict(parse_into(Report::default(), sources))
}

/// Returns the resources only if there is no error.
fn strict(
    (resources, errors): (Resources, Option<ConfigErrors>),
) -> Result<Resources, ConfigErrors> {
    errors.map_or(Ok(resources), Err)
}

/// Reads texts into a report that may hold errors already.
fn parse_into(report: Report, sources: &[(PathBuf, String)]) -> (Resources, Option<ConfigErrors>) {
    let mut resources = Resources::default();
    for (file, text) in sources {
        if !load::fits(&report, file, text.len()) {
            continue;
        }
        resources.files += 1;
        let is_json = file.extension().is_some_and(|extension| extension == "json");
        // YAML forbids tabs in the indentation. JSON allows them there, and never in a string.
        let (documents, faults) =
            if is_json { yaml::read(&text.replace('\t', " ")) } else { yaml::read(text) };
        for fault in faults {
            let origin = Origin { file: file.clone(), line: fault.line };
            report.error(&origin, "", fault.problem, fault.remedy);
        }
        for document in &documents {
            kinds::read(&Field::document(&report, file, document), is_json, &mut resources);
        }
    }
    rules::uplinks::check_client_ids(&report, &resources);
    let (errors, warnings) = report.finish();
    resources.warnings = warnings;
    (resources, ConfigErrors::collect(errors))
}
