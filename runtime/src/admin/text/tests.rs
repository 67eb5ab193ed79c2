use serde_json::json;

use super::*;

fn healthy() -> Value {
    json!({
        "node": "n", "epoch": 7, "version": "0.1.0", "pid": 9, "disk_bytes": 20_480,
        "disk_limit": 1 << 30, "poisoned": null, "uplinks": [], "damage": [], "streams": [],
        "apps": [{ "id": "shop", "http_port": 3500, "app_port": null, "state": "not called" }],
        "components": [
            { "name": "cache", "type": "state.in-memory", "durable": false },
            { "name": "pubsub", "type": "pubsub.redb", "durable": true },
        ],
        "consumers": [
            { "name": "uplink/u", "kind": "uplink", "backlog": 3, "oldest_age_ms": 61_000 },
        ],
    })
}

/// The healthy status with one field changed.
fn with(field: &str, value: Value) -> Value {
    let mut status = healthy();
    status[field] = value;
    status
}

fn consumer(fields: &Value) -> Value {
    let mut consumer = json!({
        "name": "app/shop/pubsub/orders", "kind": "app", "backlog": 5, "oldest_age_ms": 1_000,
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        consumer[name] = value.clone();
    }
    with("consumers", json!([consumer]))
}

fn assert_first_problem(status: &Value, parts: &[&str]) {
    let text = text(status, Some(10_000));
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("1 problem"), "{text}");
    let problem = lines.next().unwrap_or_default();
    for part in parts {
        assert!(problem.contains(part), "{part:?} is not in {problem:?}");
    }
}

#[test]
fn a_status_without_problems_says_so_first_and_then_tells_the_facts() {
    let expected = "no problems\n\nnode n (epoch 7), pannier 0.1.0, pid 9\ndisk: 20 KiB of 1 GiB\n\
        in memory only, empty after a restart: cache (state.in-memory)\n\n\
        APP   API PORT  APP PORT  STATE\nshop  3500      -         not called\n\n\
        CONSUMER  KIND    WAITING  OLDEST\nuplink/u  uplink  3        1m1s\n";
    assert_eq!(text(&healthy(), None), expected);
}

#[test]
fn each_problem_comes_with_its_remedy() {
    let cause = with("poisoned", json!("the data directory /d was removed"));
    assert_first_problem(&cause, &["refuses writes: the data directory /d", "restart"]);
    let damage = json!({
        "file": "j", "offset": 1, "bytes": 2, "from_lsn": 3, "to_lsn": 4, "set_aside": "d",
    });
    let damage = with("damage", json!([damage]));
    assert_first_problem(&damage, &["2 B of j", "records 3 to 4", "in d", "check the disk"]);
    let mut full = with("disk_bytes", json!(1 << 30));
    full["state"] = json!([{ "component": "store", "keys": 1, "bytes": 700 << 20 }]);
    assert_first_problem(&full, &["limit of 1 GiB", "3 messages wait for uplink/u", "limits.disk"]);
    let lines = with("log_lines_lost", json!(2));
    assert_first_problem(&lines, &["2 log lines were lost", "standard error"]);
    let lost = with("lost_since_start", json!({ "expired": 1, "too_large": 2, "dropped": 0 }));
    assert_first_problem(&lost, &["1 expired, 2 too large"]);
}

#[test]
fn a_store_that_was_drained_is_not_full_though_its_file_keeps_its_size() {
    let mut drained = with("disk_bytes", json!(1 << 30));
    drained["state"] = json!([{ "component": "store", "keys": 1, "bytes": 500 << 20 }]);
    let text = text(&drained, None);
    assert!(text.starts_with("no problems\n"), "{text}");
}

#[test]
fn an_uplink_without_a_link_is_a_problem_with_its_reason() {
    let uplink = |connected, error: Value| {
        with(
            "uplinks",
            json!([{
                "name": "u", "url": "b:1883", "connected": connected, "since": 1, "in_flight": 0,
                "acknowledged": 4, "received": 0, "last_error": error,
            }]),
        )
    };
    let refused = json!({ "text": "connection refused", "at": 5 });
    let parts = ["uplink u", "b:1883", "connection refused", "3 messages wait"];
    assert_first_problem(&uplink(false, refused.clone()), &parts);
    let connected = text(&uplink(true, refused), None);
    assert!(connected.starts_with("no problems\n"), "{connected}");
    assert!(connected.contains("\nlast error of u, "), "{connected}");
}

#[test]
fn an_app_that_takes_no_messages_is_a_problem() {
    let app = |state| json!([{ "id": "shop", "http_port": 1, "app_port": 8080, "state": state }]);
    let cases = [
        ("waiting for its port", "nothing listens at port 8080 for app shop"),
        ("unhealthy", "health check of app shop"),
        ("asked for its subscriptions", "/dapr/subscribe"),
    ];
    for (state, said) in cases {
        assert_first_problem(&with("apps", app(state)), &[said]);
    }
    let taking = text(&with("apps", app("takes messages")), None);
    assert!(taking.starts_with("no problems\n"), "{taking}");
}

#[test]
fn messages_that_stay_are_a_problem_with_the_command_that_helps() {
    let inactive = json!({ "reason": "not configured", "collecting": true, "kept_for_ms": 60_000 });
    let inactive = consumer(&json!({ "inactive": inactive }));
    let forget = "`pannier forget 'app/shop/pubsub/orders'`";
    assert_first_problem(&inactive, &["5 messages wait", "is not configured", forget]);
    let remarks = "not configured, still collects, kept for 1m\n";
    assert!(text(&inactive, None).ends_with(remarks), "{}", text(&inactive, None));
    let held = consumer(&json!({ "held": 2, "held_reason": "too large for the broker" }));
    let retry = "`pannier retry 'app/shop/pubsub/orders'`";
    assert_first_problem(&held, &["2 messages are held", "too large for the broker", retry]);
    let force = "`pannier forget --force 'app/shop/pubsub/orders'`";
    let unmatched = consumer(&json!({ "unmatched": 1 }));
    assert_first_problem(&unmatched, &["1 message for", "no longer matches", force]);
    let refusal = json!({
        "topic": "orders", "sequence": 8, "attempt": 3, "reason": "500", "at": now_ms(),
    });
    let refused = consumer(&json!({ "last_refusal": refusal }));
    assert_first_problem(&refused, &["message 8 of orders, attempt 3: 500"]);
}

#[test]
fn names_of_others_neither_colour_the_terminal_nor_leave_it() {
    let name = format!("app/\u{1b}[31m/pubsub/{}", "x".repeat(300));
    let status = with(
        "consumers",
        json!([{ "name": name, "kind": "app", "backlog": 1, "oldest_age_ms": null }]),
    );
    let text = text(&status, Some(60));
    assert!(text.contains("app/\\u{1b}[31m/"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    let row = text.lines().find(|line| line.starts_with("app/")).unwrap_or_default();
    assert!(row.ends_with("app   1        -"), "the figures stay: {row}");
}
