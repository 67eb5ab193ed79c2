//! What a person sees on a terminal.
#![allow(clippy::unwrap_used)]

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::PathBuf;
use std::process::Command;

use rustix::io::ioctl_fionbio;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;
use tests::{App, Device, binary, until};

/// A terminal, and how a program opens it.
struct Terminal {
    screen: File,
    path: PathBuf,
}

impl Terminal {
    fn new(columns: u16) -> Self {
        let screen =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&screen, size).unwrap();
        ioctl_fionbio(&screen, true).unwrap();
        let path = ptsname(&screen, Vec::new()).unwrap().into_string().unwrap().into();
        Self { screen: screen.into(), path }
    }

    fn open(&self) -> File {
        OpenOptions::new().read(true).write(true).open(&self.path).unwrap()
    }

    /// What is shown, with that text in it.
    fn shown_with(&mut self, text: &str) -> String {
        let (mut shown, mut piece) = (String::new(), [0; 4096]);
        until(&format!("the terminal shows {text:?}"), || {
            match self.screen.read(&mut piece) {
                Ok(read) => shown.push_str(&String::from_utf8_lossy(&piece[..read])),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            shown.contains(text).then_some(())
        });
        shown.replace("\r\n", "\n")
    }
}

#[test]
fn once_it_is_ready_a_terminal_shows_who_is_served_by_what() {
    let mut terminal = Terminal::new(80);
    let cache = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: cache}\nspec: \
                 {type: state.in-memory, version: v1}\n";
    let app = App::start(json!([]));
    let device = Device::new().with_app(&app).with_resource("cache.yaml", cache);
    let device = device.with_stderr(&terminal.path).started();
    let shown = terminal.shown_with("  node ");
    let rows = [
        format!(
            "app        tester: http://127.0.0.1:{}, calls port {}\n",
            device.http_port(),
            app.port()
        ),
        "component  cache: state.in-memory, in memory only\n".to_owned(),
        "component  pubsub: pubsub.redb\n".to_owned(),
        format!("metrics    http://127.0.0.1:{}/metrics\n", device.metrics_port()),
        format!(" of 1 GiB, in {}\n", device.data().display()),
    ];
    for row in rows {
        assert!(shown.contains(&row), "{row:?} is not in:\n{shown}");
    }
}

#[test]
fn a_terminal_that_is_gone_ends_nothing() {
    let terminal = Terminal::new(80);
    let mut device = Device::new().with_stderr(&terminal.path).started();
    drop(terminal);
    device.save("a", &json!(1));
    assert_eq!(device.stop().code(), Some(0));
}

#[test]
fn the_status_fits_into_the_terminal() {
    let mut terminal = Terminal::new(40);
    let device = Device::new().started();
    device.publish(&"x".repeat(100), &json!(1));
    let mut status = Command::new(binary::path());
    status.args(["status", "--data-dir"]).arg(device.data()).env_remove("COLUMNS");
    let slave = terminal.open();
    assert!(status.stdout(slave).status().unwrap().success());
    let shown = terminal.shown_with("pubsub/x");
    assert!(shown.starts_with("no problems\n"), "{shown}");
    assert!(shown.contains("x…  1 "), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 40), "{shown}");
}
