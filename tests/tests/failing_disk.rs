//! The disk fails under the running program: it stays up, says so, and loses nothing that it
//! acknowledged.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use tests::{Device, Directory, Shim, Volume, until};

const EIO: i32 = 5;
const EROFS: i32 = 30;

#[test]
fn after_a_failed_sync_it_takes_nothing_more_until_a_restart() {
    refuses_after("a failed sync", "fdatasync", EIO);
}

#[test]
fn after_a_failed_write_it_takes_nothing_more_until_a_restart() {
    refuses_after("a failed write", "pwrite", EIO);
}

#[test]
fn after_a_write_to_a_read_only_disk_it_takes_nothing_more_until_a_restart() {
    refuses_after("a write to a read-only disk", "pwrite", EROFS);
}

fn refuses_after(what: &str, call: &str, errno: i32) {
    let Some(shim) = Shim::new(what) else { return };
    let mut device = Device::new().with_shim(&shim).started();
    device.save("before", &json!(1));
    device.publish("t", &json!(1));
    shim.fail(call, errno);
    refuses(&device, "failed");
    // The disk works again, but nobody knows what it holds.
    shim.mend(call);
    refuses(&device, "failed");
    tells(&device);
    assert_eq!(device.stop().code(), Some(1));
    let log = device.log();
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("the store had stopped writing ("), "{log}");
    goes_on(&mut device);
    assert_eq!(device.stop().code(), Some(0));
}

#[test]
fn a_checkpoint_that_fails_ends_writing_without_anyone_having_written() {
    let Some(shim) = Shim::new("a checkpoint that fails") else { return };
    let limits =
        "apiVersion: pannier.dev/v1\nkind: Node\nspec: {limits: {checkpointInterval: 2s}}\n";
    let device = Device::new().with_resource("limits.yaml", limits);
    let mut device = device.with_shim(&shim).started();
    device.save("before", &json!(1));
    device.publish("t", &json!(1));
    shim.fail("fdatasync", EIO);
    tells(&device);
    shim.mend("fdatasync");
    refuses(&device, "failed");
    device.kill();
    goes_on(&mut device);
}

#[test]
fn a_last_checkpoint_that_fails_is_no_success() {
    let Some(shim) = Shim::new("a last checkpoint that fails") else { return };
    let mut device = Device::new().with_shim(&shim).started();
    device.save("before", &json!(1));
    device.publish("t", &json!(1));
    shim.fail("fdatasync", EIO);
    assert_eq!(device.stop().code(), Some(1));
    assert!(!device.log().contains("shutdown complete\n"), "{}", device.log());
    shim.mend("fdatasync");
    goes_on(&mut device);
}

#[test]
fn a_data_directory_that_is_taken_away_ends_writing_and_loses_nothing_that_is_there_again() {
    let directory = Directory::new();
    let mut device = Device::new().with_data_in(directory.path()).started();
    device.save("before", &json!(1));
    device.publish("t", &json!(1));
    let aside = directory.path().join("aside");
    std::fs::rename(device.data(), &aside).unwrap();
    let cause = until("the next write finds out", || {
        let answer = device.post("/v1.0/publish/pubsub/t", &json!(2));
        (answer.status == 503).then(|| answer.text())
    });
    assert!(cause.contains("was removed or moved: put it back"), "{cause}");
    assert!(cause.contains(&device.data().display().to_string()), "{cause}");
    assert_eq!(device.stop().code(), Some(1));
    assert!(device.log().contains("store refuses writes until it is restarted"));
    std::fs::rename(&aside, device.data()).unwrap();
    device.start();
    assert_eq!(device.get("/v1.0/state/statestore/before").json(), json!(1));
    device.publish("t", &json!(3));
    assert_eq!(device.stop().code(), Some(0));
}

#[test]
fn a_file_system_that_breaks_down_ends_writing_and_not_the_program() {
    let what = "a file system that becomes read-only";
    let Some(volume) = Volume::ext4(what, 64) else { return };
    let mut device = Device::new().with_data_in(&volume.path()).started();
    device.save("before", &json!(1));
    device.publish("t", &json!(1));
    volume.break_down();
    refuses(&device, "failed");
    tells(&device);
    device.kill();
    let (code, said) = device.start_in_vain();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}

#[test]
fn on_a_read_only_disk_it_says_so_and_ends() {
    let Some(volume) = Volume::in_memory("a read-only disk at the start", 64) else { return };
    let mut device = Device::new().with_data_in(&volume.path());
    volume.set_writable(false);
    let (code, said) = device.start_in_vain();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    volume.set_writable(true);
    device.start();
    device.save("before", &json!(1));
    device.publish("t", &json!(1));
    assert!(device.stop().success());
    volume.set_writable(false);
    let (code, said) = device.start_in_vain();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    volume.set_writable(true);
    goes_on(&mut device);
}

/// Each way of writing is refused with a clear word; reading goes on.
fn refuses(device: &Device, word: &str) {
    let saved = device.post("/v1.0/state/statestore", &json!([{ "key": "a", "value": 1 }]));
    assert_eq!(saved.status, 503, "{}", saved.text());
    assert!(saved.text().contains(word), "{}", saved.text());
    let published = device.post("/v1.0/publish/pubsub/t", &json!(2));
    assert_eq!(published.status, 503, "{}", published.text());
    assert!(published.text().contains(word), "{}", published.text());
    assert_eq!(device.get("/v1.0/state/statestore/before").json(), json!(1));
    assert_eq!(device.get("/v1.0/state/statestore/a").status, 204);
}

/// The status, the metrics and the log say that it does not write any more.
fn tells(device: &Device) {
    let cause = until("the status tells", || device.store().poisoned);
    assert!(!cause.is_empty());
    let health = device.get("/v1.0/healthz");
    assert_eq!(health.status, 500);
    assert!(health.text().contains("dapr is not ready: [store]"), "{}", health.text());
    let metrics = tests::http::Client::new(device.metrics_port());
    let metrics = { metrics }.send("GET", "/metrics", &[], &[]).unwrap().text();
    assert!(metrics.contains("pannier_store_poisoned 1"), "{metrics}");
    let told = until("the log tells", || {
        let told = device.log().matches("store refuses writes until it is restarted").count();
        (told > 0).then_some(told)
    });
    assert_eq!(told, 1);
}

/// Started again, it has what it acknowledged, and takes more.
fn goes_on(device: &mut Device) {
    device.start();
    assert_eq!(device.get("/v1.0/state/statestore/before").json(), json!(1));
    assert_eq!(device.store().poisoned, None);
    assert_eq!(device.get("/v1.0/healthz").status, 204);
    let last = device.stream("t").last_sequence;
    // What was refused may have reached the disk all the same; what was acknowledged must have.
    assert!((1..=2).contains(&last), "{last}");
    device.save("after", &json!(2));
    device.publish("t", &json!(3));
}
