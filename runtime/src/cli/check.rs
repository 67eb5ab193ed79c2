//! `pannier check`.

use std::path::PathBuf;

use clap::{Args, Parser};
use config::model::Resources;

use super::{EX_CONFIG, EX_USAGE, Failure, print};
use crate::check::FileProblem;
use crate::flags::RunArgs;
use crate::{check, logs, settings, text};

pub(super) const EXAMPLES: &str = "\
Examples:
  pannier check /etc/pannier
      check all the files of a directory
  pannier check node.yaml uplink.yaml --config dapr.yaml
      check these files together";

/// Flags of `pannier check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// A file or folder of resources; may be given more than once.
    #[arg(long, visible_alias = "components-path")]
    pub resources_path: Vec<PathBuf>,
    /// A file with a Dapr Configuration; may be given more than once.
    #[arg(long)]
    pub config: Vec<PathBuf>,
    /// More files and folders.
    pub paths: Vec<PathBuf>,
}

/// Checks everything that `pannier run` would read from the paths, and starts nothing. Warnings go to
/// standard error, as errors do.
///
/// # Errors
///
/// When no path is named, or the configuration is wrong.
pub async fn run(args: CheckArgs) -> Result<(), Failure> {
    let Report { errors, warnings, summary } = report(args).await?;
    for warning in &warnings {
        logs::say(&format!("warning: {warning}\n"));
    }
    if errors.is_empty() {
        return print(&format!("{summary}\n"));
    }
    Err(Failure::with_code(format!("{}\n{summary}", errors.join("\n")), EX_CONFIG))
}

/// The findings of a check.
struct Report {
    /// One line for each error.
    errors: Vec<String>,
    /// Findings that may be intended, or may resolve themselves.
    warnings: Vec<String>,
    /// The number of resources, files and findings.
    summary: String,
}

/// No path was given.
#[derive(Debug, thiserror::Error)]
#[error(
    "nothing was checked: name the files or folders of resources, as in\n    pannier check /etc/pannier\n    pannier check --resources-path resources --config configuration.yaml"
)]
struct NothingNamed;

impl From<NothingNamed> for Failure {
    fn from(error: NothingNamed) -> Self {
        Self::with_code(error.to_string(), EX_USAGE)
    }
}

async fn report(args: CheckArgs) -> Result<Report, NothingNamed> {
    let CheckArgs { mut resources_path, config, paths } = args;
    resources_path.extend(paths);
    if resources_path.is_empty() && config.is_empty() {
        return Err(NothingNamed);
    }
    let args = RunArgs { resources_path, config, ..RunArgs::parse_from(["pannier"]) };
    let (settings, found) = settings::read(&args);
    let mut warnings = settings.resources.warnings.clone();
    warnings.extend(found.absent);
    warnings.extend(check::excessive_concurrency(&settings));
    let mut errors = check::by_building(&settings, found.problems).await;
    for FileProblem { text, may_come } in check::files(&settings.resources) {
        if may_come { &mut warnings } else { &mut errors }.push(text);
    }
    let summary = summary(&settings.resources, errors.len(), warnings.len());
    Ok(Report { errors, warnings, summary })
}

/// Summarizes a check, as in `3 resources in 2 files: no problems`.
fn summary(resources: &Resources, errors: usize, warnings: usize) -> String {
    let Resources { files, documents, .. } = *resources;
    let errors_found = count(errors, "error", "errors");
    let warnings_found = count(warnings, "warning", "warnings");
    let found = match (errors, warnings) {
        (0, 0) if documents == 0 => {
            return "no resources in the paths given: Pannier would run with its defaults".into();
        }
        (0, 0) => "no problems".to_owned(),
        (0, _) => warnings_found,
        (_, 0) => errors_found,
        (_, _) => format!("{errors_found}, {warnings_found}"),
    };
    let documents = count(documents, "resource", "resources");
    let files = count(files, "file", "files");
    format!("{documents} in {files}: {found}")
}

fn count(number: usize, one: &str, more: &str) -> String {
    text::count(number as u64, one, more)
}
