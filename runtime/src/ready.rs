//! What is told once the start is over: who is served by what. On a terminal it is a block to read,
//! elsewhere lines of the log with fields.

use std::fmt::Write;
use std::path::PathBuf;

use crate::admin::{ComponentStatus, Control};
use crate::text;

/// A process whose start is over.
#[derive(Debug)]
pub struct Ready {
    node: String,
    data_dir: PathBuf,
    apps: Vec<ReadyApp>,
    components: Vec<ComponentStatus>,
    uplinks: Vec<(String, String)>,
    consumers: u64,
    waiting: u64,
    disk_bytes: u64,
    disk_limit: u64,
    metrics: Vec<String>,
}

#[derive(Debug)]
struct ReadyApp {
    id: String,
    http: String,
    port: Option<u16>,
}

impl Ready {
    /// What `control` knows; `metrics` are served there. A store that can't be read counts as empty
    /// here: `pannier status` tells why.
    #[must_use]
    pub fn new(control: &Control, metrics: Vec<String>, data_dir: PathBuf) -> Self {
        let store = control.store.status();
        let consumers = store.as_ref().map(|store| store.consumers.as_slice()).unwrap_or_default();
        let uplinks = control.uplinks.iter().map(|uplink| uplink.snapshot());
        let apps = control.apps.iter().map(|app| ReadyApp {
            id: app.id.clone(),
            http: app.addresses.join(" "),
            port: app.channel.as_ref().map(|(_, port)| *port),
        });
        Self {
            node: control.store.identity().node.to_string(),
            data_dir,
            apps: apps.collect(),
            components: (*control.components).clone(),
            uplinks: uplinks.map(|uplink| (uplink.name, uplink.url)).collect(),
            consumers: consumers.len() as u64,
            waiting: consumers.iter().map(|consumer| consumer.backlog).sum(),
            disk_bytes: store.as_ref().map_or(0, |store| store.disk_bytes),
            disk_limit: control.disk_limit,
            metrics,
        }
    }

    /// Tells the log.
    pub fn log(&self) {
        for ComponentStatus { name, kind, durable } in &self.components {
            tracing::info!(component = name, r#type = kind, durable, "component is loaded");
        }
        for (uplink, broker) in &self.uplinks {
            tracing::info!(uplink, broker, "uplink is configured");
        }
        for ReadyApp { id, http, port } in &self.apps {
            tracing::info!(app = id, http, app_port = port, "app is served");
        }
        let http: Vec<&str> = self.apps.iter().map(|app| app.http.as_str()).collect();
        tracing::info!(
            consumers = self.consumers,
            waiting = self.waiting,
            disk = text::bytes(self.disk_bytes),
            disk_limit = text::bytes(self.disk_limit),
            metrics = self.metrics.join(" "),
            http = http.join(" "),
            "pannier is ready"
        );
    }

    /// A block for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let version = env!("CARGO_PKG_VERSION");
        let dir = self.data_dir.display();
        let _ = writeln!(out, "\npannier {version} is ready; Ctrl-C ends it\n");
        for ReadyApp { id, http, port } in &self.apps {
            let called = port.map_or_else(String::new, |port| format!(", calls port {port}"));
            row(&mut out, "app", &format!("{id}: {http}{called}"));
        }
        for ComponentStatus { name, kind, durable } in &self.components {
            let kept = if *durable { "" } else { ", in memory only" };
            row(&mut out, "component", &format!("{name}: {kind}{kept}"));
        }
        for (name, broker) in &self.uplinks {
            row(&mut out, "uplink", &format!("{name}: to {broker}"));
        }
        row(&mut out, "waiting", &self.backlog());
        let (used, limit) = (text::bytes(self.disk_bytes), text::bytes(self.disk_limit));
        row(&mut out, "disk", &format!("{used} of {limit}, in {dir}"));
        let metrics = if self.metrics.is_empty() { "off".into() } else { self.metrics.join(" ") };
        row(&mut out, "metrics", &metrics);
        row(&mut out, "node", &self.node);
        let _ = writeln!(out);
        out
    }
}

impl Ready {
    fn backlog(&self) -> String {
        if self.consumers == 0 {
            return "nothing yet: no app or uplink has subscribed".into();
        }
        let waiting = text::count(self.waiting, "message", "messages");
        format!("{waiting} for {}", text::count(self.consumers, "consumer", "consumers"))
    }
}

fn row(out: &mut String, head: &str, value: &str) {
    let _ = writeln!(out, "  {head:<10} {}", text::escape(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_shown_who_is_served_by_what() {
        let component = |name: &str, kind: &str, durable| ComponentStatus {
            name: name.into(),
            kind: kind.into(),
            durable,
        };
        let ready = Ready {
            node: "n".into(),
            data_dir: "/data".into(),
            apps: vec![ReadyApp {
                id: "shop".into(),
                http: "http://127.0.0.1:3500".into(),
                port: Some(8080),
            }],
            components: vec![
                component("pubsub", "pubsub.redb", true),
                component("cache", "state.in-memory", false),
            ],
            uplinks: vec![("home".into(), "broker\u{1b}:1883".into())],
            consumers: 2,
            waiting: 1,
            disk_bytes: 20_480,
            disk_limit: 1 << 30,
            metrics: Vec::new(),
        };
        let expected = format!(
            "\npannier {} is ready; Ctrl-C ends it\n
  app        shop: http://127.0.0.1:3500, calls port 8080
  component  pubsub: pubsub.redb
  component  cache: state.in-memory, in memory only
  uplink     home: to broker\\u{{1b}}:1883
  waiting    1 message for 2 consumers
  disk       20 KiB of 1 GiB, in /data
  metrics    off
  node       n\n\n",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(ready.text(), expected);
    }
}
