//! Text to typed values, and every error at once.
//!
//! A leaf of the workspace, and pure but for reading the named files.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`model`] | the typed values: one that exists is valid |
//! | [`error`] | errors with file, line, field, problem and remedy |
//! | [`units`] | sizes, durations and booleans |
//! | `load` | finds and reads the files |
//! | `yaml` | text to a bounded tree in which every value knows its line |
//! | `reader` | typed access to the tree that collects errors |
//! | `report` | what reading finds: errors, warnings, taken names |
//! | `kinds` | one file for each kind of resource |
//! | `rules` | what names, topics and secrets must look like |
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

pub use error::{ConfigError, Errors};
pub use load::{MAX_FILE_BYTES, load, load_what_can_be_read};
use model::{Origin, Resources};
use reader::Field;
use report::Report;

/// Reads named texts, in order. A text may hold several documents, or none.
///
/// # Errors
/// Everything that is wrong in all of the texts.
pub fn parse(sources: &[(PathBuf, String)]) -> Result<Resources, Errors> {
    strict(parse_into(Report::default(), sources))
}

/// All or nothing.
fn strict((resources, errors): (Resources, Option<Errors>)) -> Result<Resources, Errors> {
    errors.map_or(Ok(resources), Err)
}

/// Reads on after errors that were found earlier.
fn parse_into(report: Report, sources: &[(PathBuf, String)]) -> (Resources, Option<Errors>) {
    let mut resources = Resources::default();
    for (file, text) in sources {
        if !load::fits(&report, file, text.len()) {
            continue;
        }
        resources.files += 1;
        let json = file.extension().is_some_and(|extension| extension == "json");
        // JSON may be indented with tabs, and has none in its strings.
        let (documents, faults) =
            if json { yaml::read(&text.replace('\t', " ")) } else { yaml::read(text) };
        for fault in faults {
            let origin = Origin { file: file.clone(), line: fault.line };
            report.error(&origin, "", fault.problem, fault.remedy);
        }
        for document in &documents {
            kinds::read(&Field::document(&report, file, document), json, &mut resources);
        }
    }
    rules::uplinks::check_client_ids(&report, &resources);
    let (errors, warnings) = report.finish();
    resources.warnings = warnings;
    (resources, Errors::collect(errors))
}
