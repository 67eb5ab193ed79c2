//! The text of `pannier status`.

mod problems;
mod table;

#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use store_forward::consumer::LastRefusal;
use store_forward::store::{self, ConsumerStatus, InactiveStatus, StateStatus, StreamStatus};

use super::{AppStatus, Status};
use crate::text;
use crate::uplink::UplinkSnapshot;
use table::table;

/// Columns to which sentences are wrapped where there is no terminal.
const WIDTH_WITHOUT_TERMINAL: usize = 100;

/// Renders a status: first the problems with their remedies, then the facts. Lines fit into `width`
/// columns if there is one; names are cut for that.
#[must_use]
pub fn render(status: &Status, width: Option<usize>) -> String {
    let mut out = String::new();
    problems(&mut out, status, width);
    process(&mut out, status, width);
    uplinks(&mut out, &status.uplinks, width);
    apps(&mut out, &status.apps, width);
    if let Some(store) = &status.store {
        state(&mut out, &store.state, width);
        consumers(&mut out, &store.consumers, width);
        streams(&mut out, &store.streams, width);
    }
    out
}

fn problems(out: &mut String, status: &Status, width: Option<usize>) {
    let problems = problems::find(status, now_ms());
    if problems.is_empty() {
        let _ = writeln!(out, "no problems\n");
        return;
    }
    let _ = writeln!(out, "{}", text::count(problems.len() as u64, "problem", "problems"));
    for problem in problems {
        sentence(out, &format!("- {problem}"), width);
    }
    let _ = writeln!(out);
}

fn process(out: &mut String, status: &Status, width: Option<usize>) {
    let pannier = format!("pannier {}, pid {}", text::escape(&status.version), status.pid);
    match &status.store {
        Some(store) => node(out, status, store, &pannier, width),
        None => sentence(out, &pannier, width),
    }
    let volatile = status.components.iter().filter(|component| !component.durable);
    let volatile = volatile.map(|component| {
        format!("{} ({})", text::escape(&component.name), text::escape(&component.kind))
    });
    let volatile: Vec<String> = volatile.collect();
    if !volatile.is_empty() {
        let text = format!("in memory only, empty after a restart: {}", volatile.join(", "));
        sentence(out, &text, width);
    }
}

fn node(
    out: &mut String,
    status: &Status,
    store: &store::Status,
    pannier: &str,
    width: Option<usize>,
) {
    let name = text::escape(&store.node);
    sentence(out, &format!("node {name} (epoch {}), {pannier}", store.epoch), width);
    let used = text::bytes(store.disk_bytes);
    let limit = status.disk_limit.map(|limit| format!(" of {}", text::bytes(limit)));
    sentence(out, &format!("disk: {used}{}", limit.unwrap_or_default()), width);
}

fn uplinks(out: &mut String, uplinks: &[UplinkSnapshot], width: Option<usize>) {
    let head = ["UPLINK", "BROKER", "STATE", "FOR", "IN FLIGHT", "SENT", "RECEIVED"];
    let rows = uplinks.iter().map(|uplink| {
        vec![
            text::escape(&uplink.name),
            text::escape(&uplink.url),
            if uplink.connected { "connected" } else { "not connected" }.to_owned(),
            time_since(uplink.since),
            uplink.in_flight.to_string(),
            uplink.acknowledged.to_string(),
            uplink.received.to_string(),
        ]
    });
    table(out, &head, rows.collect(), width);
    // The error of an uplink that is not connected is among the problems.
    for uplink in uplinks.iter().filter(|uplink| uplink.connected) {
        if let Some(error) = &uplink.last_error {
            let name = text::escape(&uplink.name);
            let ago = time_since(error.at);
            let error = text::escape(&error.text);
            sentence(out, &format!("last error of {name}, {ago} ago: {error}"), width);
        }
    }
}

fn apps(out: &mut String, apps: &[AppStatus], width: Option<usize>) {
    let rows = apps.iter().map(|app| {
        vec![
            text::escape(&app.id),
            app.http_port.to_string(),
            app.app_port.map_or_else(|| "-".into(), |port| port.to_string()),
            text::escape(app.state.name()),
        ]
    });
    table(out, &["APP", "API PORT", "APP PORT", "STATE"], rows.collect(), width);
}

fn state(out: &mut String, components: &[StateStatus], width: Option<usize>) {
    let rows = components.iter().map(|state| {
        vec![text::escape(&state.component), state.keys.to_string(), text::bytes(state.bytes)]
    });
    table(out, &["STATE STORE", "KEYS", "BYTES"], rows.collect(), width);
}

fn consumers(out: &mut String, consumers: &[ConsumerStatus], width: Option<usize>) {
    let rows = consumers.iter().map(|consumer| {
        vec![
            text::escape(&consumer.name),
            text::escape(&consumer.kind),
            consumer.backlog.to_string(),
            age(consumer.oldest_age_ms),
            remarks(consumer),
        ]
    });
    table(out, &["CONSUMER", "KIND", "WAITING", "OLDEST", "REMARKS"], rows.collect(), width);
    for consumer in consumers {
        if let Some(last) = &consumer.last_refusal {
            let name = text::escape(&consumer.name);
            sentence(out, &format!("last refusal of {name}, {}", refusal(last)), width);
        }
    }
}

/// Describes the unusual about a consumer, if there is anything.
fn remarks(consumer: &ConsumerStatus) -> String {
    let mut remarks = Vec::new();
    if let Some(InactiveStatus { reason, collecting, kept_for_ms }) = &consumer.inactive {
        remarks.push(text::escape(reason));
        if *collecting {
            remarks.push("still collects".into());
        }
        if let Some(ms) = kept_for_ms {
            remarks.push(format!("kept for {}", text::duration(Duration::from_millis(*ms))));
        }
    }
    if consumer.held > 0 {
        remarks.push(format!("{} held", consumer.held));
    }
    if consumer.unmatched > 0 {
        remarks.push(format!("{} unmatched", consumer.unmatched));
    }
    remarks.join(", ")
}

/// Describes a refusal: time, message and reason.
fn refusal(refusal: &LastRefusal) -> String {
    let LastRefusal { topic, sequence, attempt, reason, at } = refusal;
    let ago = time_since(u64::try_from(*at).unwrap_or_default());
    let topic = text::escape(topic);
    let reason = text::escape(reason);
    format!("{ago} ago: message {sequence} of {topic}, attempt {attempt}: {reason}")
}

fn streams(out: &mut String, streams: &[StreamStatus], width: Option<usize>) {
    let rows = streams.iter().map(|stream| {
        let mut lost = stream.lost.by_reason();
        lost.sort_unstable_by_key(|lost| lost.reason);
        vec![
            format!("{}/{}", text::escape(&stream.pubsub), text::escape(&stream.topic)),
            stream.last_sequence.to_string(),
            stream.messages.to_string(),
            text::bytes(stream.bytes),
            age(stream.oldest_age_ms),
            losses(lost.iter().map(|lost| (lost.reason, lost.messages))),
        ]
    });
    table(out, &["STREAM", "LAST", "KEPT", "BYTES", "OLDEST", "LOST"], rows.collect(), width);
}

/// Lists the reasons that have a count: `2 dropped, 3 expired`.
fn losses<'a>(by_reason: impl Iterator<Item = (&'a str, u64)>) -> String {
    let counted = by_reason.filter(|(_, messages)| *messages > 0);
    let listed = counted.map(|(reason, messages)| {
        format!("{messages} {}", text::escape(&reason.replace('_', " ")))
    });
    listed.collect::<Vec<_>>().join(", ")
}

/// Writes a sentence, wrapped; lines after the first are indented.
fn sentence(out: &mut String, text: &str, width: Option<usize>) {
    let _ = writeln!(out, "{}", text::wrap(text, width.unwrap_or(WIDTH_WITHOUT_TERMINAL), 2));
}

fn age(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".into(), |ms| text::duration(Duration::from_millis(ms)))
}

/// Renders the time since `unix_ms` by the wall clock, which may have been set meanwhile.
fn time_since(unix_ms: u64) -> String {
    text::duration(Duration::from_secs(now_ms().saturating_sub(unix_ms) / 1000))
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.ok().and_then(|now| u64::try_from(now.as_millis()).ok()).unwrap_or_default()
}
