use super::*;
use crate::admin::{AppReadiness, ComponentStatus};
use crate::uplink::LastError;
use store_forward::store::DamageStatus;

fn healthy() -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 9,
        apps: vec![AppStatus { id: "shop".into(), http_port: 3500, ..AppStatus::default() }],
        components: vec![
            ComponentStatus {
                name: "cache".into(),
                kind: "state.in-memory".into(),
                durable: false,
            },
            ComponentStatus { name: "pubsub".into(), kind: "pubsub.redb".into(), durable: true },
        ],
        store: Some(store::Status {
            node: "n".into(),
            epoch: 7,
            disk_bytes: 20_480,
            consumers: vec![ConsumerStatus {
                name: "uplink/u".into(),
                kind: "uplink".into(),
                backlog: 3,
                oldest_age_ms: Some(61_000),
                ..ConsumerStatus::default()
            }],
            ..store::Status::default()
        }),
        disk_limit: Some(1 << 30),
        ..Status::default()
    }
}

/// The healthy status with a change to its store.
fn with_store(change: impl FnOnce(&mut store::Status)) -> Status {
    let mut status = healthy();
    change(status.store.get_or_insert_default());
    status
}

/// The healthy status with a consumer for which messages wait, and a change to it.
fn with_consumer(change: impl FnOnce(&mut ConsumerStatus)) -> Status {
    let mut consumer = ConsumerStatus {
        name: "app/shop/pubsub/orders".into(),
        kind: "app".into(),
        backlog: 5,
        oldest_age_ms: Some(1_000),
        ..ConsumerStatus::default()
    };
    change(&mut consumer);
    with_store(|store| store.consumers = vec![consumer])
}

fn assert_first_problem(status: &Status, parts: &[&str]) {
    let text = render(status, Some(10_000));
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
    assert_eq!(render(&healthy(), None), expected);
}

#[test]
fn a_process_without_a_store_shows_neither_node_nor_disk() {
    let status = Status { store: None, disk_limit: None, ..healthy() };
    let expected = "no problems\n\npannier 0.1.0, pid 9\n\
        in memory only, empty after a restart: cache (state.in-memory)\n\n\
        APP   API PORT  APP PORT  STATE\nshop  3500      -         not called\n";
    assert_eq!(render(&status, None), expected);
}

#[test]
fn each_problem_comes_with_its_remedy() {
    let poisoned =
        with_store(|store| store.poisoned = Some("the data directory /d was removed".into()));
    assert_first_problem(&poisoned, &["refuses writes: the data directory /d", "restart"]);
    let damage = DamageStatus {
        file: "j".into(),
        offset: 1,
        bytes: 2,
        from_lsn: 3,
        to_lsn: Some(4),
        set_aside: Some("d".into()),
    };
    let damaged = with_store(|store| store.damage = vec![damage]);
    assert_first_problem(&damaged, &["2 B of j", "records 3 to 4", "in d", "check the disk"]);
    let full = with_store(|store| fill(store, 700 << 20));
    assert_first_problem(&full, &["limit of 1 GiB", "3 messages wait for uplink/u", "limits.disk"]);
    let lines = Status { log_lines_lost: 2, ..healthy() };
    assert_first_problem(&lines, &["2 log lines were lost", "standard error"]);
    let lost = [("dropped", 0), ("expired", 1), ("too_large", 2), ("unclaimed", 9)];
    let lost = lost.map(|(reason, messages)| (reason.to_owned(), messages)).into();
    let lost = Status { lost_since_start: lost, ..healthy() };
    assert_first_problem(&lost, &["since the start: 1 expired, 2 too large;"]);
}

/// Lets the store's file reach the limit while it keeps so many bytes of state.
fn fill(store: &mut store::Status, kept: u64) {
    store.disk_bytes = 1 << 30;
    store.state = vec![StateStatus { component: "store".into(), keys: 1, bytes: kept }];
}

#[test]
fn a_store_that_was_drained_is_not_full_though_its_file_keeps_its_size() {
    let text = render(&with_store(|store| fill(store, 500 << 20)), None);
    assert!(text.starts_with("no problems\n"), "{text}");
}

#[test]
fn an_uplink_without_a_link_is_a_problem_with_its_reason() {
    let uplink = |connected| Status {
        uplinks: vec![UplinkSnapshot {
            name: "u".into(),
            url: "b:1883".into(),
            connected,
            since: 1,
            acknowledged: 4,
            last_error: Some(LastError { text: "connection refused".into(), at: 5 }),
            ..UplinkSnapshot::default()
        }],
        ..healthy()
    };
    let parts = ["uplink u", "b:1883", "connection refused", "3 messages wait"];
    assert_first_problem(&uplink(false), &parts);
    let connected = render(&uplink(true), None);
    assert!(connected.starts_with("no problems\n"), "{connected}");
    assert!(connected.contains("\nlast error of u, "), "{connected}");
}

#[test]
fn an_app_that_takes_no_messages_is_a_problem() {
    let app = |state| Status {
        apps: vec![AppStatus { id: "shop".into(), http_port: 1, app_port: Some(8080), state }],
        ..healthy()
    };
    let waiting = app(AppReadiness::WaitingForPort);
    assert_first_problem(&waiting, &["nothing listens at port 8080 for app shop"]);
    assert_first_problem(&app(AppReadiness::Unhealthy), &["health check of app shop"]);
    assert_first_problem(&app(AppReadiness::AskedForSubscriptions), &["/dapr/subscribe"]);
    for state in [AppReadiness::TakesMessages, AppReadiness::Other("asleep".into())] {
        let text = render(&app(state.clone()), None);
        assert!(text.starts_with("no problems\n"), "{text}");
        assert!(text.contains(state.name()), "{text}");
    }
}

#[test]
fn messages_that_stay_are_a_problem_with_the_command_that_helps() {
    let inactive = with_consumer(|consumer| {
        consumer.inactive = Some(InactiveStatus {
            reason: "not configured".into(),
            collecting: true,
            kept_for_ms: Some(60_000),
        });
    });
    let forget = "`pannier forget 'app/shop/pubsub/orders'`";
    assert_first_problem(&inactive, &["5 messages wait", "is not configured", forget]);
    let remarks = "not configured, still collects, kept for 1m\n";
    let text = render(&inactive, None);
    assert!(text.ends_with(remarks), "{text}");
    let held = with_consumer(|consumer| {
        consumer.held = 2;
        consumer.held_reason = Some("too large for the broker".into());
    });
    let retry = "`pannier retry 'app/shop/pubsub/orders'`";
    assert_first_problem(&held, &["2 messages are held", "too large for the broker", retry]);
    let unmatched = with_consumer(|consumer| consumer.unmatched = 1);
    let force = "`pannier forget --force 'app/shop/pubsub/orders'`";
    assert_first_problem(&unmatched, &["1 message for", "no longer matches", force]);
    let refused = with_consumer(|consumer| {
        consumer.last_refusal = Some(LastRefusal {
            topic: "orders".into(),
            sequence: 8,
            attempt: 3,
            reason: "500".into(),
            at: i64::try_from(now_ms()).unwrap_or_default(),
        });
    });
    assert_first_problem(&refused, &["message 8 of orders, attempt 3: 500"]);
}

#[test]
fn the_losses_of_a_stream_are_listed_by_reason() {
    let mut stream =
        StreamStatus { pubsub: "pubsub".into(), topic: "t".into(), ..StreamStatus::default() };
    stream.lost.too_large = 1;
    stream.lost.expired = 3;
    stream.lost.dropped = 2;
    let text = render(&with_store(|store| store.streams = vec![stream]), None);
    assert!(text.ends_with("2 dropped, 3 expired, 1 too large\n"), "{text}");
}

#[test]
fn names_of_others_neither_colour_the_terminal_nor_leave_it() {
    let name = format!("app/\u{1b}[31m/pubsub/{}", "x".repeat(300));
    let status = with_consumer(|consumer| {
        consumer.name = name;
        consumer.backlog = 1;
        consumer.oldest_age_ms = None;
    });
    let text = render(&status, Some(60));
    assert!(text.contains("app/\\u{1b}[31m/"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    let row = text.lines().find(|line| line.starts_with("app/")).unwrap_or_default();
    assert!(row.ends_with("app   1        -"), "the figures stay: {row}");
}
