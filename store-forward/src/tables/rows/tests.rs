#![allow(clippy::unwrap_used)]

use std::fmt::Debug;

use serde::de::DeserializeOwned;

use super::*;
use crate::limits::{Overflow, StreamLimits};
use crate::record::{ConsumerKind, ConsumerSpec, Filter};

/// A row has these bytes, and these bytes are that row.
fn golden<T: Serialize + DeserializeOwned + Debug>(row: &T, bytes: &[u8]) {
    assert_eq!(postcard::to_stdvec(row).unwrap(), bytes, "{row:?}");
    let read: T = postcard::from_bytes(bytes).unwrap();
    assert_eq!(format!("{read:?}"), format!("{row:?}"));
}

const AT: Timestamp = Timestamp { wall_ms: -1, boot: 2, up_ms: 300, believed: true };

#[test]
fn the_stores_own_row_keeps_its_bytes_from_version_to_version() {
    let meta = StoreMeta {
        format: 2,
        node: NodeId("n".into()),
        epoch: Epoch(7),
        applied: Lsn(8),
        last: AT,
        boot: 9,
        boot_id: "b".into(),
        base_ms: 300,
        state: BTreeMap::from([("s".to_owned(), StateCount { keys: 11, bytes: 300 })]),
    };
    golden(
        &meta,
        &[
            2, 1, b'n', 7, 8, // format, node, epoch, applied
            1, 2, 172, 2, 1, // last
            9, 1, b'b', 172, 2, // boot, its id, device time there
            1, 1, b's', 11, 172, 2, // keys and bytes of each state store
        ],
    );
}

#[test]
fn a_state_row_keeps_its_bytes_from_version_to_version() {
    let row = StateRow { etag: 300, expires_ms: 5, value: &[9, 8] };
    let bytes = [172, 2, 5, 2, 9, 8];
    assert_eq!(postcard::to_stdvec(&row).unwrap(), bytes);
    let read: StateRow<'_> = postcard::from_bytes(&bytes).unwrap();
    assert_eq!((read.etag, read.expires_ms, read.value), (300, 5, [9, 8].as_slice()));
}

#[test]
fn a_message_row_keeps_its_bytes_from_version_to_version() {
    let body = NewMessage {
        content_type: Some("c".into()),
        attributes: vec![("a".into(), "v".into())],
        key: Some("k".into()),
        priority: 3,
        ttl_ms: Some(4),
        data: vec![5, 6],
    };
    let row = MessageRow { at: AT, born_ms: 1, expires_ms: 2, body };
    let bytes = [
        1, 2, 172, 2, 1, // when
        1, 2, // born, expires
        1, 1, b'c', // content type
        1, 1, b'a', 1, b'v', // attributes
        1, 1, b'k', // key
        3, 1, 4, 2, 5, 6, // priority, time to live, payload
    ];
    golden(&row, &bytes);
}

#[test]
fn a_streams_row_keeps_its_bytes_from_version_to_version() {
    let row = StreamRow {
        topic: Topic::new("p", "t"),
        next: Sequence(9),
        first: Sequence(3),
        messages: 4,
        bytes: 300,
        by_priority: [1, 2, 3, 4, 5, 6, 7, 8],
        losses: Losses {
            expired: 1,
            overflowed: 2,
            dropped: 3,
            unclaimed: 4,
            damaged: 5,
            too_large: 6,
        },
    };
    let bytes = [1, b'p', 1, b't', 9, 3, 4, 172, 2, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6];
    golden(&row, &bytes);
}

#[test]
fn a_cursor_keeps_its_bytes_from_version_to_version() {
    let cursor = Cursor {
        done: Sequence(4),
        ranges: vec![(Sequence(6), Sequence(7))],
        attempts: vec![(Sequence(5), 2)],
    };
    golden(&cursor, &[4, 1, 6, 7, 1, 5, 2]);
}

#[test]
fn rows_of_consumers_limits_and_gaps_keep_their_bytes_from_version_to_version() {
    let spec = ConsumerSpec {
        name: "c".into(),
        kind: ConsumerKind::Uplink,
        filters: vec![Filter { component: "p".into(), topic: "#".into() }],
        dead_letter: Some(Topic::new("p", "d")),
    };
    let bytes = [1, b'c', 1, 1, 1, b'p', 1, b'#', 1, 1, b'p', 1, b'd'];
    golden(&spec, &bytes);
    let reason = InactiveReason::NotSubscribed;
    let inactive = Inactive { reason, collecting: true, ran_ms: 300, seen_ms: 2 };
    let row = ConsumerRow { spec, inactive: Some(inactive) };
    golden(&row, &[&bytes[..], &[1, 1, 1, 172, 2, 2]].concat());
    golden(&ConsumerRow { inactive: None, ..row }, &[&bytes[..], &[0]].concat());
    let limits = StreamLimits {
        max_messages: 1,
        max_bytes: 2,
        max_component_messages: 3,
        max_component_bytes: 4,
        overflow: Overflow::DropLowestPriority,
    };
    golden(&limits, &[1, 2, 3, 4, 3]);
    let losses = [
        Loss::Expired,
        Loss::Overflow,
        Loss::Dropped,
        Loss::Unclaimed,
        Loss::Damaged,
        Loss::TooLarge,
    ];
    for (loss, byte) in losses.into_iter().zip(0..) {
        golden(&(Sequence(9), loss), &[9, byte]);
    }
}
