//! The command line: what is wrong with the resources is told at once, and all of it.
#![allow(clippy::unwrap_used)]

use std::fs;

use tests::binary::{self, Finished};
use tests::{Device, Directory, certificates};

/// sysexits.h: `EX_CONFIG`.
const CONFIGURATION_ERROR: i32 = 78;

const WRONG_UPLINK: &str = "apiVersion: pannier.dev/v1
kind: Uplink
metadata: {name: up}
spec:
  mqtt: {url: \"http://broker.example\", keepAlive: 30}
  routes: [{topic: \"sensors/#\", too: x}]
";

const WRONG_COMPONENT: &str = "apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: store}
spec: {type: redis}
";

const RIGHT: &str = "apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: store}
spec: {type: state.redb, version: v1}
";

fn check(files: &[(&str, &str)]) -> Finished {
    let directory = Directory::new();
    for (name, text) in files {
        directory.write(name, text);
    }
    binary::run(&["check", "--resources-path", directory.path().to_str().unwrap()])
}

#[test]
fn check_tells_every_error_with_file_and_line() {
    let finished = check(&[("a.yaml", WRONG_UPLINK), ("b.yaml", WRONG_COMPONENT)]);
    assert_eq!(finished.code, Some(CONFIGURATION_ERROR), "{}", finished.said);
    for told in ["a.yaml:5", "keepAlive", "a.yaml:6", "too", "b.yaml:4", "redis"] {
        assert!(finished.said.contains(told), "{told} is not in:\n{}", finished.said);
    }
}

#[test]
fn check_says_how_much_it_has_read_and_found() {
    let odd = RIGHT.replace("store", "odd") + "extra: 1\n";
    let wrong = WRONG_COMPONENT.replace("redis", "state.redis");
    let other = RIGHT.replace("store", "other");
    for (files, code, summary) in [
        (&[("a.yaml", RIGHT)][..], 0, "1 resource in 1 file: no problems"),
        (&[("a.yaml", RIGHT), ("b.yaml", &other)], 0, "2 resources in 2 files: no problems"),
        (&[("a.yaml", RIGHT), ("b.yaml", &odd)], 0, "2 resources in 2 files: 1 warning"),
        (&[("a.yaml", &odd), ("b.yaml", &wrong)], 78, "2 resources in 2 files: 1 error, 1 warning"),
        (&[], 0, "no resources in the paths given: Pannier would run with its defaults"),
    ] {
        let finished = check(files);
        assert_eq!(finished.code, Some(code), "{}", finished.said);
        assert_eq!(finished.said.lines().last(), Some(summary), "{}", finished.said);
    }
}

#[test]
fn check_without_a_path_says_that_it_checked_nothing() {
    let finished = binary::run(&["check"]);
    assert_eq!(finished.code, Some(2), "{}", finished.said);
    for told in ["nothing was checked", "--resources-path", "pannier check /etc/pannier"] {
        assert!(finished.said.contains(told), "{told} is not in:\n{}", finished.said);
    }
}

/// An uplink over TLS that names these files.
fn uplink_with(ca: &str, cert: &str, key: &str, password: &str) -> String {
    format!(
        "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {{name: up}}\nspec:\n  mqtt:\n    url: \
         \"mqtts://127.0.0.1:9\"\n    caCert: {ca}\n    clientCert: {cert}\n    clientKey: {key}\n    \
         username: u\n    password: {{file: {password}}}\n  routes: [{{topic: a}}]\n"
    )
}

/// The files of an uplink, and what `check` says of them.
struct Files(Directory);

impl Files {
    fn new() -> Self {
        let directory = Directory::new();
        let made = certificates::make();
        directory.write("ca.pem", &made.ca);
        directory.write("cert.pem", &made.client_certificate);
        directory.write("key.pem", &made.client_key);
        directory.write("other-key.pem", &made.key);
        directory.write("password", "sesame\n");
        directory.write("garbage", "no PEM in here\n");
        directory.write("empty", "");
        fs::write(directory.path().join("latin"), b"caf\xe9\n").unwrap();
        fs::create_dir(directory.path().join("directory")).unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn uplink(&self, [ca, cert, key, password]: [&str; 4]) -> String {
        let [ca, cert, key, password] = [ca, cert, key, password].map(|name| self.path(name));
        uplink_with(&ca, &cert, &key, &password)
    }
}

const RIGHT_FILES: [&str; 4] = ["ca.pem", "cert.pem", "key.pem", "password"];

#[test]
fn files_of_an_uplink_that_are_not_there_yet_are_warnings() {
    let files = Files::new();
    let finished = check(&[("up.yaml", &files.uplink(RIGHT_FILES))]);
    assert_eq!(finished.code, Some(0), "{}", finished.said);
    assert!(finished.said.contains("no problems"), "{}", finished.said);
    let finished = check(&[("up.yaml", &files.uplink(["no-ca", "no-cert", "no-key", "no-word"]))]);
    assert_eq!(finished.code, Some(0), "{}", finished.said);
    for (field, name) in [
        ("spec.mqtt.caCert", "no-ca"),
        ("spec.mqtt.clientCert", "no-cert"),
        ("spec.mqtt.clientKey", "no-key"),
        ("spec.mqtt.password", "no-word"),
    ] {
        let path = files.path(name);
        let told = |line: &str| {
            line.starts_with("warning: ")
                && ["up.yaml:1: ", field, &path].iter().all(|part| line.contains(part))
        };
        assert!(finished.said.lines().any(told), "{field} is not in:\n{}", finished.said);
    }
    assert!(finished.said.contains("1 resource in 1 file: 4 warnings"), "{}", finished.said);
}

#[test]
fn files_of_an_uplink_that_are_wrong_are_errors() {
    let files = Files::new();
    let [ca, cert, key, password] = RIGHT_FILES;
    for (names, field, told) in [
        (["garbage", cert, key, password], "spec.mqtt.caCert", "no usable certificate"),
        (["empty", cert, key, password], "spec.mqtt.caCert", "no usable certificate"),
        ([key, cert, key, password], "spec.mqtt.caCert", "no usable certificate"),
        (["directory", cert, key, password], "spec.mqtt.caCert", "directory"),
        ([ca, key, key, password], "spec.mqtt.clientCert", "no usable certificate"),
        ([ca, cert, cert, password], "spec.mqtt.clientKey", "no usable private key"),
        ([ca, cert, "other-key.pem", password], "spec.mqtt.clientKey", "doesn't belong to"),
        ([ca, cert, key, "latin"], "spec.mqtt.password", "UTF-8"),
        ([ca, cert, key, "empty"], "spec.mqtt.password", "empty"),
        ([ca, cert, key, "directory"], "spec.mqtt.password", "directory"),
    ] {
        let finished = check(&[("up.yaml", &files.uplink(names))]);
        assert_eq!(finished.code, Some(CONFIGURATION_ERROR), "{names:?} {}", finished.said);
        for told in ["up.yaml:1: ", field, told, "1 resource in 1 file: 1 error"] {
            assert!(finished.said.contains(told), "{told} is not in:\n{}", finished.said);
        }
    }
}

#[test]
fn an_uplink_with_a_broken_certificate_does_not_keep_the_device_from_starting() {
    let files = Files::new();
    let uplink = files.uplink(["garbage", "cert.pem", "key.pem", "password"]);
    let mut device = Device::new().with_resource("up.yaml", &uplink).started();
    device.save("a", &serde_json::json!(1));
    assert!(device.log().contains("no usable certificate"), "{}", device.log());
    assert!(device.is_running());
}

#[test]
fn an_apps_token_that_is_not_there_yet_is_a_warning_to_check_and_an_error_to_run() {
    let files = Files::new();
    let app = |token: &str| {
        format!(
            "apiVersion: pannier.dev/v1\nkind: App\nmetadata: {{name: a}}\nspec:\n  apiToken: {{file: \
             {}}}\n",
            files.path(token)
        )
    };
    let finished = check(&[("app.yaml", &app("gone"))]);
    assert_eq!(finished.code, Some(0), "{}", finished.said);
    assert!(finished.said.contains("warning: "), "{}", finished.said);
    assert!(finished.said.contains("spec.apiToken"), "{}", finished.said);
    let device = Device::new().with_resource("app.yaml", &app("gone"));
    let finished = binary::run_command(&mut device.command());
    assert_eq!(finished.code, Some(CONFIGURATION_ERROR), "{}", finished.said);
    for wrong in ["empty", "latin", "directory"] {
        let finished = check(&[("app.yaml", &app(wrong))]);
        assert_eq!(finished.code, Some(CONFIGURATION_ERROR), "{wrong}: {}", finished.said);
        assert!(finished.said.contains("app.yaml:1: spec.apiToken"), "{}", finished.said);
    }
}

fn subscription(pubsub: &str, more: &str) -> String {
    format!(
        "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {{name: s}}\nspec:\n  \
         pubsubname: {pubsub}\n  topic: orders\n  routes:\n    rules:\n    - {{match: 'event.type == \
         \"a\"', path: /a}}\n{more}"
    )
}

/// Subscriptions that could never work, and what is told of them.
fn impossible_subscriptions() -> [(String, &'static [&'static str]); 6] {
    let rule = |rule: &str| {
        subscription("pubsub", &format!("    - {{match: '{rule}', path: /b}}\n    default: /c\n"))
    };
    [
        (subscription("nosuch", "    default: /c\n"), &["\"nosuch\"", "pubsub"]),
        (subscription("statestore", "    default: /c\n"), &["\"statestore\"", "pubsub"]),
        (rule("event.type =="), &["spec.routes.rules[1]", "CEL", "event.type =="]),
        (rule("((((("), &["spec.routes.rules[1]", "CEL"]),
        (
            subscription("pubsub", "    default: /c\n  deadLetterTopic: 'a/#'\n"),
            &["spec.deadLetterTopic", "wildcard"],
        ),
        (
            subscription("pubsub", "    default: /c\n  metadata: {concurrency: many}\n"),
            &["concurrency", "1 to 1000"],
        ),
    ]
}

#[test]
fn subscriptions_that_could_never_work_are_errors() {
    let right = check(&[("s.yaml", &subscription("pubsub", "    default: /c\n"))]);
    assert_eq!(right.code, Some(0), "{}", right.said);
    for (text, told) in impossible_subscriptions() {
        let finished = check(&[("s.yaml", &text)]);
        assert_eq!(finished.code, Some(CONFIGURATION_ERROR), "{text}{}", finished.said);
        for told in told.iter().chain(&["s.yaml:"]) {
            assert!(finished.said.contains(told), "{told} is not in:\n{}", finished.said);
        }
    }
}

/// An app with that limit, if one is given.
fn app_with_limit(limit: Option<usize>) -> String {
    let limit = limit.map(|limit| format!("spec: {{maxConcurrency: {limit}}}\n"));
    let app = "apiVersion: pannier.dev/v1\nkind: App\nmetadata: {name: shop}\n";
    format!("{app}{}", limit.unwrap_or_default())
}

#[test]
fn a_subscription_that_asks_for_more_calls_than_its_app_gets_is_a_warning() {
    let concurrent = |calls: usize, more: &str| {
        let metadata = format!("    default: /c\n  metadata: {{concurrency: \"{calls}\"}}\n{more}");
        subscription("pubsub", &metadata)
    };
    struct Case {
        app: Option<String>,
        subscription: String,
        warning: Option<&'static str>,
    }
    let to_others = "scopes: [other]\n";
    for Case { app, subscription, warning } in [
        Case {
            app: None,
            subscription: concurrent(101, ""),
            warning: Some("concurrency is 101, and app pannier gets at most 100 calls at once"),
        },
        Case {
            app: Some(app_with_limit(None)),
            subscription: concurrent(1000, ""),
            warning: Some("concurrency is 1000, and app shop gets at most 100 calls at once"),
        },
        Case {
            app: Some(app_with_limit(Some(4))),
            subscription: concurrent(5, ""),
            warning: Some("concurrency is 5, and app shop gets at most 4 calls at once"),
        },
        Case { app: None, subscription: concurrent(100, ""), warning: None },
        Case {
            app: Some(app_with_limit(Some(1000))),
            subscription: concurrent(1000, ""),
            warning: None,
        },
        Case {
            app: Some(app_with_limit(Some(4))),
            subscription: concurrent(5, to_others),
            warning: None,
        },
    ] {
        let app = app.iter().map(|app| ("app.yaml", app.as_str()));
        let files: Vec<_> = app.chain([("s.yaml", subscription.as_str())]).collect();
        let finished = check(&files);
        assert_eq!(finished.code, Some(0), "{}", finished.said);
        let Some(warning) = warning else {
            assert!(finished.said.contains("no problems"), "{subscription}{}", finished.said);
            continue;
        };
        assert!(finished.said.contains(": 1 warning"), "{}", finished.said);
        for told in ["warning: ", "s.yaml:1: ", warning, "spec.maxConcurrency", "lower it"] {
            assert!(finished.said.contains(told), "{told} is not in:\n{}", finished.said);
        }
    }
}

#[test]
fn a_subscription_to_a_component_that_ignores_its_errors_is_no_error() {
    let component = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: far}\nspec: \
                     {type: pubsub.nosuch, version: v1, ignoreErrors: true}\n";
    let finished =
        check(&[("c.yaml", component), ("s.yaml", &subscription("far", "    default: /c\n"))]);
    assert_eq!(finished.code, Some(0), "{}", finished.said);
}

#[test]
fn run_ends_before_it_opens_a_port_for_a_subscription_that_could_never_work() {
    for (text, told) in impossible_subscriptions() {
        let device = Device::new().with_resource("s.yaml", &text);
        let _taken = tests::listen_at(device.http_port());
        let finished = binary::run_command(&mut device.command());
        assert_eq!(finished.code, Some(CONFIGURATION_ERROR), "{text}{}", finished.said);
        assert!(finished.said.contains(told[0]), "{}", finished.said);
    }
}

#[test]
fn each_slip_in_a_file_is_told_with_its_line_and_remedy() {
    let node = "apiVersion: pannier.dev/v1\nkind: Node\nspec:\n";
    let listeners = |port: &str| format!("{node}  listeners: {{http: {{port: {port}}}}}\n");
    for (text, told) in [
        (format!("{node}\tid: a\n"), &["x.yaml:4", "tab", "spaces"][..]),
        (format!("{node}  dataDirr: /data\n"), &["x.yaml:4", "dataDirr", "dataDir"]),
        (listeners("\"3500\""), &["x.yaml:4", "port", "without quotes"]),
        (listeners("many"), &["x.yaml:4", "port", "0 to 65535"]),
        (listeners("70000"), &["x.yaml:4", "port", "65535"]),
        (format!("{node}  id: a\n  id: b\n"), &["x.yaml:5", "id"]),
        (format!("{RIGHT}---\n{RIGHT}"), &["x.yaml:", "store"]),
        ("kind: Node\n".to_owned(), &["x.yaml:", "apiVersion"]),
        ("apiVersion: pannier.dev/v1\nkind: Nod\n".to_owned(), &["x.yaml:", "Nod", "Node"]),
        (format!("{node}  limits: {{disk: 5}}\n"), &["x.yaml:", "disk", "journalSegment"]),
    ] {
        let finished = check(&[("x.yaml", &text)]);
        assert_eq!(finished.code, Some(CONFIGURATION_ERROR), "{text}{}", finished.said);
        for told in told {
            assert!(finished.said.contains(told), "{told} is not in:\n{}{text}", finished.said);
        }
    }
}

/// What reads as it should, and names things that aren't there.
fn unknown_things() -> [(&'static str, String); 2] {
    let unknown_type = RIGHT.replace("state.redb", "state.nosuch").replace("store", "one");
    let metadata = "{type: state.redb, version: v1, metadata: [{name: odd, value: 1}]}";
    let unknown_setting = RIGHT.replace("{type: state.redb, version: v1}", metadata);
    [("a.yaml", unknown_type), ("b.yaml", unknown_setting)]
}

#[test]
fn errors_that_only_components_can_find_are_told_all_at_once() {
    let [(a, unknown_type), (b, unknown_setting)] = unknown_things();
    let finished = check(&[(a, &unknown_type), (b, &unknown_setting)]);
    assert_eq!(finished.code, Some(CONFIGURATION_ERROR), "{}", finished.said);
    for told in ["a.yaml:1", "state.nosuch", "b.yaml:4", "odd"] {
        assert!(finished.said.contains(told), "{told} is not in:\n{}", finished.said);
    }
}

#[test]
fn errors_that_only_components_can_find_are_told_with_the_others() {
    let [(a, unknown_type), (b, unknown_setting)] = unknown_things();
    let finished = check(&[(a, &unknown_type), (b, &unknown_setting), ("c.yaml", "kind: [")]);
    assert_eq!(finished.code, Some(CONFIGURATION_ERROR), "{}", finished.said);
    for told in ["a.yaml:1", "b.yaml:4", "c.yaml:"] {
        assert!(finished.said.contains(told), "{told} is not in:\n{}", finished.said);
    }
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let finished = binary::run(&["check", "--resources-path", "/nonexistent/resources"]);
    assert_ne!(finished.code, Some(0), "{}", finished.said);
    assert!(finished.said.contains("/nonexistent/resources"), "{}", finished.said);
}

#[test]
fn run_with_errors_ends_before_it_opens_a_port() {
    let device = Device::new().with_resource("wrong.yaml", WRONG_UPLINK);
    // If it wanted the port, this would be the error.
    let _taken = tests::listen_at(device.http_port());
    let finished = binary::run_command(&mut device.command());
    assert_eq!(finished.code, Some(CONFIGURATION_ERROR), "{}", finished.said);
    assert!(finished.said.contains("wrong.yaml:5"), "{}", finished.said);
    assert!(finished.said.contains("wrong.yaml:6"), "{}", finished.said);
}

#[test]
fn a_port_that_is_taken_is_told_by_its_number() {
    let device = Device::new();
    let _taken = tests::listen_at(device.http_port());
    let finished = binary::run_command(&mut device.command());
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    let told = format!("port {} of 127.0.0.1 is in use", device.http_port());
    assert!(finished.said.contains(&told), "{}", finished.said);
}

#[test]
fn a_second_process_on_the_same_data_ends_with_the_reason() {
    let mut device = Device::new().started();
    let other = Device::new().with_data_of(&device);
    let finished = binary::run_command(&mut other.command());
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(finished.said.contains(device.data().to_str().unwrap()), "{}", finished.said);
    assert!(device.is_running());
}

#[test]
fn status_tells_whether_anything_runs() {
    let mut device = Device::new();
    std::fs::create_dir_all(device.data()).unwrap();
    let data = device.data().to_str().unwrap().to_owned();
    let finished = binary::run(&["status", "--data-dir", &data]);
    assert_ne!(finished.code, Some(0), "{}", finished.said);
    assert!(finished.said.contains("run") && finished.said.contains(&data), "{}", finished.said);
    device.start();
    let finished = binary::run(&["status", "--data-dir", &data]);
    assert_eq!(finished.code, Some(0), "{}", finished.said);
    assert_eq!(device.status().version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn status_tells_streams_consumers_uplinks_and_bytes_on_disk() {
    let mut broker = tests::Broker::new();
    let app = tests::App::start(serde_json::json!([
        { "pubsubname": "pubsub", "topic": "t", "route": "/t" }
    ]));
    let uplink = format!(
        "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {{name: up}}\nspec:\n  backoff: \
         {{initial: 50ms, max: 200ms}}\n  mqtt: {{url: \"mqtt://127.0.0.1:{}\"}}\n  routes: \
         [{{topic: \"#\"}}]\n",
        broker.port()
    );
    let device = Device::new().with_app(&app).with_resource("uplink.yaml", &uplink).started();
    device.wait_for_app();
    device.publish("t", &serde_json::json!(1));
    assert_eq!(app.wait_for("/t", 1).len(), 1);
    let down = tests::until("the uplink fails", || {
        Some(device.uplink("up")).filter(|uplink| uplink.last_error.is_some())
    });
    assert_eq!((down.connected, down.in_flight), (false, 0), "{down:?}");
    let waiting = device.consumer("uplink/up");
    assert_eq!((waiting.kind.as_str(), waiting.backlog), ("uplink", 1));
    assert!(waiting.oldest_age_ms.is_some(), "{waiting:?}");
    let stream = device.stream("t");
    assert_eq!((stream.last_sequence, stream.messages), (1, 1));
    assert!(device.store().disk_bytes > 0);
    broker.start();
    let up = tests::until("the uplink catches up", || {
        Some(device.uplink("up")).filter(|uplink| uplink.acknowledged == 1)
    });
    assert!(up.connected, "{up:?}");
    assert!(up.since > down.since, "{up:?} {down:?}");
    assert_eq!(device.consumer("uplink/up").backlog, 0);
}

#[test]
fn the_version_is_told() {
    let finished = binary::run(&["--version"]);
    assert_eq!(finished.code, Some(0));
    assert!(finished.said.contains(env!("CARGO_PKG_VERSION")), "{}", finished.said);
}

#[test]
fn an_argument_that_is_unknown_is_named() {
    let finished = binary::run(&["run", "--no-such-flag"]);
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    assert!(finished.said.contains("--no-such-flag"), "{}", finished.said);
}
