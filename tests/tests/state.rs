//! State: what Dapr's API promises, over the whole program.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Device, until};

const STORE: &str = "/v1.0/state/statestore";

fn key(name: &str) -> String {
    format!("{STORE}/{name}")
}

#[test]
fn a_saved_value_is_read_back_with_an_etag() {
    let device = Device::new().started();
    device.save("a", &json!({ "speed": 12.50, "big": 12_345_678_901_234_567_890_u64 }));
    let answer = device.get(&key("a"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("etag").is_some_and(|etag| !etag.is_empty()));
    assert_eq!(answer.json(), json!({ "speed": 12.5, "big": 12_345_678_901_234_567_890_u64 }));
}

#[test]
fn a_key_that_is_not_there_is_204_and_can_be_deleted() {
    let device = Device::new().started();
    let answer = device.get(&key("none"));
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(device.send("DELETE", &key("none"), &[], &[]).unwrap().status, 204);
}

#[test]
fn a_key_may_hold_any_text_once_it_is_escaped() {
    let device = Device::new().started();
    device.save("ä/b c", &json!(1));
    assert_eq!(device.get(&key("%C3%A4%2Fb%20c")).json(), json!(1));
}

#[test]
fn a_wrong_etag_is_409_and_changes_nothing() {
    let device = Device::new().started();
    device.save("a", &json!(1));
    let old = device.get(&key("a")).header("etag").unwrap().to_owned();
    device.save("a", &json!(2));
    let answer = device.post(STORE, &json!([{ "key": "a", "value": 3, "etag": old }]));
    assert_eq!((answer.status, answer.error_code().as_str()), (409, "ERR_STATE_SAVE"));
    let deleted = device.send("DELETE", &key("a"), &[("If-Match", &old)], &[]).unwrap();
    assert_eq!((deleted.status, deleted.error_code().as_str()), (409, "ERR_STATE_DELETE"));
    assert_eq!(device.get(&key("a")).json(), json!(2));
    let current = device.get(&key("a")).header("etag").unwrap().to_owned();
    let answer = device.post(STORE, &json!([{ "key": "a", "value": 3, "etag": current }]));
    assert_eq!(answer.status, 204);
    assert_eq!(device.get(&key("a")).json(), json!(3));
}

#[test]
fn the_first_write_wins_where_it_is_asked_for() {
    let device = Device::new().started();
    let options = json!({ "concurrency": "first-write" });
    let item = |value: i32| json!([{ "key": "a", "value": value, "options": options }]);
    assert_eq!(device.post(STORE, &item(1)).status, 204);
    assert_eq!(device.post(STORE, &item(2)).status, 409);
    assert_eq!(device.get(&key("a")).json(), json!(1));
}

#[test]
fn a_value_is_gone_when_its_time_is_over() {
    let device = Device::new().started();
    let item = json!([{ "key": "a", "value": 1, "metadata": { "ttlInSeconds": "1" } }]);
    assert_eq!(device.post(STORE, &item).status, 204);
    let answer = device.get(&key("a"));
    if answer.status == 200 {
        assert!(answer.header("metadata.ttlexpiretime").is_some());
    }
    until("the value expires", || Some(()).filter(|()| device.get(&key("a")).status == 204));
}

#[test]
fn time_to_live_goes_on_over_a_restart() {
    let mut device = Device::new().started();
    let item = |name: &str, ttl: &str| json!([{ "key": name, "value": 1, "metadata": { "ttlInSeconds": ttl } }]);
    assert_eq!(device.post(STORE, &item("short", "1")).status, 204);
    assert_eq!(device.post(STORE, &item("long", "1000")).status, 204);
    device.kill();
    device.start();
    assert!(device.get(&key("long")).header("metadata.ttlexpiretime").is_some());
    until("the value expires", || Some(()).filter(|()| device.get(&key("short")).status == 204));
}

#[test]
fn a_transaction_does_all_or_nothing() {
    let device = Device::new().started();
    device.save("old", &json!(1));
    let operations = |etag: &str| {
        json!({ "operations": [
            { "operation": "upsert", "request": { "key": "new", "value": 2 } },
            { "operation": "delete", "request": { "key": "old", "etag": etag } },
        ] })
    };
    let path = format!("{STORE}/transaction");
    let refused = device.post(&path, &operations("999999"));
    assert_eq!((refused.status, refused.error_code().as_str()), (500, "ERR_STATE_TRANSACTION"));
    assert_eq!(device.get(&key("new")).status, 204);
    assert_eq!(device.get(&key("old")).json(), json!(1));
    assert_eq!(device.post(&path, &operations("")).status, 204);
    assert_eq!(device.get(&key("new")).json(), json!(2));
    assert_eq!(device.get(&key("old")).status, 204);
}

#[test]
fn a_query_is_refused_by_stores_without() {
    let device = Device::new().started();
    let answer = device.post("/v1.0-alpha1/state/statestore/query", &json!({ "filter": {} }));
    assert_eq!(answer.status, 500);
    assert_eq!(answer.error_code(), "ERR_STATE_STORE_NOT_SUPPORTED");
}

#[test]
fn stores_that_share_a_prefix_share_their_keys_with_the_apps_that_they_are_for() {
    let component = |name: &str, prefix: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec:\n  \
             type: state.redb\n  version: v1\n  metadata: [{{name: keyPrefix, value: {prefix}}}]\n"
        )
    };
    let port = tests::free_port();
    let app = format!(
        "apiVersion: pannier.dev/v1\nkind: App\nmetadata: {{name: other}}\nspec: {{httpPort: {port}}}\n"
    );
    let names = ["own", "shared"];
    let resources = [component("own", "appid"), component("shared", "name"), app].join("---\n");
    let device = Device::new().with_resource("resources.yaml", &resources).started();
    for name in names {
        let items = json!([{ "key": "a", "value": name }]);
        assert_eq!(device.post(&format!("/v1.0/state/{name}"), &items).status, 204);
    }
    let mut other = tests::http::Client::new(port);
    let mut status =
        |name: &str| other.send("GET", &format!("/v1.0/state/{name}/a"), &[], &[]).unwrap().status;
    assert_eq!((status("own"), status("shared")), (204, 200));
}

#[test]
fn a_bulk_get_has_an_entry_for_each_key() {
    let device = Device::new().started();
    device.save("a", &json!({ "x": 1 }));
    device.save("b", &json!("two"));
    let answer = device.post(&format!("{STORE}/bulk"), &json!({ "keys": ["a", "b", "c"] }));
    assert_eq!(answer.status, 200);
    let mut rows = answer.json();
    let rows = rows.as_array_mut().unwrap();
    rows.sort_by_key(|row| row["key"].to_string());
    assert_eq!((&rows[0]["data"], &rows[1]["data"]), (&json!({ "x": 1 }), &json!("two")));
    assert!(rows[0]["etag"].is_string());
    assert_eq!(rows[2], json!({ "key": "c" }));
}

#[test]
fn state_outlives_both_ways_of_ending() {
    let mut device = Device::new().started();
    let values = 1..=20;
    for n in values.clone() {
        device.save(&format!("before-{n}"), &json!(n));
    }
    assert!(device.stop().success());
    device.start();
    for n in values.clone() {
        device.save(&format!("after-{n}"), &json!(n));
    }
    device.kill();
    device.start();
    for n in values {
        assert_eq!(device.get(&key(&format!("before-{n}"))).json(), json!(n));
        assert_eq!(device.get(&key(&format!("after-{n}"))).json(), json!(n));
    }
}

#[test]
fn etags_still_hold_after_a_restart() {
    let mut device = Device::new().started();
    device.save("a", &json!(1));
    let etag = device.get(&key("a")).header("etag").unwrap().to_owned();
    device.kill();
    device.start();
    assert_eq!(device.get(&key("a")).header("etag"), Some(etag.as_str()));
    let item = json!([{ "key": "a", "value": 2, "etag": etag }]);
    assert_eq!(device.post(STORE, &item).status, 204);
    assert_eq!(device.post(STORE, &item).status, 409);
}

#[test]
fn a_store_in_memory_forgets_and_the_durable_one_beside_it_does_not() {
    let resource = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: cache}\n\
        spec: {type: state.in-memory, version: v1}\n---\n\
        apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: kept}\n\
        spec: {type: state.redb, version: v1}\n";
    let mut device = Device::new().with_resource("stores.yaml", resource).started();
    let items = json!([{ "key": "a", "value": 1 }]);
    let read = |device: &Device, store: &str| -> Option<Value> {
        let answer = device.get(&format!("/v1.0/state/{store}/a"));
        (answer.status == 200).then(|| answer.json())
    };
    for store in ["cache", "kept"] {
        assert_eq!(device.post(&format!("/v1.0/state/{store}"), &items).status, 204);
        assert_eq!(read(&device, store), Some(json!(1)));
    }
    device.stop();
    device.start();
    assert_eq!(read(&device, "cache"), None);
    assert_eq!(read(&device, "kept"), Some(json!(1)));
}

#[test]
fn many_clients_at_once_lose_no_update() {
    const CLIENTS: usize = 4;
    const UPDATES: usize = 25;
    let device = Device::new().started();
    device.save("count", &json!(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| (0..UPDATES).for_each(|_| increment(&device)));
        }
    });
    assert_eq!(device.get(&key("count")).json(), json!(CLIENTS * UPDATES));
}

/// Compares and swaps until it succeeds.
fn increment(device: &Device) {
    let backoff = Duration::from_millis(1);
    let mut client = device.client();
    loop {
        let answer = client.send("GET", &key("count"), &[], &[]).unwrap();
        let value = answer.json().as_u64().unwrap() + 1;
        let item =
            json!([{ "key": "count", "value": value, "etag": answer.header("etag").unwrap() }]);
        let saved = client.send("POST", STORE, &[], item.to_string().as_bytes()).unwrap();
        match saved.status {
            204 => return,
            409 => std::thread::sleep(backoff),
            status => panic!("{status}: {}", saved.text()),
        }
    }
}
