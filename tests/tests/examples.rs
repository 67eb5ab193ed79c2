//! The examples of the documentation do what they say.
#![allow(clippy::unwrap_used)]

use std::fmt::Display;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tests::{Directory, binary};

fn example(name: &str) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name);
    let mut command = Command::new(script);
    command.env("PANNIER_BIN", binary::path());
    command
}

#[test]
fn the_example_that_pulls_the_link_shows_that_everything_arrives() {
    let temporary = Directory::new();
    let mut command = example("pull-the-link/run");
    let finished = binary::run_command(command.env("TMPDIR", temporary.path()));
    let said = &finished.said;
    assert_eq!(finished.code, Some(0), "{said}");
    for expected in [
        "Every answer was 204",
        "uplink/home",
        "1000 readings still wait for the uplink",
        "1000 of 1000 readings arrived, in order, none missing, 0 repeated.",
    ] {
        assert!(said.contains(expected), "{expected} is missing from: {said}");
    }
    let left: Vec<_> = fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "it left files behind: {left:?}");
}

#[test]
fn the_example_that_pulls_the_link_fails_when_readings_are_lost() {
    let directory = Directory::new();
    let forgetful = directory.write("pannier", &forgetful_pannier(&binary::path().display()));
    fs::set_permissions(&forgetful, Permissions::from_mode(0o755)).unwrap();
    let mut command = example("pull-the-link/run");
    command.env("TMPDIR", directory.path()).env("PANNIER_BIN", &forgetful);
    let finished = binary::run_command(&mut command);
    assert_eq!(finished.code, Some(1), "{}", finished.said);
    let complaint = "FAILED: not all readings were there after kill -9";
    assert!(finished.said.contains(complaint), "{}", finished.said);
}

/// A script that deletes the data directory at each start but the first.
fn forgetful_pannier(pannier: &impl Display) -> String {
    format!(
        "#!/bin/sh\n\
         [ \"$1\" != run ] || [ ! -e \"$3\" ] || rm -r \"$3\"\n\
         exec '{pannier}' \"$@\"\n"
    )
}
