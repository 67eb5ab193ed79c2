//! A store that any released version wrote opens, and holds what that version put there.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use tests::golden::{STORES, describe, directory, unpack};
use tests::{App, Device, Directory};

fn versions() -> Vec<PathBuf> {
    let entries = fs::read_dir(directory()).unwrap();
    let mut versions: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    assert!(!versions.is_empty());
    versions
}

#[test]
fn the_store_of_each_version_says_what_it_said_then() {
    for version in versions() {
        for name in STORES {
            let dir = Directory::new();
            unpack(&fs::read(version.join(format!("{name}.store"))).unwrap(), dir.path());
            let expected = fs::read_to_string(version.join(format!("{name}.txt"))).unwrap();
            assert_eq!(describe(dir.path()), expected, "{} {name}", version.display());
            // And again, now that this version has written to it.
            assert!(describe(dir.path()).starts_with("node golden epoch"));
        }
    }
}

#[test]
fn the_program_goes_on_with_the_store_of_each_version() {
    for version in versions() {
        let app = App::start(json!([
            { "pubsubname": "pubsub", "topic": "orders", "route": "/orders", "deadLetterTopic": "dead" }
        ]));
        let mut device = Device::new().with_app(&app);
        fs::create_dir(device.data()).unwrap();
        unpack(&fs::read(version.join("killed.store")).unwrap(), device.data());
        device.start();
        assert_eq!(device.get("/v1.0/state/statestore/after").json(), json!("the checkpoint"));
        assert_eq!(device.get("/v1.0/state/statestore/changed").json(), json!("twice"));
        assert_eq!(device.get("/v1.0/state/statestore/deleted").status, 204);
        device.publish("orders", &json!("new"));
        let received = app.wait_for("/orders", 6);
        let data: Vec<_> = received.iter().map(|message| message.event["data"].clone()).collect();
        // A message of bytes has no `data`; what was acknowledged or had expired doesn't come.
        assert_eq!(data, [json!(6), json!(9), json!(10), json!(null), json!(13), json!("new")]);
        assert!(device.stop().success());
    }
}
