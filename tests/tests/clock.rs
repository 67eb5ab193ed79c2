//! The wall clock jumps under the running program: what is over its time is so by elapsed time.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use tests::{App, Device, Shim, until};

const YEAR: i64 = 365 * 24 * 3600;

#[test]
fn a_clock_that_jumps_by_years_expires_nothing_early_and_keeps_nothing_for_ever() {
    let Some(shim) = Shim::new("a clock that jumps") else { return };
    let app = App::start(json!([{ "pubsubname": "pubsub", "topic": "t", "route": "/t" }]));
    let port = app.port();
    let mut device = Device::new().with_shim(&shim).with_app(&app);
    drop(app);
    device.start();
    save(&device, "long", "3600");
    publish(&device, "long", "3600");
    for jump in [10 * YEAR, -10 * YEAR, -60 * YEAR, 100 * YEAR, 0] {
        shim.set_clock_ahead(jump);
        save(&device, "short", "2");
        publish(&device, "short", "2");
        assert_eq!(device.get("/v1.0/state/statestore/short").status, 200, "after {jump} s");
        until("what is short lived expires", || {
            Some(()).filter(|()| device.get("/v1.0/state/statestore/short").status == 204)
        });
        assert_eq!(device.get("/v1.0/state/statestore/long").status, 200, "after {jump} s");
    }
    until("what is short lived expires", || {
        Some(()).filter(|()| device.stream("t").lost.expired == 5)
    });
    assert!(device.stop().success());
    shim.set_clock_ahead(20 * YEAR);
    device.start();
    let app = App::start_at(port, json!([{ "pubsubname": "pubsub", "topic": "t", "route": "/t" }]));
    let received = app.wait_for("/t", 1);
    assert_eq!(received[0].event["data"], "long");
    assert_eq!(device.get("/v1.0/state/statestore/long").status, 200);
    assert!(!device.log().contains("ERROR"), "{}", device.log());
}

fn save(device: &Device, key: &str, ttl: &str) {
    let metadata = json!({ "ttlInSeconds": ttl });
    let items = json!([{ "key": key, "value": 1, "metadata": metadata }]);
    assert_eq!(device.post("/v1.0/state/statestore", &items).status, 204);
}

fn publish(device: &Device, data: &str, ttl: &str) {
    let path = format!("/v1.0/publish/pubsub/t?metadata.ttlInSeconds={ttl}");
    assert_eq!(device.post(&path, &json!(data)).status, 204);
}
