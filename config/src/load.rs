//! Finds and reads the files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::ConfigErrors;
use crate::model::{Origin, Resources};
use crate::report::Report;

/// Bytes of one file at most: far beyond any configuration written by hand, and small enough for the
/// memory of a device.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// Reads files and directories. Of a directory, every `*.yaml`, `*.yml` and `*.json` is read in the order
/// of the names, without hidden files and subdirectories. A file that is named twice is read once.
///
/// # Errors
/// Returns all errors of all files, and the paths that can't be read.
pub fn load(paths: &[PathBuf]) -> Result<Resources, ConfigErrors> {
    crate::strict(load_with_errors(paths))
}

/// Reads like [`load`], and returns the resources that could be read beside the errors, so that the
/// caller can look for more errors.
#[must_use]
pub fn load_with_errors(paths: &[PathBuf]) -> (Resources, Option<ConfigErrors>) {
    let report = Report::default();
    let mut sources = Vec::new();
    let mut seen = BTreeSet::new();
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

/// Returns whether a file is within the limit, and reports it if not.
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

/// Returns the files that a path stands for.
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

/// Lists the resource files of a directory.
fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // `is_file` follows links, because Kubernetes mounts config maps as links.
        if is_resource_file(&path) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_resource_file(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|extension| extension.to_str());
    !is_hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Reads a file's text, but never more than the limit and one byte.
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

/// The origin of errors that have no line.
fn whole(file: &Path) -> Origin {
    Origin { file: file.to_path_buf(), line: 0 }
}
