#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use axum::body::Body as HttpBody;
use axum::extract::Request;
use axum::http::Method;
use serde_json::json;

use super::super::tests::{Answer, Fixture};

const STORE: &str = "/v1.0/state/store";

async fn delete(api: &Fixture, path: &str, etag: Option<&str>) -> Answer {
    let mut request = Request::builder().method(Method::DELETE).uri(path);
    if let Some(etag) = etag {
        request = request.header("if-match", etag);
    }
    api.send(request.body(HttpBody::empty()).unwrap()).await
}

#[tokio::test]
async fn a_value_comes_back_byte_for_byte() {
    let api = Fixture::new();
    let value = r#"{"exact":12345678901234567890.10,  "text":"ä"}"#;
    let saved = api.post(STORE, &format!(r#"[{{"key":"k","value":{value}}}]"#)).await;
    assert_eq!((saved.status, saved.text.as_str()), (204, ""));
    let found = api.get("/v1.0/state/store/k").await;
    assert_eq!((found.status, found.text.as_str()), (200, value));
    assert_eq!(found.header("content-type"), Some("application/json"));
    assert_eq!(found.header("etag"), Some("1"));
    assert_eq!(found.header("metadata.ttlexpiretime"), None);
    assert!(api.store.row("app||k").is_some());
}

#[tokio::test]
async fn a_missing_key_is_no_content_and_can_be_deleted() {
    let api = Fixture::new();
    assert_eq!(api.get("/v1.0/state/store/k").await.status, 204);
    assert_eq!(delete(&api, "/v1.0/state/store/k", None).await.status, 204);
    let wrong = delete(&api, "/v1.0/state/store/k", Some("1")).await;
    assert_eq!(wrong.code(), (409, "ERR_STATE_DELETE".into()));
}

#[tokio::test]
async fn a_value_that_is_left_out_is_null() {
    let api = Fixture::new();
    assert_eq!(api.post(STORE, r#"[{"key":"k"}]"#).await.status, 204);
    assert_eq!(api.get("/v1.0/state/store/k").await.text, "null");
}

#[tokio::test]
async fn nothing_to_save_is_no_content() {
    let api = Fixture::new();
    for body in ["[]", "null"] {
        assert_eq!(api.post(STORE, body).await.status, 204);
    }
}

#[tokio::test]
async fn a_wrong_etag_is_a_conflict_and_tells_the_callers_key() {
    let api = Fixture::new();
    api.post(STORE, r#"[{"key":"k","value":1}]"#).await;
    let wrong = api.post(STORE, r#"[{"key":"k","value":2,"etag":"9"}]"#).await;
    assert_eq!(wrong.code(), (409, "ERR_STATE_SAVE".into()));
    let message = wrong.message();
    let prefix =
        "failed saving state in state store store: possible etag mismatch. error from state store";
    assert!(message.starts_with(prefix), "{message}");
    assert!(message.contains("\"k\"") && !message.contains("||"), "{message}");
    let invalid = api.post(STORE, r#"[{"key":"k","value":2,"etag":"x"}]"#).await;
    assert_eq!(invalid.code(), (400, "ERR_STATE_SAVE".into()));
    let right = api.post(STORE, r#"[{"key":"k","value":2,"etag":"1"}]"#).await;
    assert_eq!(right.status, 204);
    assert_eq!(delete(&api, "/v1.0/state/store/k", Some("1")).await.status, 409);
    assert_eq!(delete(&api, "/v1.0/state/store/k", Some("2")).await.status, 204);
}

#[tokio::test]
async fn first_write_inserts_once_and_an_empty_etag_counts_as_none() {
    let api = Fixture::new();
    let body = r#"[{"key":"k","value":1,"etag":"","options":{"concurrency":"first-write"}}]"#;
    assert_eq!(api.post(STORE, body).await.status, 204);
    assert_eq!(api.post(STORE, body).await.code(), (409, "ERR_STATE_SAVE".into()));
    let first = "/v1.0/state/store/k?concurrency=first-write&consistency=eventual";
    assert_eq!(delete(&api, first, None).await.status, 204);
}

#[tokio::test]
async fn unknown_options_are_errors() {
    let api = Fixture::new();
    for option in ["concurrency", "consistency"] {
        let body = format!(r#"[{{"key":"k","value":1,"options":{{"{option}":"maybe"}}}}]"#);
        let answer = api.post(STORE, &body).await;
        assert_eq!(answer.code(), (500, "ERR_STATE_SAVE".into()));
        assert!(answer.message().contains("'maybe'"));
        let path = format!("/v1.0/state/store/k?{option}=maybe");
        assert_eq!(delete(&api, &path, None).await.code(), (500, "ERR_STATE_DELETE".into()));
    }
    let read = api.get("/v1.0/state/store/k?consistency=maybe").await;
    assert_eq!(read.code(), (500, "ERR_STATE_GET".into()));
}

#[tokio::test]
async fn the_urls_metadata_overrides_the_items_and_expiry_is_told() {
    let api = Fixture::new();
    let body = r#"[{"key":"k","value":1,"metadata":{"ttlInSeconds":"5"}}]"#;
    let path = "/v1.0/state/store?metadata.ttlInSeconds=3600";
    assert_eq!(api.post(path, body).await.status, 204);
    let expires = api.store.row("app||k").unwrap().expires_in.unwrap();
    assert_eq!(expires.as_secs(), 3600);
    let found = api.get("/v1.0/state/store/k").await;
    let time = found.header("metadata.ttlexpiretime").unwrap();
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
}

#[tokio::test]
async fn a_time_to_live_of_minus_one_or_zero_clears_it() {
    let api = Fixture::new();
    for ttl in ["-1", "0", ""] {
        let body = format!(r#"[{{"key":"k","value":1,"metadata":{{"ttlInSeconds":"{ttl}"}}}}]"#);
        assert_eq!(api.post(STORE, &body).await.status, 204);
        assert_eq!(api.store.row("app||k").unwrap().expires_in, None);
    }
}

#[tokio::test]
async fn an_absurd_time_to_live_is_an_error_that_names_the_limit() {
    let api = Fixture::new();
    for ttl in ["-2", "1.5", "soon", "99999999999999999999", "9223372036854775807"] {
        let body = format!(r#"[{{"key":"k","value":1,"metadata":{{"ttlInSeconds":"{ttl}"}}}}]"#);
        let answer = api.post(STORE, &body).await;
        assert_eq!(answer.code(), (500, "ERR_STATE_SAVE".into()), "{ttl}");
        assert!(answer.message().contains("from -1 to 3153600000"), "{}", answer.message());
    }
    assert!(api.store.row("app||k").is_none());
}

#[tokio::test]
async fn bodies_that_make_no_sense_are_malformed() {
    let api = Fixture::new();
    for body in [
        "",
        "{",
        "{}",
        "[1]",
        r#"[{"key":1}]"#,
        r#"[{"key":""}]"#,
        r#"[{"value":1}]"#,
        r#"[{"key":"a||b","value":1}]"#,
        r#"[{"key":"k","value":}]"#,
        r#"[{"key":"k","metadata":{"a":1}}]"#,
    ] {
        let answer = api.post(STORE, body).await;
        assert_eq!(answer.code(), (400, "ERR_MALFORMED_REQUEST".into()), "{body}");
    }
    let missing = api.post(STORE, r#"[{"value":1}]"#).await;
    assert_eq!(missing.message(), "\"key\" is a required field");
}

#[tokio::test]
async fn a_body_that_is_no_utf8_is_malformed() {
    let api = Fixture::new();
    let body = HttpBody::from(b"[{\"key\":\"k\",\"value\":\"\xff\"}]".to_vec());
    let request = Request::builder().method(Method::PUT).uri(STORE).body(body).unwrap();
    assert_eq!(api.send(request).await.code(), (400, "ERR_MALFORMED_REQUEST".into()));
}

#[tokio::test]
async fn an_illegal_key_is_told_with_daprs_details() {
    let api = Fixture::new();
    let answer = api.get("/v1.0/state/store/a%7C%7Cb").await;
    let message = "input key/keyPrefix 'a||b' can't contain '||'";
    let expected = json!({
        "errorCode": "ERR_MALFORMED_REQUEST",
        "message": message,
        "details": [
            { "@type": "type.googleapis.com/google.rpc.BadRequest",
              "field_violations": [{ "field": "a||b", "description": message }] },
            { "@type": "type.googleapis.com/google.rpc.ResourceInfo", "description": "",
              "owner": "", "resource_name": "store", "resource_type": "state" },
            { "@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "dapr.io",
              "metadata": null, "reason": "DAPR_STATE_ILLEGAL_KEY" },
        ],
    });
    assert_eq!((answer.status, answer.json()), (400, expected));
}

#[tokio::test]
async fn an_unknown_store_and_no_store_are_told_apart() {
    let api = Fixture::new();
    for (method, path) in [
        (Method::GET, "/v1.0/state/other/k"),
        (Method::DELETE, "/v1.0/state/other/k"),
        (Method::POST, "/v1.0/state/other"),
        (Method::POST, "/v1.0/state/other/bulk"),
        (Method::POST, "/v1.0/state/other/transaction"),
        (Method::POST, "/v1.0-alpha1/state/other/query"),
    ] {
        let answer = api.call(method, path, "[]").await;
        assert_eq!(answer.code(), (400, "ERR_STATE_STORE_NOT_FOUND".into()), "{path}");
        let details = &answer.json()["details"];
        assert_eq!(details[0]["reason"], "DAPR_STATE_NOT_FOUND");
        assert_eq!(details[0]["metadata"], json!({ "appID": "app" }));
    }
    let none = Fixture::with(|api| api.registry = Arc::default());
    let answer = none.get("/v1.0/state/store/k").await;
    assert_eq!(answer.code(), (500, "ERR_STATE_STORE_NOT_CONFIGURED".into()));
    assert_eq!(answer.message(), "state store store is not configured");
}

#[tokio::test]
async fn an_unknown_store_is_told_whatever_the_body_is() {
    let api = Fixture::new();
    let too_large = "x".repeat(2000);
    for path in ["other", "other/bulk", "other/transaction"] {
        let answer = api.post(&format!("/v1.0/state/{path}"), &too_large).await;
        assert_eq!(answer.code(), (400, "ERR_STATE_STORE_NOT_FOUND".into()), "{path}");
    }
}

#[tokio::test]
async fn what_the_store_refuses_has_a_status_of_its_own() {
    let api = Fixture::new();
    for (key, status) in [("full", 507), ("large", 413), ("poisoned", 503), ("broken", 500)] {
        let saved = api.post(STORE, &format!(r#"[{{"key":"{key}","value":1}}]"#)).await;
        assert_eq!(saved.code(), (status, "ERR_STATE_SAVE".into()));
        let body = format!(
            r#"{{"operations":[{{"operation":"upsert","request":{{"key":"{key}","value":1}}}}]}}"#
        );
        let done = api.post("/v1.0/state/store/transaction", &body).await;
        assert_eq!(done.code(), (status, "ERR_STATE_TRANSACTION".into()));
    }
    let read = api.get("/v1.0/state/store/broken").await;
    assert_eq!(read.code(), (500, "ERR_STATE_GET".into()));
    assert_eq!(read.message(), "fail to get broken from state store store: no luck");
}

#[tokio::test]
async fn a_bulk_get_keeps_the_order_and_tells_missing_keys_alone() {
    let api = Fixture::new();
    api.post(STORE, r#"[{"key":"a","value":1.0},{"key":"b","value":"x"}]"#).await;
    let body = r#"{"keys":["b","none","a","broken"],"parallelism":2}"#;
    let answer = api.post("/v1.0/state/store/bulk", body).await;
    let expected = r#"[{"key":"b","data":"x","etag":"1"},{"key":"none"},{"key":"a","data":1.0,"etag":"1"},{"key":"broken","error":"no luck"}]"#;
    assert_eq!((answer.status, answer.text.as_str()), (200, expected));
    assert_eq!(api.post("/v1.0/state/store/bulk", "{}").await.text, "[]");
    let bad = api.post("/v1.0/state/store/bulk", r#"{"keys":"a"}"#).await;
    assert_eq!(bad.code(), (400, "ERR_MALFORMED_REQUEST".into()));
    assert!(bad.message().starts_with("failed deserializing HTTP body: "));
}

#[tokio::test]
async fn a_key_may_have_the_name_of_a_route() {
    let api = Fixture::new();
    api.post(STORE, r#"[{"key":"bulk","value":1},{"key":"transaction","value":2}]"#).await;
    assert_eq!(api.get("/v1.0/state/store/bulk").await.text, "1");
    assert_eq!(delete(&api, "/v1.0/state/store/transaction", Some("1")).await.status, 204);
}

#[tokio::test]
async fn a_transaction_happens_whole_or_not_at_all() {
    let api = Fixture::new();
    api.post(STORE, r#"[{"key":"a","value":1}]"#).await;
    let path = "/v1.0/state/store/transaction";
    let body = |etag| {
        json!({ "operations": [
            { "operation": "upsert", "request": { "key": "b", "value": { "n": 2 } } },
            { "operation": "delete", "request": { "key": "a", "etag": etag } },
        ]})
        .to_string()
    };
    let wrong = api.post(path, &body("9")).await;
    assert_eq!(wrong.code(), (500, "ERR_STATE_TRANSACTION".into()));
    assert!(wrong.message().starts_with("error while executing state transaction: "));
    assert!(api.store.row("app||b").is_none());
    assert_eq!(api.post(path, &body("1")).await.status, 204);
    assert_eq!(api.store.row("app||b").unwrap().value, br#"{"n":2}"#);
    assert!(api.store.row("app||a").is_none());
}

#[tokio::test]
async fn a_transaction_that_makes_no_sense_is_refused() {
    let api = Fixture::new();
    let path = "/v1.0/state/store/transaction";
    assert_eq!(api.post(path, r#"{"operations":[]}"#).await.status, 204);
    let unknown = r#"{"operations":[{"operation":"merge","request":{"key":"a"}}]}"#;
    let answer = api.post(path, unknown).await;
    assert_eq!(answer.code(), (400, "ERR_NOT_SUPPORTED_STATE_OPERATION".into()));
    assert_eq!(answer.message(), "operation type merge not supported");
    let operation = json!({ "operation": "delete", "request": { "key": "a" } });
    let many = json!({ "operations": vec![operation; 4] }).to_string();
    let answer = api.post(path, &many).await;
    assert_eq!(answer.code(), (400, "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS".into()));
    let info = &answer.json()["details"][1];
    assert_eq!(info["metadata"], json!({"currentOpsTransaction":"4","maxOpsPerTransaction":"3"}));
    for body in ["[]", "{", r#"{"operations":[{"operation":"upsert"}]}"#] {
        let answer = api.post(path, body).await;
        assert_eq!(answer.code(), (400, "ERR_MALFORMED_REQUEST".into()), "{body}");
    }
}

#[tokio::test]
async fn a_query_is_refused_as_dapr_does_for_stores_without() {
    let api = Fixture::new();
    let answer = api.post("/v1.0-alpha1/state/store/query", "{}").await;
    assert_eq!(answer.code(), (500, "ERR_STATE_STORE_NOT_SUPPORTED".into()));
    assert_eq!(answer.message(), "state store does not support querying");
    assert_eq!(answer.json()["details"][1]["reason"], "DAPR_STATE_QUERYING_NOT_SUPPORTED");
}
