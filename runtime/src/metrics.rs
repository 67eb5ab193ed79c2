//! `/metrics`: Dapr's names where Dapr has one, ours beside them, as Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use store_forward::consumer::Deliveries;
use store_forward::store::ConsumerStatus;

use crate::admin::Control;
use crate::serve::{Connections, Counts};

/// Upper bounds of the latency histogram's buckets in milliseconds, as Dapr's.
const BUCKETS_MS: [u64; 12] = [1, 2, 3, 5, 10, 20, 50, 100, 250, 500, 1_000, 10_000];

/// Calls of the HTTP API, by app, method, route and status.
#[derive(Default)]
pub struct Calls {
    by_label: Mutex<BTreeMap<Label, Count>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Label {
    app: Arc<str>,
    method: &'static str,
    route: &'static str,
    status: u16,
}

#[derive(Default)]
struct Count {
    calls: u64,
    sum_ms: f64,
    buckets: [u64; BUCKETS_MS.len()],
}

/// What the middleware of one app needs.
#[derive(Clone)]
pub struct Observer {
    /// Where calls are counted.
    pub calls: Arc<Calls>,
    /// The app.
    pub app: Arc<str>,
    /// Whether each call is logged.
    pub log: bool,
}

/// Counts a call, and logs it where that is asked for.
pub async fn observe(State(observer): State<Observer>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method(request.method());
    let route = route(request.uri().path());
    let path = observer.log.then(|| request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let took = started.elapsed();
    if let Some(path) = path {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(app = &*observer.app, method, path, status, took_us, "HTTP API called");
    }
    observer.calls.count(Label { app: Arc::clone(&observer.app), method, route, status }, took);
    response
}

impl Calls {
    fn count(&self, label: Label, took: Duration) {
        let mut by_label = self.by_label.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_label.entry(label).or_default();
        let ms = took.as_secs_f64() * 1e3;
        count.calls += 1;
        count.sum_ms += ms;
        for (bucket, bound) in count.buckets.iter_mut().zip(BUCKETS_MS) {
            *bucket += u64::from(took <= Duration::from_millis(bound));
        }
    }

    fn render(&self, out: &mut String) {
        let by_label = self.by_label.lock().unwrap_or_else(PoisonError::into_inner);
        head(out, "dapr_http_server_request_count", "counter", "Calls of the HTTP API.");
        for (label, count) in by_label.iter() {
            let _ = writeln!(
                out,
                "dapr_http_server_request_count{{{}}} {}",
                labels(label),
                count.calls
            );
        }
        head(out, "dapr_http_server_latency", "histogram", "Milliseconds that calls took.");
        for (label, count) in by_label.iter() {
            let labels = labels(label);
            for (bound, calls) in BUCKETS_MS.iter().zip(count.buckets) {
                let _ = writeln!(
                    out,
                    "dapr_http_server_latency_bucket{{{labels},le=\"{bound}\"}} {calls}"
                );
            }
            let _ = writeln!(
                out,
                "dapr_http_server_latency_bucket{{{labels},le=\"+Inf\"}} {}",
                count.calls
            );
            let _ = writeln!(out, "dapr_http_server_latency_sum{{{labels}}} {:.3}", count.sum_ms);
            let _ = writeln!(out, "dapr_http_server_latency_count{{{labels}}} {}", count.calls);
        }
    }
}

/// What is served at the metrics port.
pub fn router(calls: Arc<Calls>, control: Control, connections: Arc<Connections>) -> Router {
    Router::new().route("/metrics", get(serve)).with_state((calls, control, connections))
}

type Served = (Arc<Calls>, Control, Arc<Connections>);

async fn serve(State((calls, control, connections)): State<Served>) -> Response {
    let mut out = String::new();
    calls.render(&mut out);
    render_connections(&mut out, connections.counts());
    if let Ok(status) = control.status() {
        render_status(&mut out, &status);
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], out).into_response()
}

fn render_connections(out: &mut String, counts: Counts) {
    let Counts { open, evicted, refused, slow, stalled } = counts;
    head(out, "pannier_connections", "gauge", "Clients' connections.");
    let _ = writeln!(out, "pannier_connections {open}");
    head(out, "pannier_connections_ended", "counter", "Connections that were closed, by reason.");
    let reasons =
        [("evicted", evicted), ("refused", refused), ("slow", slow), ("stalled", stalled)];
    for (reason, count) in reasons {
        let _ = writeln!(out, "pannier_connections_ended{{reason=\"{reason}\"}} {count}");
    }
}

fn render_status(out: &mut String, status: &crate::admin::Status) {
    let store = &status.store;
    head(out, "pannier_disk_bytes", "gauge", "Bytes on disk.");
    let _ = writeln!(out, "pannier_disk_bytes {}", store.disk_bytes);
    head(out, "pannier_disk_limit_bytes", "gauge", "Bytes on disk that the store may use.");
    let _ = writeln!(out, "pannier_disk_limit_bytes {}", status.disk_limit);
    head(out, "pannier_log_lines_lost", "counter", "Log lines that could not be written.");
    let _ = writeln!(out, "pannier_log_lines_lost {}", status.log_lines_lost);
    head(out, "pannier_store_poisoned", "gauge", "1 once the store refuses writes.");
    let _ = writeln!(out, "pannier_store_poisoned {}", u8::from(store.poisoned.is_some()));
    head(out, "pannier_stream_messages", "gauge", "Messages kept in a stream.");
    for stream in &store.streams {
        let labels = stream_labels(stream);
        let _ = writeln!(out, "pannier_stream_messages{{{labels}}} {}", stream.messages);
    }
    head(out, "pannier_stream_published", "counter", "Messages ever published to a stream.");
    for stream in &store.streams {
        let labels = stream_labels(stream);
        let _ = writeln!(out, "pannier_stream_published{{{labels}}} {}", stream.last_sequence);
    }
    head(out, "pannier_stream_lost", "counter", "Messages lost, by reason.");
    for stream in &store.streams {
        let labels = stream_labels(stream);
        let lost = stream.lost;
        for (reason, count) in [
            ("expired", lost.expired),
            ("overflowed", lost.overflowed),
            ("dropped", lost.dropped),
            ("unclaimed", lost.unclaimed),
            ("damaged", lost.damaged),
            ("too_large", lost.too_large),
        ] {
            let _ = writeln!(out, "pannier_stream_lost{{{labels},reason=\"{reason}\"}} {count}");
        }
    }
    head(out, "pannier_consumer_backlog", "gauge", "Messages that wait for a consumer.");
    for consumer in &store.consumers {
        let name = escape(&consumer.name);
        let _ =
            writeln!(out, "pannier_consumer_backlog{{consumer=\"{name}\"}} {}", consumer.backlog);
    }
    render_claims(out, &store.consumers);
    render_deliveries(out, &store.consumers);
    head(out, "pannier_uplink_connected", "gauge", "1 while an uplink is connected.");
    for uplink in &status.uplinks {
        let (name, connected) = (escape(&uplink.name), u8::from(uplink.connected));
        let _ = writeln!(out, "pannier_uplink_connected{{uplink=\"{name}\"}} {connected}");
    }
}

/// What waits for consumers that nobody configures, or that their filters no longer match.
fn render_claims(out: &mut String, consumers: &[ConsumerStatus]) {
    let help = "Messages kept for a consumer in topics that its filters no longer match.";
    head(out, "pannier_consumer_unmatched", "gauge", help);
    for ConsumerStatus { name, unmatched, .. } in consumers {
        let name = escape(name);
        let _ = writeln!(out, "pannier_consumer_unmatched{{consumer=\"{name}\"}} {unmatched}");
    }
    head(out, "pannier_consumer_inactive", "gauge", "1 while nobody names a consumer.");
    for ConsumerStatus { name, inactive, .. } in consumers {
        let (name, inactive) = (escape(name), u8::from(inactive.is_some()));
        let _ = writeln!(out, "pannier_consumer_inactive{{consumer=\"{name}\"}} {inactive}");
    }
}

fn render_deliveries(out: &mut String, consumers: &[ConsumerStatus]) {
    head(out, "pannier_consumer_held", "gauge", "Messages that the remote can't take for now.");
    for ConsumerStatus { name, held, .. } in consumers {
        let _ = writeln!(out, "pannier_consumer_held{{consumer=\"{}\"}} {held}", escape(name));
    }
    head(out, "pannier_deliveries", "counter", "Deliveries to a consumer, by outcome.");
    for ConsumerStatus { name, deliveries, .. } in consumers {
        let name = escape(name);
        let Deliveries { acknowledged, refused, rejected, held, unreachable } = deliveries;
        for (outcome, count) in [
            ("acknowledged", acknowledged),
            ("refused", refused),
            ("rejected", rejected),
            ("held", held),
            ("unreachable", unreachable),
        ] {
            let _ = writeln!(
                out,
                "pannier_deliveries{{consumer=\"{name}\",outcome=\"{outcome}\"}} {count}"
            );
        }
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn labels(label: &Label) -> String {
    let Label { app, method, route, status } = label;
    format!("app_id=\"{}\",method=\"{method}\",path=\"{route}\",status=\"{status}\"", escape(app))
}

fn stream_labels(stream: &store_forward::store::StreamStatus) -> String {
    format!("pubsub=\"{}\",topic=\"{}\"", escape(&stream.pubsub), escape(&stream.topic))
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A bounded set of names: paths hold keys and topics, which may be without number.
fn route(path: &str) -> &'static str {
    const ROUTES: [&str; 7] = [
        "/v1.0/state",
        "/v1.0/publish",
        "/v1.0-alpha1/publish",
        "/v1.0-alpha1/state",
        "/v1.0/healthz",
        "/v1.0/metadata",
        "/v1.0/shutdown",
    ];
    ROUTES.into_iter().find(|route| path.starts_with(route)).unwrap_or("other")
}

fn method(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}
