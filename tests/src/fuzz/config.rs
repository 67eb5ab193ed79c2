//! Resource files, in YAML and in JSON.

use config::ConfigError;

/// One file. What is wrong with it is told with the file, the line and the remedy.
pub(super) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data).into_owned();
    // YAML ends lines at carriage returns, too.
    let lines = text.matches(['\n', '\r']).count() + 1;
    for file in ["fuzz.yaml", "fuzz.json"] {
        let Err(errors) = config::parse(&[(file.into(), text.clone())]) else { continue };
        for error in errors.iter() {
            check(error, file, lines);
        }
    }
}

fn check(error: &ConfigError, file: &str, lines: usize) {
    assert_eq!(error.file, std::path::Path::new(file), "{error}");
    assert!(error.line <= lines, "{error}: the file has {lines} lines");
    assert!(!error.remedy.is_empty(), "{error}");
}
