//! What is wrong with a process, and what to do.

use std::time::Duration;

use serde_json::Value;

use super::{list, losses, num, refusal, str};
use crate::text;

/// How long an uplink may take to connect before that is a problem.
const CONNECT_PATIENCE_MS: u64 = 10_000;
/// How long a refused message counts as a problem of now.
const RECENT_MS: u64 = 5 * 60 * 1000;
/// From this part of its limit on, in per cent, the disk is nearly full.
const NEARLY_FULL: u64 = 90;

/// The worst first.
pub(super) fn find(status: &Value, now_ms: u64) -> Vec<String> {
    let mut found = Vec::new();
    if status["poisoned"].is_string() {
        let cause = str(status, "poisoned");
        found.push(format!(
            "the store refuses writes: {cause}; fix that, then restart pannier (what was acknowledged is kept)"
        ));
    }
    found.extend(list(status, "damage").map(damage));
    found.extend(disk(status));
    found.extend(list(status, "uplinks").filter_map(|uplink| disconnected(status, uplink, now_ms)));
    found.extend(list(status, "apps").filter_map(app));
    found.extend(list(status, "consumers").flat_map(|consumer| stuck(consumer, now_ms)));
    found.extend(lost(status));
    let lines = num(status, "log_lines_lost");
    if lines > 0 {
        let lines = text::count(lines, "log line was lost", "log lines were lost");
        found.push(format!("{lines}: standard error could not be written, or its reader is slow"));
    }
    found
}

fn damage(damage: &Value) -> String {
    let (bytes, file) = (text::bytes(num(damage, "bytes")), str(damage, "file"));
    let first = num(damage, "from_lsn");
    let records = match damage["to_lsn"].as_u64() {
        Some(last) => format!("records {first} to {last}"),
        None => format!("all from record {first} on"),
    };
    let copy = match damage["set_aside"].as_str() {
        Some(name) => format!("a copy is in {}", text::escape(name)),
        None => "no copy could be made".into(),
    };
    format!("{bytes} of {file} were damaged ({records}; {copy}): check the disk")
}

fn disk(status: &Value) -> Option<String> {
    let (used, limit) = (num(status, "disk_bytes"), num(status, "disk_limit"));
    // The file keeps its size when it is drained: what is kept in it must need most of the room too.
    if limit == 0 || used.min(alive(status) * 3 / 2) < limit / 100 * NEARLY_FULL {
        return None;
    }
    let waits = list(status, "consumers").max_by_key(|consumer| num(consumer, "backlog"));
    let waits = waits.filter(|consumer| num(consumer, "backlog") > 0).map(|consumer| {
        let backlog = text::count(num(consumer, "backlog"), "message waits", "messages wait");
        format!(" ({backlog} for {})", str(consumer, "name"))
    });
    let (used, limit) = (text::bytes(used), text::bytes(limit));
    Some(format!(
        "the store has {used} of its limit of {limit}, and refuses what doesn't fit: let the backlog drain{}, or raise spec.limits.disk in the Node resource",
        waits.unwrap_or_default()
    ))
}

/// Bytes of the messages and the state that are kept. The store takes half as much again for them.
fn alive(status: &Value) -> u64 {
    let kept = list(status, "streams").chain(list(status, "state"));
    kept.map(|part| num(part, "bytes")).sum()
}

fn disconnected(status: &Value, uplink: &Value, now_ms: u64) -> Option<String> {
    let since = now_ms.saturating_sub(num(uplink, "since"));
    let error = &uplink["last_error"];
    if uplink["connected"] == true || (error.is_null() && since < CONNECT_PATIENCE_MS) {
        return None;
    }
    let (name, broker) = (str(uplink, "name"), str(uplink, "url"));
    let since = text::duration(Duration::from_secs(since / 1000));
    let reason = match error["text"].as_str() {
        Some(error) => text::escape(error),
        None => "no answer yet".into(),
    };
    let waiting = list(status, "consumers").filter(|consumer| is_of(consumer, uplink));
    let waiting: u64 = waiting.map(|consumer| num(consumer, "backlog")).sum();
    let waiting = text::count(waiting, "message waits", "messages wait");
    Some(format!(
        "uplink {name} has not been connected to {broker} for {since}: {reason} ({waiting}; it tries again by itself)"
    ))
}

/// Whether a consumer is one of that uplink's.
fn is_of(consumer: &Value, uplink: &Value) -> bool {
    let name = consumer["name"].as_str().and_then(|name| name.strip_prefix("uplink/"));
    let rest = name.and_then(|name| name.strip_prefix(uplink["name"].as_str()?));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn app(app: &Value) -> Option<String> {
    let (id, port) = (str(app, "id"), num(app, "app_port"));
    match app["state"].as_str()? {
        "waiting for its port" => Some(format!(
            "nothing listens at port {port} for app {id}: start the app, or correct its port"
        )),
        "unhealthy" => Some(format!(
            "the health check of app {id} at port {port} fails: nothing is delivered to it until it succeeds"
        )),
        "asked for its subscriptions" => Some(format!(
            "app {id} at port {port} has not said what it subscribes to (GET /dapr/subscribe)"
        )),
        _ => None,
    }
}

/// Why messages of a consumer stay.
fn stuck(consumer: &Value, now_ms: u64) -> Vec<String> {
    let mut found = Vec::new();
    let name = str(consumer, "name");
    let backlog = num(consumer, "backlog");
    if consumer["inactive"].is_object() && backlog > 0 {
        let reason = str(&consumer["inactive"], "reason");
        let messages = text::count(backlog, "message waits", "messages wait");
        found.push(format!(
            "{messages} for {name}, which is {reason}: bring it back, or delete them with `pannier forget '{name}'`"
        ));
    }
    let held = num(consumer, "held");
    if held > 0 {
        let messages = text::count(held, "message is held", "messages are held");
        let reason =
            consumer["held_reason"].as_str().map(|why| format!(" ({})", text::escape(why)));
        let reason = reason.unwrap_or_default();
        found.push(format!(
            "{messages} for {name}{reason}: fix the cause, then `pannier retry '{name}'`"
        ));
    }
    let unmatched = num(consumer, "unmatched");
    if unmatched > 0 {
        let messages = text::count(unmatched, "message", "messages");
        found.push(format!(
            "{messages} for {name} are in topics that it no longer matches: correct its topics to have them delivered, or run `pannier forget --force '{name}'`, which deletes all that waits for it"
        ));
    }
    let at = consumer["last_refusal"]["at"].as_u64();
    if backlog > 0
        && at.is_some_and(|at| now_ms.saturating_sub(at) < RECENT_MS)
        && let Some(refusal) = refusal(consumer)
    {
        found.push(format!("{name} refused a message {refusal}"));
    }
    found
}

/// Messages that left without being delivered. That nobody subscribed to some is no problem.
fn lost(status: &Value) -> Option<String> {
    let mut lost = status["lost_since_start"].clone();
    lost.as_object_mut()?.remove("unclaimed");
    let lost = losses(&lost);
    (!lost.is_empty()).then(|| {
        format!("messages were lost since the start: {lost}; see the streams below and the log")
    })
}
