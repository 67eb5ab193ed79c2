//! Scopes: a component that an app is left out of isn't there for it.
#![allow(clippy::unwrap_used)]

use serde_json::json;
use tests::{App, Device};

/// A component, and the apps that may use it.
fn component(name: &str, kind: &str, scope: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec:\n  \
         type: {kind}\n  version: v1\nscopes: [{scope}]\n---\n"
    )
}

fn device(components: &[(&str, &str, &str)]) -> Device {
    let text: String =
        components.iter().map(|(name, kind, scope)| component(name, kind, scope)).collect();
    Device::new().with_resource("components.yaml", &text)
}

fn outcome(device: &Device, path: &str, body: &serde_json::Value) -> (u16, String) {
    let answer = device.post(path, body);
    (answer.status, answer.error_code())
}

#[test]
fn a_store_of_another_app_is_not_found() {
    let device =
        device(&[("ours", "state.redb", "tester"), ("theirs", "state.redb", "another-app")])
            .started();
    let items = json!([{ "key": "a", "value": 1 }]);
    let expected = (400, "ERR_STATE_STORE_NOT_FOUND".to_owned());
    assert_eq!(outcome(&device, "/v1.0/state/theirs", &items), expected);
    assert_eq!(outcome(&device, "/v1.0/state/ours", &items).0, 204);
    let names = device.get("/v1.0/metadata").json()["components"].to_string();
    assert!(names.contains("ours") && !names.contains("theirs"), "{names}");
}

#[test]
fn without_any_store_of_its_own_an_app_has_none() {
    let device = device(&[("theirs", "state.redb", "another-app")]).started();
    let answer = device.post("/v1.0/state/theirs", &json!([{ "key": "a", "value": 1 }]));
    assert_eq!(answer.status, 500);
    assert_eq!(answer.error_code(), "ERR_STATE_STORE_NOT_CONFIGURED");
}

#[test]
fn a_pubsub_of_another_app_is_not_found() {
    let device =
        device(&[("ours", "pubsub.redb", "tester"), ("theirs", "pubsub.redb", "another-app")])
            .started();
    let expected = (404, "ERR_PUBSUB_NOT_FOUND".to_owned());
    assert_eq!(outcome(&device, "/v1.0/publish/theirs/t", &json!(1)), expected);
    assert_eq!(outcome(&device, "/v1.0/publish/bulk/theirs/t", &json!([])), expected);
    assert_eq!(outcome(&device, "/v1.0/publish/ours/t", &json!(1)).0, 204);
}

#[test]
fn without_any_pubsub_of_its_own_an_app_has_none() {
    let device = device(&[("theirs", "pubsub.redb", "another-app")]).started();
    let expected = (400, "ERR_PUBSUB_NOT_CONFIGURED".to_owned());
    assert_eq!(outcome(&device, "/v1.0/publish/theirs/t", &json!(1)), expected);
}

#[test]
fn a_subscription_to_another_apps_pubsub_gets_nothing_and_holds_up_no_other() {
    let app = App::start(json!([
        { "pubsubname": "theirs", "topic": "t", "route": "/theirs" },
        { "pubsubname": "ours", "topic": "t", "route": "/ours" },
    ]));
    let device =
        device(&[("ours", "pubsub.redb", "tester"), ("theirs", "pubsub.redb", "another-app")])
            .with_app(&app)
            .started();
    device.wait_for_app();
    assert_eq!(device.post("/v1.0/publish/ours/t", &json!(1)).status, 204);
    assert_eq!(app.wait_for("/ours", 1).len(), 1);
    let subscriptions = device.get("/v1.0/metadata").json()["subscriptions"].to_string();
    assert!(!subscriptions.contains("theirs"), "{subscriptions}");
}
