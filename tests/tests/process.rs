//! The process: how it starts, how it ends, and what it tells of itself.
#![allow(clippy::unwrap_used)]

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::http::Client;
use tests::{App, Device, until};

const TOKEN: &str = "sesame";

#[test]
fn without_any_file_there_is_a_store_and_a_pubsub() {
    let device = Device::new().started();
    device.save("a", &json!(1));
    device.publish("t", &json!(1));
    let components = device.get("/v1.0/metadata").json()["components"].clone();
    let mut kinds: Vec<_> = components.as_array().unwrap().iter().map(name_and_type).collect();
    kinds.sort();
    assert_eq!(kinds, ["pubsub: pubsub.redb", "statestore: state.redb"]);
}

fn name_and_type(component: &Value) -> String {
    let text = |field: &str| component[field].as_str().unwrap_or_default().to_owned();
    format!("{}: {}", text("name"), text("type"))
}

#[test]
fn sigterm_ends_it_gracefully() {
    let mut device = Device::new().started();
    assert_eq!(device.stop().code(), Some(0));
}

#[test]
fn sigterm_ends_it_while_an_app_is_away() {
    let app = App::start(json!([]));
    let mut device = Device::new().with_app(&app);
    drop(app);
    device.start();
    assert_eq!(device.stop().code(), Some(0));
}

#[test]
fn a_closed_terminal_ends_it_gracefully() {
    let mut device = Device::new().started();
    device.save("a", &json!(1));
    // The kernel and the shell each tell of it.
    (0..3).for_each(|_| device.signal(Signal::HUP));
    assert_eq!(device.wait().code(), Some(0));
    assert!(device.log().contains("shutdown complete"), "{}", device.log());
}

#[test]
fn under_nohup_it_outlives_its_terminal() {
    let mut device = Device::new().with_hangup_ignored().started();
    device.signal(Signal::HUP);
    device.save("a", &json!(1));
    assert_eq!(device.stop().code(), Some(0));
}

#[test]
fn an_app_can_ask_for_the_end() {
    let mut device = Device::new().started();
    assert_eq!(device.post("/v1.0/shutdown", &json!(null)).status, 204);
    assert_eq!(device.wait().code(), Some(0));
}

#[test]
fn an_app_can_ask_for_the_end_at_once() {
    let mut device = Device::new().started();
    let force = [("dapr-force-shutdown", "true")];
    let answer = device.send("POST", "/v1.0/shutdown", &force, &[]);
    assert_eq!(answer.unwrap().status, 204);
    assert_eq!(device.wait().code(), Some(1));
}

#[test]
fn health_is_told_before_and_after_the_app_is_there() {
    let app = App::start(json!([]));
    let port = app.port();
    let mut device = Device::new().with_app(&app);
    drop(app);
    device.start();
    assert_eq!(device.get("/v1.0/healthz/outbound").status, 204);
    let answer = device.get("/v1.0/healthz");
    assert_eq!((answer.status, answer.error_code().as_str()), (500, "ERR_HEALTH_NOT_READY"));
    let _app = App::start_at(port, json!([]));
    device.wait_for_app();
    let id = tests::device::APP_ID;
    assert_eq!(device.get(&format!("/v1.0/healthz?appid={id}")).status, 204);
    let answer = device.get("/v1.0/healthz?appid=other");
    assert_eq!((answer.status, answer.error_code().as_str()), (500, "ERR_HEALTH_APPID_NOT_MATCH"));
}

#[test]
fn metadata_tells_the_app_and_its_subscriptions() {
    let app = App::start(json!([{ "pubsubname": "pubsub", "topic": "t", "route": "/t" }]));
    let device = Device::new().with_app(&app).started();
    device.wait_for_app();
    assert_eq!(device.send("PUT", "/v1.0/metadata/color", &[], b"red").unwrap().status, 204);
    let metadata = device.get("/v1.0/metadata").json();
    assert_eq!(metadata["id"], tests::device::APP_ID);
    assert_eq!(metadata["extended"]["color"], "red");
    assert!(metadata["extended"]["daprRuntimeVersion"].as_str().unwrap().starts_with("1."));
    assert_eq!(metadata["appConnectionProperties"]["port"], app.port());
    assert_eq!(metadata["subscriptions"][0]["topic"], "t");
}

#[test]
fn metrics_are_served_in_the_text_of_prometheus() {
    let device = Device::new().started();
    device.save("a", &json!(1));
    let answer = until("metrics are served", || {
        Client::new(device.metrics_port()).send("GET", "/metrics", &[], &[]).ok()
    });
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let samples: Vec<&str> =
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(samples.iter().any(|line| line.starts_with("pannier_")), "{text}");
    for sample in samples {
        let value = sample.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{sample}");
    }
}

#[test]
fn without_the_api_token_nothing_but_health_is_answered() {
    let mut device = Device::new().with_variable("DAPR_API_TOKEN", TOKEN).started();
    for headers in [&[][..], &[("dapr-api-token", "wrong")], &[("dapr-api-token", "")]] {
        let answer = device.send("GET", "/v1.0/metadata", headers, &[]).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (401, "invalid api token"));
    }
    assert_eq!(device.get("/v1.0/healthz").status, 204);
    let answer = device.send("GET", "/v1.0/metadata", &[("dapr-api-token", TOKEN)], &[]);
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(device.stop().code(), Some(0));
}

#[test]
fn an_app_is_shown_its_token_with_each_event() {
    let app = App::start(json!([{ "pubsubname": "pubsub", "topic": "t", "route": "/t" }]));
    let device = Device::new().with_app(&app).with_variable("APP_API_TOKEN", TOKEN).started();
    device.wait_for_app();
    device.publish("t", &json!(1));
    assert_eq!(app.wait_for("/t", 1)[0].header("dapr-api-token"), Some(TOKEN));
}

#[test]
fn it_starts_again_and_again_on_the_same_data() {
    let mut device = Device::new();
    for n in 0..5 {
        device.start();
        device.save(&format!("round-{n}"), &json!(n));
        if n % 2 == 0 { device.kill() } else { assert!(device.stop().success()) }
    }
    device.start();
    for n in 0..5 {
        assert_eq!(device.get(&format!("/v1.0/state/statestore/round-{n}")).json(), json!(n));
    }
}
