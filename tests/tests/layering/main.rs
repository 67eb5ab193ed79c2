//! The crates depend on one another in one direction only, and so do the modules of a crate.
#![allow(clippy::unwrap_used)]

mod circles;
mod modules;
mod tokens;

use std::path::Path;
use std::process::Command;

use circles::Circle;
use modules::Modules;
use serde_json::Value;

/// A member of the workspace and the limits of its dependencies.
struct Layer {
    member: &'static str,
    /// Other members that it may depend on.
    members: &'static [&'static str],
    /// Crates that it must not depend on itself.
    never: &'static [&'static str],
}

/// From the bottom up.
const LAYERS: &[Layer] = &[
    Layer { member: "config", members: &[], never: &[] },
    Layer { member: "store-forward", members: &[], never: NOT_IN_THE_STORE },
    Layer { member: "components", members: &["config", "store-forward"], never: &[] },
    Layer { member: "blocks", members: &["components", "config"], never: NOT_IN_BLOCKS },
    Layer {
        member: "runtime",
        members: &["blocks", "components", "config", "store-forward"],
        never: &[],
    },
    Layer {
        member: "tests",
        members: &["blocks", "components", "config", "runtime", "store-forward"],
        never: &[],
    },
    Layer { member: "fuzz", members: &["tests"], never: &[] },
    Layer { member: "year-2040", members: &[], never: &[] },
];

/// The store serves any protocol and speaks none.
const NOT_IN_THE_STORE: &[&str] =
    &["axum", "cel", "http", "http-body-util", "hyper", "hyper-util", "rumqttc", "rustls"];

/// The building blocks are called over HTTP, gRPC and MQTT, and know none of them.
const NOT_IN_BLOCKS: &[&str] =
    &["axum", "http", "http-body-util", "hyper", "hyper-util", "rumqttc", "tonic", "tower"];

/// Members whose modules are not checked.
const WITH_CIRCLES: &[&str] = &["store-forward"];

/// The packages of the workspace, as `cargo metadata` describes them.
fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(metadata["packages"].take()).unwrap()
}

fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap()
}

/// Returns the edges that the layers don't allow. Dependencies of tests and build scripts count too.
fn forbidden_edges(packages: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for package in packages {
        let layer = LAYERS.iter().find(|layer| layer.member == name(package));
        let layer = layer.unwrap_or_else(|| panic!("{} has no place in LAYERS", name(package)));
        for dependency in package["dependencies"].as_array().unwrap().iter().map(name) {
            let is_member = packages.iter().any(|package| name(package) == dependency);
            let above = is_member && !layer.members.contains(&dependency);
            if above || layer.never.contains(&dependency) {
                found.push(format!("{} -> {dependency}", layer.member));
            }
        }
    }
    found
}

/// Returns the circles among the modules of a package's crates, apart from its tests.
fn circles_of(package: &Value) -> Vec<Circle> {
    let mut found = Vec::new();
    for target in package["targets"].as_array().unwrap() {
        if target["kind"][0] != "test" {
            let root = Path::new(target["src_path"].as_str().unwrap());
            found.extend(circles::find(name(target), &Modules::read(root).references()));
        }
    }
    found
}

#[test]
fn members_depend_on_those_below_them_alone() {
    let found = forbidden_edges(&packages());
    assert!(found.is_empty(), "these edges are forbidden: {found:#?}");
}

#[test]
fn a_forbidden_edge_is_named() {
    let package = |name: &str, dependencies: &[&str]| {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|name| serde_json::json!({ "name": name })).collect();
        serde_json::json!({ "name": name, "dependencies": dependencies })
    };
    let packages = [
        package("config", &["thiserror", "components"]),
        package("components", &["config", "store-forward"]),
        package("blocks", &["components", "hyper", "store-forward"]),
        package("store-forward", &["redb", "http"]),
        package("runtime", &["blocks", "hyper", "tests"]),
        package("tests", &["runtime"]),
    ];
    let expected = [
        "config -> components",
        "blocks -> hyper",
        "blocks -> store-forward",
        "store-forward -> http",
        "runtime -> tests",
    ];
    assert_eq!(forbidden_edges(&packages), expected);
}

#[test]
fn modules_form_no_circles() {
    let packages = packages();
    let layered = packages.iter().filter(|package| !WITH_CIRCLES.contains(&name(package)));
    let found: Vec<String> =
        layered.flat_map(circles_of).map(|circle| circle.to_string()).collect();
    assert!(found.is_empty(), "these modules form circles:\n{}", found.join("\n"));
}
