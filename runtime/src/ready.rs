//! The summary at the end of the start: the served apps, components and uplinks. A block of text on a
//! terminal, elsewhere lines of the log with fields.

use std::fmt::Write;
use std::path::PathBuf;

use store_forward::Store;

use crate::admin::{ComponentStatus, Control};
use crate::text;

/// A process whose start is over.
#[derive(Debug)]
pub struct Ready {
    apps: Vec<ReadyApp>,
    components: Vec<ComponentStatus>,
    uplinks: Vec<ReadyUplink>,
    store: Option<ReadyStore>,
    metrics: Vec<String>,
}

#[derive(Debug)]
struct ReadyApp {
    id: String,
    http: String,
    port: Option<u16>,
}

#[derive(Debug)]
struct ReadyUplink {
    name: String,
    broker: String,
}

#[derive(Debug)]
struct ReadyStore {
    node: String,
    data_dir: PathBuf,
    consumers: u64,
    waiting: u64,
    disk_bytes: u64,
    disk_limit: u64,
}

impl Ready {
    /// Collects the parts of `control`; `metrics` are the addresses at which metrics are served. A
    /// store that can't be read counts as empty here: `pannier status` shows the error.
    #[must_use]
    pub fn new(control: &Control, metrics: Vec<String>, data_dir: PathBuf) -> Self {
        let apps = control.apps.iter().map(|app| ReadyApp {
            id: app.id.clone(),
            http: app.addresses.join(" "),
            port: app.called.as_ref().map(|(_, port)| *port),
        });
        let uplinks = control.uplinks.iter().map(|uplink| {
            let status = uplink.snapshot();
            ReadyUplink { name: status.name, broker: status.url }
        });
        let store = control.store.as_ref();
        Self {
            apps: apps.collect(),
            components: (*control.components).clone(),
            uplinks: uplinks.collect(),
            store: store.map(|store| ReadyStore::new(store, control.disk_limit, data_dir)),
            metrics,
        }
    }

    /// Writes a line to the log for each component, uplink and app, and one for the whole.
    pub fn log(&self) {
        for ComponentStatus { name, kind, durable } in &self.components {
            tracing::info!(component = name, r#type = kind, durable, "component is loaded");
        }
        for ReadyUplink { name, broker } in &self.uplinks {
            tracing::info!(uplink = name, broker, "uplink is configured");
        }
        for ReadyApp { id, http, port } in &self.apps {
            tracing::info!(app = id, http, app_port = port, "app is served");
        }
        let store = self.store.as_ref();
        let http: Vec<&str> = self.apps.iter().map(|app| app.http.as_str()).collect();
        tracing::info!(
            consumers = store.map(|store| store.consumers),
            waiting = store.map(|store| store.waiting),
            disk = store.map(|store| text::bytes(store.disk_bytes)),
            disk_limit = store.map(|store| text::bytes(store.disk_limit)),
            metrics = self.metrics.join(" "),
            http = http.join(" "),
            "pannier is ready"
        );
    }

    /// Renders the block for a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let version = env!("CARGO_PKG_VERSION");
        let _ = writeln!(out, "\npannier {version} is ready; Ctrl-C ends it\n");
        for ReadyApp { id, http, port } in &self.apps {
            let called = port.map_or_else(String::new, |port| format!(", calls port {port}"));
            row(&mut out, "app", &format!("{id}: {http}{called}"));
        }
        for ComponentStatus { name, kind, durable } in &self.components {
            let kept = if *durable { "" } else { ", in memory only" };
            row(&mut out, "component", &format!("{name}: {kind}{kept}"));
        }
        for ReadyUplink { name, broker } in &self.uplinks {
            row(&mut out, "uplink", &format!("{name}: to {broker}"));
        }
        if let Some(store) = &self.store {
            row(&mut out, "waiting", &store.backlog());
            row(&mut out, "disk", &store.disk());
        }
        let metrics = if self.metrics.is_empty() { "off".into() } else { self.metrics.join(" ") };
        row(&mut out, "metrics", &metrics);
        if let Some(store) = &self.store {
            row(&mut out, "node", &store.node);
        }
        let _ = writeln!(out);
        out
    }
}

impl ReadyStore {
    fn new(store: &Store, disk_limit: u64, data_dir: PathBuf) -> Self {
        let status = store.status().unwrap_or_default();
        Self {
            node: store.identity().node.to_string(),
            data_dir,
            consumers: status.consumers.len() as u64,
            waiting: status.consumers.iter().map(|consumer| consumer.backlog).sum(),
            disk_bytes: status.disk_bytes,
            disk_limit,
        }
    }

    fn backlog(&self) -> String {
        if self.consumers == 0 {
            return "nothing yet: no app or uplink has subscribed".into();
        }
        let waiting = text::count(self.waiting, "message", "messages");
        format!("{waiting} for {}", text::count(self.consumers, "consumer", "consumers"))
    }

    fn disk(&self) -> String {
        let used = text::bytes(self.disk_bytes);
        let limit = text::bytes(self.disk_limit);
        format!("{used} of {limit}, in {}", self.data_dir.display())
    }
}

fn row(out: &mut String, head: &str, value: &str) {
    let _ = writeln!(out, "  {head:<10} {}", text::escape(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_for_a_terminal_shows_all_that_is_served() {
        let component = |name: &str, kind: &str, durable| ComponentStatus {
            name: name.into(),
            kind: kind.into(),
            durable,
        };
        let ready = Ready {
            apps: vec![ReadyApp {
                id: "shop".into(),
                http: "http://127.0.0.1:3500".into(),
                port: Some(8080),
            }],
            components: vec![
                component("pubsub", "pubsub.redb", true),
                component("cache", "state.in-memory", false),
            ],
            uplinks: vec![ReadyUplink { name: "home".into(), broker: "broker\u{1b}:1883".into() }],
            store: Some(ReadyStore {
                node: "n".into(),
                data_dir: "/data".into(),
                consumers: 2,
                waiting: 1,
                disk_bytes: 20_480,
                disk_limit: 1 << 30,
            }),
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
