//! `/metrics` as Prometheus text: Dapr's names for metrics that Dapr has too, `pannier_` for the others.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use store_forward::consumer::Deliveries;
use store_forward::store::{self, ConsumerStatus, StreamStatus};

use crate::admin::{Control, Status};
use crate::serve::{Connections, Counts};

/// Upper bounds of the latency histogram's buckets in milliseconds, as Dapr's.
const BUCKETS_MS: [u64; 12] = [1, 2, 3, 5, 10, 20, 50, 100, 250, 500, 1_000, 10_000];

/// Counts of the calls of the HTTP API, by app, method, route and status.
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
    /// Calls that took no longer than each of [`BUCKETS_MS`].
    buckets: [u64; BUCKETS_MS.len()],
}

/// The observer of the calls of one app.
#[derive(Clone)]
pub struct Observer {
    /// The counts to add to.
    pub calls: Arc<Calls>,
    /// The app.
    pub app: Arc<str>,
    /// True if each call is logged.
    pub log: bool,
}

/// A call that isn't answered yet. One whose client leaves before is not counted.
pub struct Observation {
    observer: Observer,
    started: Instant,
    method: &'static str,
    route: &'static str,
    /// The path, if the call is logged.
    path: Option<String>,
}

impl Observer {
    /// Begins to observe a call; `route` is the label of its path.
    pub fn begin<B>(&self, request: &Request<B>, route: &'static str) -> Observation {
        Observation {
            observer: self.clone(),
            started: Instant::now(),
            method: method(request.method()),
            route,
            path: self.log.then(|| request.uri().path().to_owned()),
        }
    }
}

impl Observation {
    /// Counts the call, and logs it if the observer says so.
    pub fn end(self, status: StatusCode) {
        let Self { observer: Observer { calls, app, .. }, started, method, route, path } = self;
        let status = status.as_u16();
        let took = started.elapsed();
        if let Some(path) = path {
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            tracing::info!(app = &*app, method, path, status, took_us, "HTTP API called");
        }
        calls.count(Label { app, method, route, status }, took);
    }
}

impl Calls {
    fn count(&self, label: Label, took: Duration) {
        let mut by_label = self.by_label.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_label.entry(label).or_default();
        count.calls += 1;
        count.sum_ms += took.as_secs_f64() * 1e3;
        for (bucket, bound) in count.buckets.iter_mut().zip(BUCKETS_MS) {
            *bucket += u64::from(took <= Duration::from_millis(bound));
        }
    }
}

/// The sources of the metrics.
#[derive(Clone)]
struct Sources {
    calls: Arc<Calls>,
    control: Control,
    connections: Arc<Connections>,
}

/// Returns the routes of the metrics port.
pub fn router(calls: Arc<Calls>, control: Control, connections: Arc<Connections>) -> Router {
    let sources = Sources { calls, control, connections };
    Router::new().route("/metrics", get(serve)).with_state(sources)
}

async fn serve(State(sources): State<Sources>) -> Response {
    let mut page = Page::default();
    render_calls(&mut page, &sources.calls);
    render_connections(&mut page, sources.connections.counts());
    if let Ok(status) = sources.control.status() {
        render_status(&mut page, &status);
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], page.0).into_response()
}

fn render_calls(page: &mut Page, calls: &Calls) {
    let by_label = calls.by_label.lock().unwrap_or_else(PoisonError::into_inner);
    page.head("dapr_http_server_request_count", "counter", "Calls of the HTTP API.");
    for (label, count) in by_label.iter() {
        page.sample("dapr_http_server_request_count", &call_labels(label), count.calls);
    }
    page.head("dapr_http_server_latency", "histogram", "Milliseconds that calls took.");
    for (label, count) in by_label.iter() {
        let labels = call_labels(label);
        for (bound, calls) in BUCKETS_MS.iter().zip(count.buckets) {
            let labels = format!("{labels},le=\"{bound}\"");
            page.sample("dapr_http_server_latency_bucket", &labels, calls);
        }
        let all = format!("{labels},le=\"+Inf\"");
        page.sample("dapr_http_server_latency_bucket", &all, count.calls);
        let sum = format_args!("{:.3}", count.sum_ms);
        page.sample("dapr_http_server_latency_sum", &labels, sum);
        page.sample("dapr_http_server_latency_count", &labels, count.calls);
    }
}

fn call_labels(label: &Label) -> String {
    let Label { app, method, route, status } = label;
    format!("app_id=\"{}\",method=\"{method}\",path=\"{route}\",status=\"{status}\"", escape(app))
}

fn render_connections(page: &mut Page, counts: Counts) {
    let Counts { open, evicted, refused, slow, stalled } = counts;
    page.gauge("pannier_connections", "Clients' connections.", open);
    let name = "pannier_connections_ended";
    page.head(name, "counter", "Connections that were closed, by reason.");
    page.sample(name, "reason=\"evicted\"", evicted);
    page.sample(name, "reason=\"refused\"", refused);
    page.sample(name, "reason=\"slow\"", slow);
    page.sample(name, "reason=\"stalled\"", stalled);
}

fn render_status(page: &mut Page, status: &Status) {
    let lines = "Log lines that could not be written.";
    page.head("pannier_log_lines_lost", "counter", lines);
    page.sample("pannier_log_lines_lost", "", status.log_lines_lost);
    if let Some(limit) = status.disk_limit {
        let help = "Bytes on disk that the store may use.";
        page.gauge("pannier_disk_limit_bytes", help, limit);
    }
    if let Some(store) = &status.store {
        let poisoned = u8::from(store.poisoned.is_some());
        page.gauge("pannier_disk_bytes", "Bytes on disk.", store.disk_bytes);
        page.gauge("pannier_store_poisoned", "1 once the store refuses writes.", poisoned);
        render_streams(page, store);
        render_backlogs(page, &store.consumers);
        render_deliveries(page, &store.consumers);
    }
    page.head("pannier_uplink_connected", "gauge", "1 while an uplink is connected.");
    for uplink in &status.uplinks {
        let labels = format!("uplink=\"{}\"", escape(&uplink.name));
        page.sample("pannier_uplink_connected", &labels, u8::from(uplink.connected));
    }
}

fn render_streams(page: &mut Page, store: &store::Status) {
    page.head("pannier_stream_messages", "gauge", "Messages kept in a stream.");
    for stream in &store.streams {
        page.sample("pannier_stream_messages", &stream_labels(stream), stream.messages);
    }
    page.head("pannier_stream_published", "counter", "Messages ever published to a stream.");
    for stream in &store.streams {
        page.sample("pannier_stream_published", &stream_labels(stream), stream.last_sequence);
    }
    page.head("pannier_stream_lost", "counter", "Messages lost, by reason.");
    for stream in &store.streams {
        let labels = stream_labels(stream);
        for lost in stream.lost.by_reason() {
            let labels = format!("{labels},reason=\"{}\"", lost.reason);
            page.sample("pannier_stream_lost", &labels, lost.messages);
        }
    }
}

fn stream_labels(stream: &StreamStatus) -> String {
    format!("pubsub=\"{}\",topic=\"{}\"", escape(&stream.pubsub), escape(&stream.topic))
}

fn render_backlogs(page: &mut Page, consumers: &[ConsumerStatus]) {
    page.head("pannier_consumer_backlog", "gauge", "Messages that wait for a consumer.");
    for consumer in consumers {
        page.sample("pannier_consumer_backlog", &consumer_label(consumer), consumer.backlog);
    }
    let help = "Messages kept for a consumer in topics that its filters no longer match.";
    page.head("pannier_consumer_unmatched", "gauge", help);
    for consumer in consumers {
        page.sample("pannier_consumer_unmatched", &consumer_label(consumer), consumer.unmatched);
    }
    page.head("pannier_consumer_inactive", "gauge", "1 while nobody names a consumer.");
    for consumer in consumers {
        let inactive = u8::from(consumer.inactive.is_some());
        page.sample("pannier_consumer_inactive", &consumer_label(consumer), inactive);
    }
    page.head("pannier_consumer_held", "gauge", "Messages that the remote can't take for now.");
    for consumer in consumers {
        page.sample("pannier_consumer_held", &consumer_label(consumer), consumer.held);
    }
}

fn render_deliveries(page: &mut Page, consumers: &[ConsumerStatus]) {
    page.head("pannier_deliveries", "counter", "Deliveries to a consumer, by outcome.");
    for consumer in consumers {
        let label = consumer_label(consumer);
        let mut sample = |outcome: &str, deliveries: u64| {
            let labels = format!("{label},outcome=\"{outcome}\"");
            page.sample("pannier_deliveries", &labels, deliveries);
        };
        let Deliveries { acknowledged, refused, rejected, held, unreachable } = consumer.deliveries;
        sample("acknowledged", acknowledged);
        sample("refused", refused);
        sample("rejected", rejected);
        sample("held", held);
        sample("unreachable", unreachable);
    }
}

fn consumer_label(consumer: &ConsumerStatus) -> String {
    format!("consumer=\"{}\"", escape(&consumer.name))
}

/// Metrics in Prometheus' text format.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Starts a metric; its samples follow.
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample. `labels` are separated by commas, with escaped values; there may be none.
    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = match labels {
            "" => writeln!(self.0, "{name} {value}"),
            labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
        };
    }

    /// Adds a gauge without labels.
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, "", value);
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
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
