//! Where the log can't be written, the program goes on, counts what is lost, and tells of it.
#![allow(clippy::unwrap_used)]

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, pipe};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::ioctl_fionbio;
use serde_json::json;
use tests::{Device, Directory, binary, until};

/// Calls whose log lines fill a pipe and all the room before it.
const MANY_CALLS: usize = 1500;

fn logging_calls(stderr: &Path) -> Device {
    Device::new().with_stderr(stderr).with_flags(&["--enable-api-logging"])
}

fn make_pipe(directory: &Directory) -> PathBuf {
    let path = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// Both ends, so that neither waits for the other to be opened.
fn open_both_ends(pipe: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(pipe).unwrap()
}

fn lost_lines(device: &Device) -> u64 {
    device.status().log_lines_lost
}

/// Serves, says that it loses lines, and ends as asked.
fn goes_on_without_its_log(mut device: Device) {
    (0..20).for_each(|n| device.publish("t", &json!(n)));
    until("lost lines are counted", || Some(()).filter(|()| lost_lines(&device) >= 20));
    assert!(device.metric("pannier_log_lines_lost") >= 20);
    assert_eq!(device.stop().code(), Some(0));
}

/// Calls whose lines are about 400 bytes long.
fn call_often(device: &Device) {
    let path = format!("/v1.0/state/statestore/{}", "k".repeat(250));
    let mut client = device.client();
    for _ in 0..MANY_CALLS {
        assert_eq!(client.send("GET", &path, &[], &[]).unwrap().status, 204);
    }
}

#[test]
fn a_log_on_a_full_device_ends_nothing() {
    goes_on_without_its_log(logging_calls(Path::new("/dev/full")).started());
}

#[test]
fn a_log_whose_reader_has_gone_ends_nothing() {
    let directory = Directory::new();
    let pipe = make_pipe(&directory);
    let reader = open_both_ends(&pipe);
    let device = logging_calls(&pipe).started();
    drop(reader);
    goes_on_without_its_log(device);
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_neither_calls_nor_the_end() {
    let directory = Directory::new();
    let pipe = make_pipe(&directory);
    let _reader = open_both_ends(&pipe);
    let mut device = logging_calls(&pipe).started();
    call_often(&device);
    assert!(lost_lines(&device) > 0);
    assert_eq!(device.stop().code(), Some(0));
}

#[test]
fn lost_lines_are_told_of_once_the_log_can_be_written_again() {
    let directory = Directory::new();
    let pipe = make_pipe(&directory);
    let mut reader = open_both_ends(&pipe);
    let device = logging_calls(&pipe).started();
    call_often(&device);
    let lost = lost_lines(&device);
    assert!(lost > 0);
    ioctl_fionbio(&reader, true).unwrap();
    let mut log = String::new();
    until("lost lines are told of", || {
        read_more(&mut reader, &mut log);
        (told(&log) >= lost).then_some(())
    });
    assert_eq!(told(&log), lost, "{log}");
    device.save("after", &json!(1));
    assert_eq!(device.get("/v1.0/state/statestore/after").json(), json!(1));
    until("the log goes on", || {
        read_more(&mut reader, &mut log);
        log.contains("/after").then_some(())
    });
    assert_eq!(lost_lines(&device), lost);
}

/// Reads what is there.
fn read_more(reader: &mut File, log: &mut String) {
    let mut piece = vec![0; 64 << 10];
    match reader.read(&mut piece) {
        Ok(read) => log.push_str(&String::from_utf8_lossy(&piece[..read])),
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
}

/// Lost lines that the whole lines of the log tell of.
fn told(log: &str) -> u64 {
    let whole = &log[..log.rfind('\n').unwrap_or(0)];
    let counts = whole.lines().filter_map(|line| line.split("log lines were lost lines=").nth(1));
    counts.map(|count| count.trim().parse::<u64>().unwrap()).sum()
}

#[test]
fn the_reason_of_a_failed_start_is_written_after_the_log_before_it() {
    let mut device = Device::new().with_resource("wrong.yaml", "kind: [");
    let (code, said) = device.start_in_vain();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("wrong.yaml"), "{said}");
    let mut device = device.with_stderr(Path::new("/dev/full"));
    assert_eq!(device.start_in_vain().0, Some(78));
}

#[test]
fn commands_end_quietly_when_their_reader_has_seen_enough() {
    let device = Device::new().started();
    let data = device.data().display().to_string();
    for arguments in [
        &["status", "--data-dir", &data][..],
        &["status", "--json", "--data-dir", &data],
        &["--help"],
        &["run", "--help"],
    ] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let ended = Command::new(binary::path()).args(arguments).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*said), (Some(0), ""), "{arguments:?}");
    }
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mistyped = Command::new(binary::path()).arg("statsu").stderr(writer).output().unwrap();
    assert_eq!(mistyped.status.code(), Some(2));
}

#[test]
fn commands_say_that_a_full_device_does_not_take_what_they_print() {
    let device = Device::new().started();
    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    let mut status = Command::new(binary::path());
    status.args(["status", "--data-dir"]).arg(device.data());
    let ended = status.stdout(full()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("standard output can't be written: No space left"), "{said}");
    assert_eq!(status.stdout(full()).stderr(full()).output().unwrap().status.code(), Some(1));
}
