//! Input that makes no sense is refused with a reason, and the program goes on.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::json;
use tests::Device;

const STORE: &str = "/v1.0/state/statestore";
const PUBLISH: &str = "/v1.0/publish/pubsub/t";
const BULK: &str = "/v1.0/publish/bulk/pubsub/t";

fn assert_alive(device: &mut Device) {
    assert!(device.is_running());
    device.save("alive", &json!(true));
    assert_eq!(device.get(&format!("{STORE}/alive")).json(), json!(true));
}

fn refused(device: &Device, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    let json = [("Content-Type", "application/json")];
    let answer = device.send(method, path, &json, body).unwrap();
    (answer.status, answer.error_code())
}

#[test]
fn state_requests_that_make_no_sense_are_refused() {
    let mut device = Device::new().started();
    let long_key = format!(r#"[{{"key":"{}","value":1}}]"#, "k".repeat(70_000));
    let cases: [(&str, &str, &[u8], u16, &str); 16] = [
        ("POST", STORE, b"{", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", STORE, b"", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", STORE, b"17", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", STORE, b"{\"key\":\"a\"}", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", STORE, b"[{\"key\":7,\"value\":1}]", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", STORE, b"[{\"value\":1}]", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", STORE, b"[{\"key\":\"a||b\",\"value\":1}]", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", STORE, b"[{\"key\":\"\xff\xfe\",\"value\":1}]", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", STORE, b"[{\"key\":\"a\",\"value\":\"\xc3\x28\"}]", 400, "ERR_MALFORMED_REQUEST"),
        ("POST", STORE, b"[{\"key\":\"a\",\"value\":1,\"etag\":\"x\"}]", 400, "ERR_STATE_SAVE"),
        ("POST", STORE, long_key.as_bytes(), 413, "ERR_STATE_SAVE"),
        ("POST", "/v1.0/state/other", b"[]", 400, "ERR_STATE_STORE_NOT_FOUND"),
        ("GET", "/v1.0/state/other/a", b"", 400, "ERR_STATE_STORE_NOT_FOUND"),
        ("GET", "/v1.0/state/statestore/a%7C%7Cb", b"", 400, "ERR_MALFORMED_REQUEST"),
        ("GET", "/v1.0/state/statestore/a%zz", b"", 400, "ERR_MALFORMED_REQUEST"),
        ("GET", "/v1.0/state/statestore/a%ff", b"", 400, "ERR_MALFORMED_REQUEST"),
    ];
    for (method, path, body, status, code) in cases {
        let expected = (status, code.to_owned());
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]);
        assert_eq!(refused(&device, method, path, body), expected, "{method} {path} {shown}");
    }
    assert_alive(&mut device);
}

#[test]
fn absurd_times_to_live_are_refused_and_save_nothing() {
    let mut device = Device::new().started();
    for ttl in ["-2", "9223372036854775807", "99999999999999999999", "1.5", "soon", "1e3"] {
        let item = json!([{ "key": "a", "value": 1, "metadata": { "ttlInSeconds": ttl } }]);
        let answer = device.post(STORE, &item);
        assert!((400..=500).contains(&answer.status), "{ttl}: {}", answer.status);
        assert!(answer.text().contains("ttlInSeconds"), "{ttl}: {}", answer.text());
        assert_eq!(device.get(&format!("{STORE}/a")).status, 204, "{ttl}");
        let path = format!("{PUBLISH}?metadata.ttlInSeconds={ttl}");
        let answer = device.post(&path, &json!(1));
        assert!(matches!(answer.status, 204 | 400), "{ttl}: {}", answer.status);
    }
    assert_alive(&mut device);
}

/// Bodies that are wrong in as many ways as a caller finds, for each place that reads JSON.
fn malformed_bodies() -> Vec<(String, String)> {
    let shapes =
        ["", "nul", "null", "7", "1.5", "true", r#""a""#, "{}", "[]", "[", "{", r#"{"a":"#];
    let mut bodies: Vec<String> = shapes.iter().map(|shape| (*shape).to_owned()).collect();
    bodies.extend(shapes.iter().map(|shape| format!("[{shape}]")));
    bodies.extend(shapes.iter().map(|shape| format!("[[{shape}]]")));
    for field in ["key", "etag", "metadata", "options", "entryId", "event", "contentType"] {
        bodies.extend(shapes.iter().map(|shape| format!(r#"[{{"{field}":{shape}}}]"#)));
    }
    for field in ["concurrency", "consistency", "ttlInSeconds"] {
        for outer in ["options", "metadata"] {
            bodies.extend(
                shapes
                    .iter()
                    .map(|shape| format!(r#"[{{"key":"a","{outer}":{{"{field}":{shape}}}}}]"#)),
            );
        }
    }
    for field in ["keys", "parallelism", "metadata", "operations"] {
        bodies.extend(shapes.iter().map(|shape| format!(r#"{{"{field}":{shape}}}"#)));
        bodies.extend(shapes.iter().map(|shape| format!(r#"{{"{field}":[{shape}]}}"#)));
    }
    for field in ["operation", "request"] {
        bodies.extend(
            shapes.iter().map(|shape| format!(r#"{{"operations":[{{"{field}":{shape}}}]}}"#)),
        );
    }
    bodies.extend(
        shapes.iter().map(|shape| {
            format!(r#"{{"operations":[{{"operation":"upsert","request":{shape}}}]}}"#)
        }),
    );
    let paths = [
        STORE.to_owned(),
        format!("{STORE}/bulk"),
        format!("{STORE}/transaction"),
        BULK.to_owned(),
        PUBLISH.to_owned(),
    ];
    paths.iter().flat_map(|path| bodies.iter().map(|body| (path.clone(), body.clone()))).collect()
}

#[test]
fn no_answer_names_a_type_of_the_program() {
    let mut device = Device::new().started();
    let mut client = device.client();
    let mut refused = 0;
    for (path, body) in malformed_bodies() {
        for kind in ["application/json", "application/cloudevents+json"] {
            let headers = [("Content-Type", kind)];
            let answer = client.send("POST", &path, &headers, body.as_bytes()).unwrap();
            let text = answer.text();
            refused += usize::from(answer.status >= 400);
            for word in ["struct", "enum", "Wire", "variant", "sequence", " map", "i64", "RawValue"]
            {
                assert!(!text.contains(word), "{path} {body}: {text}");
            }
        }
    }
    assert!(refused > 500, "most of them are refused: {refused}");
    let answer = device.post(STORE, &json!([7]));
    let message = "expected an object with a key and a value, found integer `7`";
    assert!(answer.text().contains(message), "{}", answer.text());
    assert_alive(&mut device);
}

#[test]
fn transactions_and_bulk_gets_that_make_no_sense_are_refused() {
    let mut device = Device::new().started();
    let transaction = format!("{STORE}/transaction");
    let bulk = format!("{STORE}/bulk");
    for (path, body, code) in [
        (&transaction, "[", "ERR_MALFORMED_REQUEST"),
        (&transaction, r#"{"operations":7}"#, "ERR_MALFORMED_REQUEST"),
        (&transaction, r#"{"operations":[{"operation":"upsert"}]}"#, "ERR_MALFORMED_REQUEST"),
        (
            &transaction,
            r#"{"operations":[{"operation":"move","request":{"key":"a"}}]}"#,
            "ERR_NOT_SUPPORTED_STATE_OPERATION",
        ),
        (&bulk, r#"{"keys":"a"}"#, "ERR_MALFORMED_REQUEST"),
        (&bulk, r#"{"keys":["a||b"]}"#, "ERR_MALFORMED_REQUEST"),
    ] {
        let (status, found) = refused(&device, "POST", path, body.as_bytes());
        assert!((400..=500).contains(&status), "{body}: {status}");
        assert!(status == 400 || found == "ERR_MALFORMED_REQUEST", "{body}: {status} {found}");
        assert_eq!(found, code, "{body}");
    }
    assert_alive(&mut device);
}

#[test]
fn publishes_that_make_no_sense_are_refused() {
    let mut device = Device::new().started();
    for (path, body, status, code) in [
        ("/v1.0/publish/other/t", "1", 404, "ERR_PUBSUB_NOT_FOUND"),
        ("/v1.0/publish/pubsub/", "1", 404, "ERR_TOPIC_NAME_EMPTY"),
        (
            "/v1.0/publish/pubsub/t?metadata.rawPayload=maybe",
            "1",
            400,
            "ERR_PUBSUB_REQUEST_METADATA",
        ),
        (BULK, "{", 400, "ERR_PUBSUB_EVENTS_SER"),
        (BULK, r#"[{"event":1,"contentType":"application/json"}]"#, 400, "ERR_PUBSUB_EVENTS_SER"),
        (
            BULK,
            r#"[{"entryId":"1","event":1,"contentType":"application/octet-stream"}]"#,
            400,
            "ERR_PUBSUB_EVENTS_SER",
        ),
    ] {
        let expected = (status, code.to_owned());
        assert_eq!(refused(&device, "POST", path, body.as_bytes()), expected, "{path} {body}");
    }
    let answer =
        device.send("POST", PUBLISH, &[("Content-Type", "application/cloudevents+json")], b"x");
    assert!((400..=500).contains(&answer.unwrap().status));
    assert_alive(&mut device);
}

#[test]
fn a_topic_with_wildcards_or_control_characters_is_refused_by_the_character() {
    let mut device = Device::new().started();
    let bulk = json!([{ "entryId": "1", "event": 1, "contentType": "application/json" }]);
    for (topic, named) in [
        ("sensors/%23", "wildcard #"),
        ("sensors/%2B/room", "wildcard +"),
        ("a%00b", "U+0000"),
        ("a%0Ab", "U+000A"),
        ("a%7F", "U+007F"),
        ("a%C2%85", "U+0085"),
        ("a%EF%BF%BE", "U+FFFE"),
    ] {
        for (path, body) in [("publish", &json!(1)), ("publish/bulk", &bulk)] {
            let answer = device.post(&format!("/v1.0/{path}/pubsub/{topic}"), body);
            let told = (answer.status, answer.error_code());
            assert_eq!(told, (400, "ERR_PUBSUB_PUBLISH_MESSAGE".to_owned()), "{path} {topic}");
            assert!(answer.text().contains(named), "{topic}: {}", answer.text());
        }
    }
    assert_eq!(device.store().streams, [], "none of them was kept");
    device.publish("$sys/%C3%A4", &json!(1));
    assert_alive(&mut device);
}

#[test]
fn a_payload_of_any_bytes_is_taken() {
    let mut device = Device::new().started();
    let all: Vec<u8> = (0..=255).collect();
    for kind in ["application/json", "text/plain", "application/octet-stream", "x", "a/b;c=\u{1}"] {
        // A header may not hold control characters: whatever the answer is, there is one, or an end.
        let answer = device.send("POST", PUBLISH, &[("Content-Type", kind)], &all);
        assert!(answer.is_err() || answer.unwrap().status < 500, "{kind:?}");
    }
    assert_alive(&mut device);
}

#[test]
fn a_topic_of_64_kib_is_refused_and_a_long_one_is_not() {
    let mut device = Device::new().started();
    let longest = "t".repeat(1024);
    assert_eq!(device.post(&format!("/v1.0/publish/pubsub/{longest}"), &json!(1)).status, 204);
    let longer = "t".repeat(1025);
    assert_eq!(device.post(&format!("/v1.0/publish/pubsub/{longer}"), &json!(1)).status, 400);
    // The server may hang up on so long an address before it is read to its end.
    let huge = format!("/v1.0/publish/pubsub/{}", "t".repeat(64 << 10));
    let answer = device.send("POST", &huge, &[], b"1");
    assert!(answer.map_or(true, |answer| (400..500).contains(&answer.status)));
    assert_alive(&mut device);
}

#[test]
fn a_body_over_the_limit_is_413() {
    let mut device = Device::new().started();
    let body = vec![b'1'; (4 << 20) + 1];
    for path in [STORE, PUBLISH, BULK] {
        let answer = device.send("POST", path, &[("Content-Type", "application/json")], &body);
        assert_eq!(answer.unwrap().status, 413, "{path}");
    }
    assert_alive(&mut device);
}

#[test]
fn a_body_over_the_limit_in_chunks_is_413() {
    let mut device = Device::new().started();
    let mut connection = connect(&device);
    let head = format!("POST {PUBLISH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.write_all(head.as_bytes()).unwrap();
    let chunk = [&b"100000\r\n"[..], &vec![b'1'; 1 << 20], b"\r\n"].concat();
    // The answer may come before the last chunk, and the connection be closed then.
    let _ = (0..5).try_for_each(|_| connection.write_all(&chunk));
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_alive(&mut device);
}

#[test]
fn json_that_is_nested_without_end_is_refused() {
    let mut device = Device::new().started();
    let deep = "[".repeat(200_000);
    let (status, _) = refused(&device, "POST", STORE, deep.as_bytes());
    assert_eq!(status, 400);
    let item =
        format!(r#"[{{"key":"a","value":{}1{}}}]"#, "[".repeat(100_000), "]".repeat(100_000));
    let (status, _) = refused(&device, "POST", STORE, item.as_bytes());
    assert!(matches!(status, 204 | 400), "{status}");
    assert_alive(&mut device);
}

#[test]
fn what_is_no_http_is_not_answered_with_an_end() {
    let mut device = Device::new().started();
    let long_header = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let noise: Vec<u8> =
        (0..4096_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let inputs: [&[u8]; 6] = [
        b"\0\0\0\0",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1.0/state/statestore HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        long_header.as_bytes(),
        &noise,
    ];
    for input in inputs {
        let mut connection = connect(&device);
        // The server may have enough of it before it is written to its end.
        let _ = connection.write_all(input);
        let _ = connection.shutdown(Shutdown::Write);
        let _ = connection.read_to_end(&mut Vec::new());
    }
    assert_alive(&mut device);
}

#[test]
fn a_request_that_is_broken_off_changes_nothing() {
    let mut device = Device::new().started();
    let mut connection = connect(&device);
    let head = format!("POST {STORE} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n");
    connection.write_all((head + r#"[{"key":"half","value":1}]"#).as_bytes()).unwrap();
    drop(connection);
    assert_alive(&mut device);
    assert_eq!(device.get(&format!("{STORE}/half")).status, 204);
}

#[test]
fn an_unknown_path_is_an_invocation_without_an_app_id() {
    let device = Device::new().started();
    for path in ["/", "/v2.0/state", "/v1.0/nothing/here"] {
        let answer = device.get(path);
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (404, "ERR_DIRECT_INVOKE"),
            "{path}"
        );
    }
}

fn connect(device: &Device) -> TcpStream {
    let connection = TcpStream::connect(("127.0.0.1", device.http_port())).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection
}
