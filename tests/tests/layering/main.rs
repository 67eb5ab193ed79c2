//! The crates depend on one another in one direction only.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Each member, and the members it may depend on.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("config", &[]),
    ("store-forward", &[]),
    ("components", &["config", "store-forward"]),
    ("runtime", &["components", "config", "store-forward"]),
    ("tests", &["components", "config", "runtime", "store-forward"]),
    ("fuzz", &["tests"]),
    ("year-2040", &[]),
];

/// What the durable memory knows nothing of.
const NOT_IN_THE_STORE: [&str; 8] =
    ["axum", "hyper", "hyper-util", "http", "http-body-util", "rumqttc", "rustls", "cel"];

/// All dependencies of each member, for building and for testing.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            (name(package), dependencies.iter().map(name).collect())
        })
        .collect()
}

#[test]
fn members_depend_on_those_below_them_alone() {
    let dependencies = dependencies();
    let members: Vec<&str> = dependencies.keys().map(String::as_str).collect();
    for (member, dependencies) in &dependencies {
        let allowed = ALLOWED.iter().find(|(name, _)| name == member);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{member} has no place in the layers"));
        for dependency in dependencies.iter().filter(|name| members.contains(&name.as_str())) {
            assert!(allowed.contains(&dependency.as_str()), "{member} depends on {dependency}");
        }
    }
}

#[test]
fn the_store_knows_neither_http_nor_mqtt() {
    let dependencies = dependencies();
    for name in NOT_IN_THE_STORE {
        assert!(!dependencies["store-forward"].iter().any(|known| known == name), "{name}");
    }
}
