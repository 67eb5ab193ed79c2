//! The service manager is told when it is up, that it lives, and when it goes.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tests::{Device, Directory, PATIENCE};

/// Often enough that a test sees it twice.
const WATCHDOG_MICROSECONDS: &str = "100000";

fn next(manager: &UnixDatagram) -> String {
    let mut text = [0; 100];
    let length = manager.recv(&mut text).unwrap();
    String::from_utf8(text[..length].to_vec()).unwrap()
}

/// The texts up to that one, repeats left out.
fn until(manager: &UnixDatagram, last: &str) -> Vec<String> {
    let mut texts = vec![next(manager)];
    while texts.last().is_some_and(|text| text != last) {
        let text = next(manager);
        if texts.last() != Some(&text) {
            texts.push(text);
        }
    }
    texts
}

fn assert_is_told(manager: &UnixDatagram, name: &str) {
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut device = Device::new()
        .with_variable("NOTIFY_SOCKET", name)
        .with_variable("WATCHDOG_USEC", WATCHDOG_MICROSECONDS)
        .started();
    assert_eq!(next(manager), "READY=1");
    assert_eq!([next(manager), next(manager)], ["WATCHDOG=1", "WATCHDOG=1"]);
    assert_eq!(device.stop().code(), Some(0));
    assert!(until(manager, "STOPPING=1").iter().all(|text| text.ends_with("=1")));
}

#[test]
fn a_manager_behind_a_path_is_told_of_start_life_and_end() {
    let directory = Directory::new();
    let path = directory.path().join("notify");
    assert_is_told(&UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap());
}

#[test]
fn a_manager_behind_an_abstract_name_is_told_of_start_life_and_end() {
    let name = format!("pannier-tests-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    assert_is_told(&UnixDatagram::bind_addr(&address).unwrap(), &format!("@{name}"));
}

#[test]
fn without_a_watchdog_nothing_is_sent_between_start_and_end() {
    let directory = Directory::new();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut device = Device::new().with_variable("NOTIFY_SOCKET", path.to_str().unwrap()).started();
    assert_eq!(device.stop().code(), Some(0));
    assert_eq!(until(&manager, "STOPPING=1"), ["READY=1", "STOPPING=1"]);
}

#[test]
fn a_manager_that_is_not_there_holds_nothing_up() {
    let mut device = Device::new().with_variable("NOTIFY_SOCKET", "/nonexistent/notify").started();
    assert_eq!(device.stop().code(), Some(0));
}
