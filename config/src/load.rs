//! Finds and reads the files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::Errors;
use crate::model::{Origin, Resources};
use crate::report::Report;

/// Bytes that one file may have: far beyond any configuration written by hand, and small enough to
/// be read into a device's memory.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// Reads files, and directories: in these every `*.yaml`, `*.yml` and `*.json`, by name; hidden
/// files and directories below are left out. A file that is named twice is read once.
///
/// # Errors
/// Everything that is wrong in all of the files, and paths that can't be read.
pub fn load(paths: &[PathBuf]) -> Result<Resources, Errors> {
    crate::strict(load_what_can_be_read(paths))
}

/// [`load`] for whoever goes on to look for more errors: what could be read, beside what is wrong
/// with the rest.
#[must_use]
pub fn load_what_can_be_read(paths: &[PathBuf]) -> (Resources, Option<Errors>) {
    let report = Report::default();
    let (mut sources, mut seen) = (Vec::new(), BTreeSet::new());
    for path in paths {
        for file in files(&report, path) {
            let identity = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
            if seen.insert(identity) {
                sources.extend(read(&report, &file).map(|text| (file, text)));
            }
        }
    }
    crate::parse_into(report, &sources)
}

/// Whether a file is within the limit; if not, that is reported.
pub(crate) fn fits(report: &Report, file: &Path, bytes: usize) -> bool {
    if bytes <= MAX_FILE_BYTES {
        return true;
    }
    let limit = MAX_FILE_BYTES >> 20;
    report.error(
        &whole(file),
        "",
        format!("the file is larger than {limit} MiB"),
        "split it, or move what is no configuration elsewhere",
    );
    false
}

/// The files that a path stands for.
fn files(report: &Report, path: &Path) -> Vec<PathBuf> {
    let listed = fs::metadata(path).and_then(|metadata| match metadata.is_dir() {
        true => listed(path),
        false => Ok(vec![path.to_path_buf()]),
    });
    listed.unwrap_or_else(|error| {
        unreadable(report, path, &error);
        Vec::new()
    })
}

fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // Links are followed: Kubernetes mounts its config maps as links.
        if is_resource_file(&path) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_resource_file(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// A file's text; never more than the limit and one byte is read.
fn read(report: &Report, file: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let limit = MAX_FILE_BYTES as u64 + 1;
    let opened = File::open(file).and_then(|open| open.take(limit).read_to_end(&mut bytes));
    if let Err(error) = opened {
        unreadable(report, file, &error);
        return None;
    }
    if !fits(report, file, bytes.len()) {
        return None;
    }
    String::from_utf8(bytes)
        .map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            let origin = Origin { file: file.to_path_buf(), line };
            report.error(&origin, "", "not valid UTF-8", "save the file as UTF-8");
        })
        .ok()
}

fn unreadable(report: &Report, path: &Path, error: &io::Error) {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "check the path, or leave it out",
        io::ErrorKind::PermissionDenied => "make it readable for the user that we run as",
        _ => "check the path and the disk",
    };
    report.error(&whole(path), "", format!("can't be read: {error}"), remedy);
}

fn whole(file: &Path) -> Origin {
    Origin { file: file.to_path_buf(), line: 0 }
}
