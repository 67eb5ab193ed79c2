use std::collections::BTreeMap;

use store_forward::consumer::{Deliveries, LastRefusal};
use store_forward::store::{
    ConsumerStatus, DamageStatus, InactiveStatus, LossStatus, StateStatus, StreamStatus,
};

use super::{AppReadiness, AppStatus, ComponentStatus, Status};
use crate::uplink::{LastError, UplinkSnapshot};

/// A status in which every field holds something.
fn full() -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 9,
        apps: vec![AppStatus {
            id: "shop".into(),
            http_port: 3500,
            app_port: Some(8080),
            state: AppReadiness::WaitingForPort,
        }],
        components: vec![ComponentStatus {
            name: "cache".into(),
            kind: "state.in-memory".into(),
            durable: false,
        }],
        store: Some(store_forward::store::Status {
            node: "n".into(),
            epoch: 7,
            disk_bytes: 4096,
            poisoned: None,
            damage: vec![DamageStatus {
                file: "j".into(),
                offset: 1,
                bytes: 2,
                from_lsn: 3,
                to_lsn: None,
                set_aside: Some("d".into()),
            }],
            state: vec![StateStatus { component: "store".into(), keys: 1, bytes: 2 }],
            streams: vec![StreamStatus {
                pubsub: "pubsub".into(),
                topic: "t".into(),
                last_sequence: 5,
                messages: 4,
                bytes: 3,
                oldest_age_ms: Some(2),
                lost: LossStatus {
                    expired: 1,
                    overflowed: 2,
                    dropped: 3,
                    unclaimed: 4,
                    damaged: 5,
                    too_large: 6,
                },
            }],
            consumers: vec![ConsumerStatus {
                name: "uplink/u".into(),
                kind: "uplink".into(),
                backlog: 4,
                unmatched: 3,
                oldest_age_ms: None,
                inactive: Some(InactiveStatus {
                    reason: "not configured".into(),
                    collecting: true,
                    kept_for_ms: Some(60),
                }),
                held: 2,
                held_reason: Some("too large".into()),
                last_refusal: Some(LastRefusal {
                    topic: "pubsub/t".into(),
                    sequence: 8,
                    attempt: 3,
                    reason: "500".into(),
                    at: -5,
                }),
                deliveries: Deliveries {
                    acknowledged: 1,
                    refused: 2,
                    rejected: 3,
                    held: 4,
                    unreachable: 5,
                },
            }],
        }),
        disk_limit: Some(8192),
        uplinks: vec![UplinkSnapshot {
            name: "u".into(),
            url: "b:1883".into(),
            connected: true,
            since: 1,
            in_flight: 2,
            acknowledged: 3,
            received: 4,
            last_error: Some(LastError { text: "reset".into(), at: 5 }),
        }],
        lost_since_start: BTreeMap::from([("expired".into(), 1)]),
        log_lines_lost: 6,
    }
}

/// The answer to `GET /status`, which scripts read by `pannier status --json`.
const FULL: &str = concat!(
    r#"{"version":"0.1.0","pid":9,"#,
    r#""apps":[{"id":"shop","http_port":3500,"app_port":8080,"state":"waiting for its port"}],"#,
    r#""components":[{"name":"cache","type":"state.in-memory","durable":false}],"#,
    r#""node":"n","epoch":7,"disk_bytes":4096,"poisoned":null,"#,
    r#""damage":[{"file":"j","offset":1,"bytes":2,"from_lsn":3,"to_lsn":null,"set_aside":"d"}],"#,
    r#""state":[{"component":"store","keys":1,"bytes":2}],"#,
    r#""streams":[{"pubsub":"pubsub","topic":"t","last_sequence":5,"messages":4,"bytes":3,"#,
    r#""oldest_age_ms":2,"lost":{"expired":1,"overflowed":2,"dropped":3,"unclaimed":4,"#,
    r#""damaged":5,"too_large":6}}],"#,
    r#""consumers":[{"name":"uplink/u","kind":"uplink","backlog":4,"unmatched":3,"#,
    r#""oldest_age_ms":null,"inactive":{"reason":"not configured","collecting":true,"#,
    r#""kept_for_ms":60},"held":2,"held_reason":"too large","#,
    r#""last_refusal":{"topic":"pubsub/t","sequence":8,"attempt":3,"reason":"500","at":-5},"#,
    r#""deliveries":{"acknowledged":1,"refused":2,"rejected":3,"held":4,"unreachable":5}}],"#,
    r#""disk_limit":8192,"#,
    r#""uplinks":[{"name":"u","url":"b:1883","connected":true,"since":1,"in_flight":2,"#,
    r#""acknowledged":3,"received":4,"last_error":{"text":"reset","at":5}}],"#,
    r#""lost_since_start":{"expired":1},"log_lines_lost":6}"#,
);

#[test]
fn the_status_keeps_the_names_and_the_order_of_its_fields() {
    assert_eq!(serde_json::to_string(&full()).ok().as_deref(), Some(FULL));
}

#[test]
fn a_status_is_read_as_it_was_written() {
    assert_eq!(serde_json::from_str::<Status>(FULL).ok(), Some(full()));
}

#[test]
fn a_status_without_a_store_has_none_of_its_fields() {
    let status = Status { store: None, disk_limit: None, ..full() };
    let json = serde_json::to_value(&status).unwrap_or_default();
    for field in ["node", "epoch", "disk_bytes", "disk_limit", "streams", "consumers"] {
        assert!(json.get(field).is_none(), "{field}");
    }
    assert_eq!(serde_json::from_value(json).ok(), Some(status));
}

#[test]
fn the_status_of_another_version_can_be_read() {
    let other = r#"{"node":"n","consumers":[{"name":"c","news":1}],"news":[2],
        "apps":[{"id":"a","state":"asleep"}]}"#;
    let status: Status = serde_json::from_str(other).unwrap_or_default();
    assert_eq!(status.apps[0].state, AppReadiness::Other("asleep".into()));
    let store = status.store.unwrap_or_default();
    assert_eq!(store.node, "n");
    assert_eq!((store.consumers[0].name.as_str(), store.consumers[0].backlog), ("c", 0));
}

#[test]
fn a_wrong_store_is_an_error_and_not_an_absent_store() {
    assert!(serde_json::from_str::<Status>(r#"{"node":"n","streams":5}"#).is_err());
}

#[test]
fn each_readiness_is_read_by_its_name() {
    for readiness in AppReadiness::KNOWN {
        assert_eq!(AppReadiness::from(readiness.name().to_owned()), readiness);
    }
}
