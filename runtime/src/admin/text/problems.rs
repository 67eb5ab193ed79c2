//! Problems of a process, each with its remedy.

use std::time::Duration;

use store_forward::store::{self, ConsumerStatus, DamageStatus};

use super::{losses, refusal};
use crate::admin::{AppReadiness, AppStatus, Status};
use crate::text;
use crate::uplink::UplinkSnapshot;

/// Time that an uplink may take to connect before that is a problem.
const CONNECT_PATIENCE_MS: u64 = 10_000;
/// Age up to which a refusal is a current problem.
const RECENT_MS: u64 = 5 * 60 * 1000;
/// Share of the limit, in per cent, from which on the disk is nearly full.
const NEARLY_FULL: u64 = 90;

/// Returns the problems, the worst first.
pub(super) fn find(status: &Status, now_ms: u64) -> Vec<String> {
    let consumers = status.store.as_ref().map(|it| it.consumers.as_slice()).unwrap_or_default();
    let mut found = Vec::new();
    if let Some(store) = &status.store {
        found.extend(poisoned(store));
        found.extend(store.damage.iter().map(damage));
        found.extend(nearly_full(store, status.disk_limit.unwrap_or_default()));
    }
    found.extend(status.uplinks.iter().filter_map(|it| disconnected(it, consumers, now_ms)));
    found.extend(status.apps.iter().filter_map(app));
    for consumer in consumers {
        found.extend(inactive(consumer));
        found.extend(held(consumer));
        found.extend(unmatched(consumer));
        found.extend(refused(consumer, now_ms));
    }
    found.extend(lost(status));
    found.extend(lost_lines(status));
    found
}

fn poisoned(store: &store::Status) -> Option<String> {
    let cause = text::escape(store.poisoned.as_ref()?);
    Some(format!(
        "the store refuses writes: {cause}; fix that, then restart pannier (what was acknowledged is kept)"
    ))
}

fn damage(damage: &DamageStatus) -> String {
    let bytes = text::bytes(damage.bytes);
    let file = text::escape(&damage.file);
    let first = damage.from_lsn;
    let records = match damage.to_lsn {
        Some(last) => format!("records {first} to {last}"),
        None => format!("all from record {first} on"),
    };
    let copy = match &damage.set_aside {
        Some(name) => format!("a copy is in {}", text::escape(name)),
        None => "no copy could be made".into(),
    };
    format!("{bytes} of {file} were damaged ({records}; {copy}): check the disk")
}

fn nearly_full(store: &store::Status, limit: u64) -> Option<String> {
    // The file keeps its size when the store is drained, so its contents must need most of the room too.
    let needed = store.disk_bytes.min(live_bytes(store) * 3 / 2);
    if limit == 0 || needed < limit / 100 * NEARLY_FULL {
        return None;
    }
    let largest = store.consumers.iter().max_by_key(|consumer| consumer.backlog);
    let largest = largest.filter(|consumer| consumer.backlog > 0).map(|consumer| {
        let backlog = text::count(consumer.backlog, "message waits", "messages wait");
        format!(" ({backlog} for {})", text::escape(&consumer.name))
    });
    Some(format!(
        "the store has {} of its limit of {}, and refuses what doesn't fit: let the backlog drain{}, or raise spec.limits.disk in the Node resource",
        text::bytes(store.disk_bytes),
        text::bytes(limit),
        largest.unwrap_or_default()
    ))
}

/// Returns the bytes of the messages and the state that are kept. On disk they take about half as much
/// again.
fn live_bytes(store: &store::Status) -> u64 {
    let messages = store.streams.iter().map(|stream| stream.bytes);
    let state = store.state.iter().map(|state| state.bytes);
    messages.chain(state).sum()
}

fn disconnected(
    uplink: &UplinkSnapshot,
    consumers: &[ConsumerStatus],
    now_ms: u64,
) -> Option<String> {
    let since_ms = now_ms.saturating_sub(uplink.since);
    let is_new = uplink.last_error.is_none() && since_ms < CONNECT_PATIENCE_MS;
    if uplink.connected || is_new {
        return None;
    }
    let name = text::escape(&uplink.name);
    let broker = text::escape(&uplink.url);
    let since = text::duration(Duration::from_secs(since_ms / 1000));
    let reason = match &uplink.last_error {
        Some(error) => text::escape(&error.text),
        None => "no answer yet".into(),
    };
    let own = consumers.iter().filter(|consumer| belongs_to(consumer, uplink));
    let waiting: u64 = own.map(|consumer| consumer.backlog).sum();
    let waiting = text::count(waiting, "message waits", "messages wait");
    Some(format!(
        "uplink {name} has not been connected to {broker} for {since}: {reason} ({waiting}; it tries again by itself)"
    ))
}

/// Returns true for the consumers `uplink/NAME` and `uplink/NAME/...`.
fn belongs_to(consumer: &ConsumerStatus, uplink: &UplinkSnapshot) -> bool {
    let name = consumer.name.strip_prefix("uplink/");
    let rest = name.and_then(|name| name.strip_prefix(uplink.name.as_str()));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn app(app: &AppStatus) -> Option<String> {
    let id = text::escape(&app.id);
    let port = app.app_port.unwrap_or_default();
    match app.state {
        AppReadiness::WaitingForPort => Some(format!(
            "nothing listens at port {port} for app {id}: start the app, or correct its port"
        )),
        AppReadiness::Unhealthy => Some(format!(
            "the health check of app {id} at port {port} fails: nothing is delivered to it until it succeeds"
        )),
        AppReadiness::AskedForSubscriptions => Some(format!(
            "app {id} at port {port} has not said what it subscribes to (GET /dapr/subscribe)"
        )),
        AppReadiness::NotCalled | AppReadiness::TakesMessages | AppReadiness::Other(_) => None,
    }
}

fn inactive(consumer: &ConsumerStatus) -> Option<String> {
    let inactive = consumer.inactive.as_ref().filter(|_| consumer.backlog > 0)?;
    let name = text::escape(&consumer.name);
    let reason = text::escape(&inactive.reason);
    let messages = text::count(consumer.backlog, "message waits", "messages wait");
    Some(format!(
        "{messages} for {name}, which is {reason}: bring it back, or delete them with `pannier forget '{name}'`"
    ))
}

fn held(consumer: &ConsumerStatus) -> Option<String> {
    if consumer.held == 0 {
        return None;
    }
    let name = text::escape(&consumer.name);
    let messages = text::count(consumer.held, "message is held", "messages are held");
    let reason = consumer.held_reason.as_ref().map(|reason| format!(" ({})", text::escape(reason)));
    let reason = reason.unwrap_or_default();
    Some(format!("{messages} for {name}{reason}: fix the cause, then `pannier retry '{name}'`"))
}

fn unmatched(consumer: &ConsumerStatus) -> Option<String> {
    if consumer.unmatched == 0 {
        return None;
    }
    let name = text::escape(&consumer.name);
    let messages = text::count(consumer.unmatched, "message", "messages");
    Some(format!(
        "{messages} for {name} are in topics that it no longer matches: correct its topics to have them delivered, or run `pannier forget --force '{name}'`, which deletes all that waits for it"
    ))
}

fn refused(consumer: &ConsumerStatus, now_ms: u64) -> Option<String> {
    let last = consumer.last_refusal.as_ref().filter(|_| consumer.backlog > 0)?;
    let at_ms = u64::try_from(last.at).ok()?;
    let is_recent = now_ms.saturating_sub(at_ms) < RECENT_MS;
    let name = text::escape(&consumer.name);
    is_recent.then(|| format!("{name} refused a message {}", refusal(last)))
}

/// Messages lost since the start. Messages that no consumer ever claimed are no problem.
fn lost(status: &Status) -> Option<String> {
    let lost =
        status.lost_since_start.iter().map(|(reason, messages)| (reason.as_str(), *messages));
    let lost = losses(lost.filter(|(reason, _)| *reason != "unclaimed"));
    (!lost.is_empty()).then(|| {
        format!("messages were lost since the start: {lost}; see the streams below and the log")
    })
}

fn lost_lines(status: &Status) -> Option<String> {
    if status.log_lines_lost == 0 {
        return None;
    }
    let lines = text::count(status.log_lines_lost, "log line was lost", "log lines were lost");
    Some(format!("{lines}: standard error could not be written, or its reader is slow"))
}
