//! The files of the store are damaged while the program is down: it starts with what is left and
//! says what is not, or refuses with a clear word. It deletes nothing that it can't read.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use tests::{Device, until};

/// Small segments, and a checkpoint only at the end.
const LIMITS: &str = "apiVersion: pannier.dev/v1\nkind: Node\nspec:\n  limits:\n    \
    journalSegment: 128Ki\n    checkpointBytes: 64Mi\n    checkpointInterval: 1h\n";

/// Messages that fill several segments.
const MESSAGES: u32 = 200;

/// A device that was killed with everything still in its journal.
fn killed() -> Device {
    let mut device = Device::new()
        .with_flags(&["--max-body-size", "65536"])
        .with_resource("limits.yaml", LIMITS)
        .started();
    for number in 0..MESSAGES {
        device.publish("t", &json!([number, "x".repeat(2000)]));
    }
    device.save("last", &json!(MESSAGES));
    device.kill();
    device
}

fn segments(device: &Device) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = files(device.data(), "journal-");
    names.sort();
    names
}

fn files(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).collect()
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn flip(path: &Path, at: u64, bytes: usize) {
    let file = open(path);
    let mut damaged = vec![0; bytes];
    file.read_exact_at(&mut damaged, at).unwrap();
    damaged.iter_mut().for_each(|byte| *byte ^= 0x5a);
    file.write_all_at(&damaged, at).unwrap();
}

fn epoch(device: &Device) -> u32 {
    device.store().epoch
}

fn messages(device: &Device) -> u64 {
    device.stream("t").messages
}

#[test]
fn flipped_bits_cost_the_record_they_are_in_and_are_kept_and_told() {
    let mut device = killed();
    let before = fs::read(&segments(&device)[1]).unwrap();
    flip(&segments(&device)[1], 50_000, 3);
    device.start();
    let lost = told(&device);
    assert_eq!(messages(&device), u64::from(MESSAGES) - lost);
    assert!((1..5).contains(&lost), "{lost}");
    assert_eq!(device.get("/v1.0/state/statestore/last").json(), MESSAGES);
    let aside = files(device.data(), "damaged-");
    let damaged = fs::read(&aside[0]).unwrap();
    assert!(damaged.len() >= 2000 && before.len() > damaged.len(), "{}", damaged.len());
    // It goes on, and forgets neither the file nor what it could save.
    device.publish("t", &json!("more"));
    assert!(device.stop().success());
    device.start();
    assert_eq!(messages(&device), u64::from(MESSAGES) - lost + 1);
    assert_eq!(files(device.data(), "damaged-"), aside);
}

#[test]
fn a_segment_that_is_cut_short_costs_what_was_cut_off() {
    let mut device = killed();
    open(&segments(&device)[1]).set_len(30_000).unwrap();
    device.start();
    let lost = told(&device);
    assert!((1..100).contains(&lost), "{lost}");
    assert_eq!(messages(&device), u64::from(MESSAGES) - lost);
    assert_eq!(device.get("/v1.0/state/statestore/last").json(), MESSAGES);
}

#[test]
fn a_segment_that_is_missing_costs_what_was_in_it() {
    let mut device = killed();
    fs::remove_file(&segments(&device)[1]).unwrap();
    device.start();
    let lost = told(&device);
    assert!((1..100).contains(&lost), "{lost}");
    assert_eq!(messages(&device), u64::from(MESSAGES) - lost);
    assert_eq!(device.get("/v1.0/state/statestore/last").json(), MESSAGES);
}

/// The log and the status tell how many records are lost.
fn told(device: &Device) -> u64 {
    until("the log tells", || Some(()).filter(|()| device.log().contains("journal is damaged")));
    let damage = device.store().damage;
    assert_eq!(damage.len(), 1, "{damage:?}");
    damage[0].to_lsn.unwrap() - damage[0].from_lsn + 1
}

/// What was lost had sequences that the far side may know: those that are given now are others.
#[test]
fn after_records_are_lost_sequences_belong_to_a_new_epoch() {
    let mut device = Device::new()
        .with_flags(&["--max-body-size", "65536"])
        .with_resource("limits.yaml", LIMITS)
        .started();
    let before = epoch(&device);
    for number in 0..MESSAGES {
        device.publish("t", &json!([number, "x".repeat(2000)]));
    }
    device.kill();
    flip(&segments(&device)[0], 50_000, 3);
    device.start();
    let after = epoch(&device);
    assert_ne!(before, after);
    device.kill();
    device.start();
    assert_eq!(epoch(&device), after);
}

/// A device whose journal does not reach back to its first record.
fn aged() -> Device {
    let mut device = killed();
    for _ in 0..3 {
        device.start();
        (0..MESSAGES).for_each(|number| device.publish("t", &json!([number, "x".repeat(2000)])));
        assert!(device.stop().success());
    }
    device.start();
    device.publish("t", &json!("last"));
    device.kill();
    device
}

#[test]
fn tables_that_are_no_tables_are_refused_and_left_alone() {
    let mut device = aged();
    let kept = messages_at_a_start(&mut device);
    let tables = device.data().join("tables.redb");
    let whole = fs::read(&tables).unwrap();
    let garbage: Vec<u8> = (0..=250).cycle().take(whole.len()).collect();
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("garbage", garbage),
        ("zeros", vec![0; whole.len()]),
        ("a half", whole[..whole.len() / 2].to_vec()),
        ("a page", whole[..4096].to_vec()),
        ("a header", whole[..64].to_vec()),
    ] {
        fs::write(&tables, &bytes).unwrap();
        let journal = contents(&device);
        let (code, said) = device.start_in_vain();
        assert_eq!(code, Some(1), "{what}: {said}");
        assert!(said.contains("the store's tables "), "{what}: {said}");
        assert!(said.contains("restore the data directory from a copy"), "{what}: {said}");
        assert!(!said.contains("panicked"), "{what}: {said}");
        assert!(contents(&device) == journal, "{what}: the journal was changed");
        assert!(fs::metadata(&tables).unwrap().len() >= bytes.len() as u64, "{what} was cut");
    }
    fs::remove_file(&tables).unwrap();
    let (code, said) = device.start_in_vain();
    assert_eq!(code, Some(1), "{said}");
    fs::write(&tables, &whole).unwrap();
    assert_eq!(messages_at_a_start(&mut device), kept);
}

fn messages_at_a_start(device: &mut Device) -> u64 {
    device.start();
    let messages = messages(device);
    device.kill();
    messages
}

fn contents(device: &Device) -> Vec<Vec<u8>> {
    segments(device).iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A page has its checksum where it is pointed at, which is looked at only after a crash: what is
/// flipped may be free, or within a value. All else is noticed when it is read.
#[test]
fn flipped_pages_of_the_tables_end_it_with_a_clear_word_at_worst() {
    let mut device = killed();
    device.start();
    assert!(device.stop().success());
    let tables = device.data().join("tables.redb");
    let whole = fs::read(&tables).unwrap();
    let (mut ended, mut served) = (0, 0);
    for page in (0..whole.len() as u64 / 4096).step_by(whole.len() / 4096 / 24) {
        fs::write(&tables, &whole).unwrap();
        flip(&tables, page * 4096, 64);
        let before = device.log().len();
        if use_all(&mut device) {
            served += 1;
            continue;
        }
        ended += 1;
        let said = device.log().split_off(before);
        assert!(said.contains("the store's tables "), "page {page}: {said}");
        assert!(said.contains("restore the data directory from a copy"), "page {page}: {said}");
    }
    assert!(ended > 0 && served > 0, "{ended} ended, {served} served");
    fs::write(&tables, &whole).unwrap();
    assert!(use_all(&mut device));
}

/// Starts it, uses what there is in the store, and ends it; says whether it stood all that.
fn use_all(device: &mut Device) -> bool {
    if !device.try_to_start() {
        return false;
    }
    let json = [("content-type", "application/json")];
    let items = json!([{ "key": "new", "value": 1 }]).to_string();
    let mut stood = true;
    for (method, path, body) in [
        ("GET", "/v1.0/state/statestore/last", ""),
        ("POST", "/v1.0/state/statestore", &items),
        ("POST", "/v1.0/publish/pubsub/t", "1"),
    ] {
        stood &= device.send(method, path, &json, body.as_bytes()).is_ok();
    }
    let ended = if stood { device.stop() } else { device.wait() };
    ended.success()
}
