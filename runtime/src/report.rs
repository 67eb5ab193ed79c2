//! `pannier status` for people.

use std::fmt::Write;

use serde_json::Value;

/// The status as text, from what the process answered.
#[must_use]
pub fn text(status: &Value) -> String {
    let mut out = String::new();
    let node =
        [str(status, "node"), num(status, "epoch"), str(status, "version"), num(status, "pid")];
    let [name, epoch, version, pid] = node;
    let _ = writeln!(out, "node {name} (epoch {epoch}), pannier {version}, pid {pid}");
    let _ = writeln!(out, "on disk: {}", bytes(status["disk_bytes"].as_u64()));
    if let Some(cause) = status["poisoned"].as_str() {
        let _ =
            writeln!(out, "REFUSES WRITES since the disk failed: {cause}; check it and restart");
    }
    for damage in list(status, "damage") {
        let set_aside = damage["set_aside"].as_str().unwrap_or("nothing to set aside");
        let bytes = bytes(damage["bytes"].as_u64());
        let file = str(damage, "file");
        let _ = write!(out, "DAMAGED: {bytes} of {file} ({set_aside})");
        let _ = match damage["to_lsn"].as_u64() {
            Some(last) => writeln!(out, ", records {} to {last}", num(damage, "from_lsn")),
            None => writeln!(out, ", from record {} on", num(damage, "from_lsn")),
        };
    }
    uplinks(&mut out, status);
    consumers(&mut out, status);
    streams(&mut out, status);
    out
}

fn uplinks(out: &mut String, status: &Value) {
    for uplink in list(status, "uplinks") {
        let connected = uplink["connected"].as_bool() == Some(true);
        let state = if connected { "connected" } else { "not connected" };
        let since = since(uplink["since"].as_u64());
        let (name, url) = (str(uplink, "name"), str(uplink, "url"));
        let _ = writeln!(
            out,
            "uplink {name} to {url}: {state} since {since}, {} in flight, {} acknowledged",
            num(uplink, "in_flight"),
            num(uplink, "acknowledged")
        );
        if let Some(error) = uplink["last_error"]["text"].as_str() {
            let at = self::since(uplink["last_error"]["at"].as_u64());
            let _ = writeln!(out, "  last error {at}: {error}");
        }
    }
}

fn consumers(out: &mut String, status: &Value) {
    table(out, status, "consumers", &["CONSUMER", "KIND", "BACKLOG", "OLDEST"], |row| {
        vec![str(row, "name"), str(row, "kind"), num(row, "backlog"), age(row)]
    });
}

fn streams(out: &mut String, status: &Value) {
    let head = ["STREAM", "LAST", "KEPT", "BYTES", "OLDEST", "LOST"];
    table(out, status, "streams", &head, |row| {
        let lost: u64 =
            row["lost"].as_object().map_or(0, |lost| lost.values().filter_map(Value::as_u64).sum());
        vec![
            format!("{}/{}", str(row, "pubsub"), str(row, "topic")),
            num(row, "last_sequence"),
            num(row, "messages"),
            bytes(row["bytes"].as_u64()),
            age(row),
            lost.to_string(),
        ]
    });
}

fn table(
    out: &mut String,
    status: &Value,
    name: &str,
    head: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
) {
    let mut rows: Vec<Vec<String>> = vec![head.iter().map(|cell| (*cell).to_owned()).collect()];
    rows.extend(list(status, name).map(row));
    if rows.len() == 1 {
        let _ = writeln!(out, "no {name}");
        return;
    }
    let widths: Vec<usize> = (0..head.len())
        .map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    let _ = writeln!(out);
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn str(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn num(value: &Value, name: &str) -> String {
    value[name].to_string()
}

fn age(row: &Value) -> String {
    row["oldest_age_ms"].as_u64().map_or_else(|| "-".into(), |ms| duration(ms / 1000))
}

/// How long ago a wall time was, by the wall clock: for people only.
fn since(unix_ms: Option<u64>) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.ok().and_then(|now| u64::try_from(now.as_millis()).ok());
    match (unix_ms, now) {
        (Some(then), Some(now)) => format!("{} ago", duration(now.saturating_sub(then) / 1000)),
        _ => "an unknown time".into(),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn bytes(bytes: Option<u64>) -> String {
    let bytes = bytes.unwrap_or(0);
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_as_a_few_aligned_lines() {
        let status = serde_json::json!({
            "node": "n", "epoch": 7, "version": "0.1.0", "pid": 9, "disk_bytes": 20_480,
            "poisoned": null, "uplinks": [], "damage": [{
                "file": "j", "offset": 1, "bytes": 2, "from_lsn": 3, "to_lsn": 4, "set_aside": "d",
            }],
            "consumers": [{"name": "uplink/u", "kind": "uplink", "backlog": 3, "oldest_age_ms": 61_000}],
            "streams": [],
        });
        let expected = "node n (epoch 7), pannier 0.1.0, pid 9\non disk: 20 KiB\n\
            DAMAGED: 2 B of j (d), records 3 to 4\n\n\
            CONSUMER  KIND    BACKLOG  OLDEST\nuplink/u  uplink  3        1 min 1 s\nno streams\n";
        assert_eq!(text(&status), expected);
    }
}
