//! `pannier status` for people. Everything is read from the JSON that the process answers, so that a
//! field it doesn't know is left out.

mod problems;
mod table;

#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

use crate::text;
use table::table;

/// Columns of what is wrapped where there is no terminal.
const WIDTH_WITHOUT_TERMINAL: usize = 100;

/// The status as text: first what is wrong and what to do, then the facts. Lines fit into `width`
/// columns if there is one, with names cut for that.
#[must_use]
pub fn text(status: &Value, width: Option<usize>) -> String {
    let mut out = String::new();
    problems(&mut out, status, width);
    node(&mut out, status, width);
    uplinks(&mut out, status, width);
    apps(&mut out, status, width);
    state(&mut out, status, width);
    consumers(&mut out, status, width);
    streams(&mut out, status, width);
    out
}

fn problems(out: &mut String, status: &Value, width: Option<usize>) {
    let problems = problems::find(status, now_ms());
    if problems.is_empty() {
        let _ = writeln!(out, "no problems\n");
        return;
    }
    let _ = writeln!(out, "{}", text::count(problems.len() as u64, "problem", "problems"));
    for problem in problems {
        line(out, &format!("- {problem}"), width, 2);
    }
    let _ = writeln!(out);
}

fn node(out: &mut String, status: &Value, width: Option<usize>) {
    let (name, version) = (str(status, "node"), str(status, "version"));
    let (epoch, pid) = (num(status, "epoch"), num(status, "pid"));
    line(out, &format!("node {name} (epoch {epoch}), pannier {version}, pid {pid}"), width, 2);
    let used = text::bytes(num(status, "disk_bytes"));
    let of = status["disk_limit"].as_u64().map(|limit| format!(" of {}", text::bytes(limit)));
    line(out, &format!("disk: {used}{}", of.unwrap_or_default()), width, 2);
    let volatile = list(status, "components").filter(|one| one["durable"] == false);
    let volatile: Vec<String> =
        volatile.map(|one| format!("{} ({})", str(one, "name"), str(one, "type"))).collect();
    if !volatile.is_empty() {
        let text = format!("in memory only, empty after a restart: {}", volatile.join(", "));
        line(out, &text, width, 2);
    }
}

fn uplinks(out: &mut String, status: &Value, width: Option<usize>) {
    let head = ["UPLINK", "BROKER", "STATE", "FOR", "IN FLIGHT", "SENT", "RECEIVED"];
    let rows = list(status, "uplinks").map(|uplink| {
        let connected = uplink["connected"] == true;
        vec![
            str(uplink, "name"),
            str(uplink, "url"),
            if connected { "connected" } else { "not connected" }.to_owned(),
            ago(uplink, "since"),
            num(uplink, "in_flight").to_string(),
            num(uplink, "acknowledged").to_string(),
            num(uplink, "received").to_string(),
        ]
    });
    table(out, &head, rows.collect(), width);
    for uplink in list(status, "uplinks").filter(|uplink| uplink["connected"] == true) {
        let error = &uplink["last_error"];
        if error["text"].is_string() {
            let (name, ago, error) = (str(uplink, "name"), ago(error, "at"), str(error, "text"));
            line(out, &format!("last error of {name}, {ago} ago: {error}"), width, 2);
        }
    }
}

fn apps(out: &mut String, status: &Value, width: Option<usize>) {
    let rows = list(status, "apps").map(|app| {
        let called_at = app["app_port"].as_u64().map_or_else(|| "-".into(), |p| p.to_string());
        vec![str(app, "id"), num(app, "http_port").to_string(), called_at, str(app, "state")]
    });
    table(out, &["APP", "API PORT", "APP PORT", "STATE"], rows.collect(), width);
}

fn state(out: &mut String, status: &Value, width: Option<usize>) {
    let rows = list(status, "state").map(|store| {
        let bytes = text::bytes(num(store, "bytes"));
        vec![str(store, "component"), num(store, "keys").to_string(), bytes]
    });
    table(out, &["STATE STORE", "KEYS", "BYTES"], rows.collect(), width);
}

fn consumers(out: &mut String, status: &Value, width: Option<usize>) {
    let rows = list(status, "consumers").map(|consumer| {
        vec![
            str(consumer, "name"),
            str(consumer, "kind"),
            num(consumer, "backlog").to_string(),
            age(consumer),
            remarks(consumer),
        ]
    });
    table(out, &["CONSUMER", "KIND", "WAITING", "OLDEST", "REMARKS"], rows.collect(), width);
    for consumer in list(status, "consumers") {
        if let Some(refusal) = refusal(consumer) {
            let text = format!("last refusal of {}, {refusal}", str(consumer, "name"));
            line(out, &text, width, 2);
        }
    }
}

/// What is unusual about a consumer.
fn remarks(consumer: &Value) -> String {
    let mut remarks = Vec::new();
    let inactive = &consumer["inactive"];
    if inactive.is_object() {
        remarks.push(str(inactive, "reason"));
        if inactive["collecting"] == true {
            remarks.push("still collects".into());
        }
        if let Some(ms) = inactive["kept_for_ms"].as_u64() {
            remarks.push(format!("kept for {}", text::duration(Duration::from_millis(ms))));
        }
    }
    for (field, name) in [("held", "held"), ("unmatched", "unmatched")] {
        let count = num(consumer, field);
        if count > 0 {
            remarks.push(format!("{count} {name}"));
        }
    }
    remarks.join(", ")
}

/// When a consumer refused a message last, which one, and why.
fn refusal(consumer: &Value) -> Option<String> {
    let refusal = consumer["last_refusal"].as_object().map(|_| &consumer["last_refusal"])?;
    let (topic, reason) = (str(refusal, "topic"), str(refusal, "reason"));
    let (sequence, attempt) = (num(refusal, "sequence"), num(refusal, "attempt"));
    let ago = ago(refusal, "at");
    Some(format!("{ago} ago: message {sequence} of {topic}, attempt {attempt}: {reason}"))
}

fn streams(out: &mut String, status: &Value, width: Option<usize>) {
    let rows = list(status, "streams").map(|stream| {
        vec![
            format!("{}/{}", str(stream, "pubsub"), str(stream, "topic")),
            num(stream, "last_sequence").to_string(),
            num(stream, "messages").to_string(),
            text::bytes(num(stream, "bytes")),
            age(stream),
            losses(&stream["lost"]),
        ]
    });
    table(out, &["STREAM", "LAST", "KEPT", "BYTES", "OLDEST", "LOST"], rows.collect(), width);
}

/// Counts by reason, as far as there are any: `3 expired, 2 dropped`.
fn losses(lost: &Value) -> String {
    let counts = lost.as_object().into_iter().flatten();
    let counts = counts.filter_map(|(reason, count)| Some((reason, count.as_u64()?)));
    let counts = counts.filter(|(_, count)| *count > 0);
    let counts = counts.map(|(reason, count)| format!("{count} {}", reason.replace('_', " ")));
    counts.collect::<Vec<_>>().join(", ")
}

/// A line of words, wrapped.
fn line(out: &mut String, text: &str, width: Option<usize>, indent: usize) {
    let width = width.unwrap_or(WIDTH_WITHOUT_TERMINAL);
    let _ = writeln!(out, "{}", text::wrap(text, width, indent));
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

/// A text of others, safe for a terminal.
fn str(value: &Value, name: &str) -> String {
    text::escape(value[name].as_str().unwrap_or_default())
}

fn num(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_default()
}

fn age(row: &Value) -> String {
    let age = row["oldest_age_ms"].as_u64();
    age.map_or_else(|| "-".into(), |ms| text::duration(Duration::from_millis(ms)))
}

/// How long ago a time was, by the wall clock: for people only.
fn ago(value: &Value, name: &str) -> String {
    let since = now_ms().saturating_sub(num(value, name));
    text::duration(Duration::from_secs(since / 1000))
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.ok().and_then(|now| u64::try_from(now.as_millis()).ok()).unwrap_or_default()
}
