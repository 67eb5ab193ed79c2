use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

use crate::directory::Directory;
use crate::process::Process;

/// How a command ended, and what it said.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote, to both of its outputs.
    pub said: String,
}

/// Where the program is: `PANNIER_BIN`, or what cargo builds beside this test.
///
/// # Panics
/// When it can't be built.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match env::var_os("PANNIER_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            fs::canonicalize(&path)
                .unwrap_or_else(|error| panic!("PANNIER_BIN is {}: {error}", path.display()))
        }
        None => build(),
    })
}

/// Runs a command of the program to its end.
///
/// # Panics
/// When it does not end.
pub fn run(arguments: &[&str]) -> Finished {
    run_command(Command::new(path()).args(arguments))
}

/// Runs the program as it is told to its end.
///
/// # Panics
/// When it does not end.
pub fn run_command(command: &mut Command) -> Finished {
    let directory = Directory::new();
    let mut process = Process::start("pannier", command, &directory.path().join("log"));
    let code = process.wait().code();
    Finished { code, said: process.log() }
}

/// Cargo builds it anew only when its source has changed, so that no stale one is tested.
fn build() -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2).expect("a test is in <target>/<profile>/deps");
    let target = profile.parent().expect("a profile is in the target directory");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "-p", "runtime", "--bin", "pannier", "--target-dir"]);
    cargo.arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo tells a test of its own package makes build scripts run again.
    let told = |name: &str| {
        ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|prefix| name.starts_with(prefix))
    };
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(told)) {
        cargo.env_remove(name);
    }
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.status().expect("cargo can be started");
    assert!(built.success(), "cargo could not build pannier");
    profile.join("pannier")
}
