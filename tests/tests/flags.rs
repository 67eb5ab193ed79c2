//! The command line: daprd's flags do what they do there, and two apps share a device.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Command;

use runtime::admin::Status;
use serde_json::{Value, json};
use tests::http::Client;
use tests::{App, Device, Directory, binary, free_port, untested, until};

/// What daprd knows and what has no meaning without a control plane.
const WITHOUT_EFFECT: [&str; 24] = [
    "--allowed-origins=*",
    "--control-plane-address=x",
    "--control-plane-namespace=x",
    "--control-plane-trust-domain=x",
    "--dapr-block-shutdown-duration=1s",
    "--dapr-grpc-port=50001",
    "--dapr-http-max-request-size=4",
    "--dapr-internal-grpc-port=50002",
    "--dapr-internal-grpc-listen-address=x",
    "--dapr-public-listen-address=x",
    "--dapr-public-port=3501",
    "--disable-builtin-k8s-secret-store",
    "--disable-init-endpoints=config",
    "--enable-mtls",
    "--enable-profiling=false",
    "--mode=standalone",
    "--placement-host-address=localhost:50005",
    "--profile-listen-address=x",
    "--profile-port=7777",
    "--read-buffer-size=4Ki",
    "--scheduler-host-address=localhost:50006",
    "--sentry-address=x",
    "--trust-anchors-file=x",
    "--unix-domain-socket=x",
];

fn status_at(port: u16, path: &str) -> Option<u16> {
    Client::new(port).send("GET", path, &[], &[]).ok().map(|answer| answer.status)
}

#[test]
fn flags_without_effect_are_taken_and_named() {
    let mut device = Device::new().with_flags(&WITHOUT_EFFECT).started();
    assert_eq!(device.stop().code(), Some(0));
    for flag in WITHOUT_EFFECT {
        let name = flag.split('=').next().unwrap();
        assert!(device.log().contains(name), "{name} is not in:\n{}", device.log());
    }
}

#[test]
fn under_the_name_daprd_it_takes_daprds_command_line() {
    let directory = Directory::new();
    let daprd = directory.path().join("daprd");
    symlink(binary::path(), &daprd).unwrap();
    let (http, metrics) = (free_port(), free_port());
    let mut command = Command::new(&daprd);
    command
        .args(["-app-id", "tester", "--dapr-http-port", &http.to_string()])
        .args(["--metrics-port", &metrics.to_string(), "--metrics-listen-address", "127.0.0.1"])
        .args(["--dapr-listen-addresses", "127.0.0.1", "--enable-metrics", "--log-level=info"])
        .args(["--app-protocol", "http", "--app-channel-address", "127.0.0.1"])
        .args(["--app-max-concurrency", "-1", "--max-body-size", "1Mi", "--mode", "standalone"])
        .args(["--dapr-graceful-shutdown-seconds", "3", "--placement-host-address", "x:1"])
        .env("XDG_DATA_HOME", directory.path())
        .env_remove("STATE_DIRECTORY");
    let mut child = command.spawn().unwrap();
    until("daprd answers", || status_at(http, "/v1.0/healthz").filter(|status| *status == 204));
    until("daprd serves metrics", || status_at(metrics, "/metrics").filter(|code| *code == 200));
    let mut client = Client::new(http);
    assert_eq!(client.send("GET", "/v1.0/metadata", &[], &[]).unwrap().json()["id"], "tester");
    let answer = client.send("POST", "/v1.0/publish/pubsub/t", &[], &vec![b'x'; (1 << 20) + 1]);
    assert_eq!(answer.unwrap().status, 413);
    assert_eq!(Client::new(http).send("POST", "/v1.0/shutdown", &[], &[]).unwrap().status, 204);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn logs_are_json_where_that_is_asked_for_and_tell_each_call() {
    let flags = ["--log-as-json", "--enable-api-logging"];
    let mut device = Device::new().with_flags(&flags).started();
    device.save("a", &json!(1));
    assert_eq!(device.stop().code(), Some(0));
    let log = device.log();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().all(|line| line["level"].is_string()), "{log}");
    assert!(lines.iter().any(|line| line.to_string().contains("/v1.0/state/statestore")), "{log}");
}

#[test]
fn metrics_can_be_switched_off() {
    let device = Device::new().with_flags(&["--enable-metrics=false"]).started();
    assert_eq!(status_at(device.metrics_port(), "/metrics"), None);
}

#[test]
fn components_path_and_config_are_read_like_resources_path() {
    let directory = Directory::new();
    let component = directory.write(
        "components/other.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: other}\nspec: {type: \
         state.in-memory, version: v1}\n",
    );
    let configuration = directory.write(
        "configuration.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c}\nspec: {metric: \
         {enabled: false}}\n",
    );
    let components = component.parent().unwrap().to_str().unwrap();
    let flags = ["--components-path", components, "--config", configuration.to_str().unwrap()];
    let device = Device::new().with_flags(&flags).started();
    let items = json!([{ "key": "a", "value": 1 }]);
    assert_eq!(device.post("/v1.0/state/other", &items).status, 204);
    assert_eq!(status_at(device.metrics_port(), "/metrics"), None);
}

#[test]
fn two_apps_on_one_device_have_their_own_port_token_state_and_subscriptions() {
    let subscriptions =
        |route: &str| json!([{ "pubsubname": "pubsub", "topic": "t", "route": route }]);
    let (first, second) =
        (App::start(subscriptions("/first")), App::start(subscriptions("/second")));
    let port = free_port();
    let resource = format!(
        "apiVersion: pannier.dev/v1\nkind: App\nmetadata: {{name: second}}\nspec:\n  \
         port: {}\n  httpPort: {port}\n  apiToken: sesame\n",
        second.port()
    );
    let device = Device::new().with_app(&first).with_resource("app.yaml", &resource).started();
    device.wait_for_app();
    until("the second app is served", || {
        status_at(port, "/v1.0/healthz").filter(|status| *status == 204)
    });
    device.save("a", &json!("of the first"));
    let path = "/v1.0/state/statestore/a";
    assert_eq!(status_at(port, path), Some(401));
    let token = [("dapr-api-token", "sesame")];
    let answer = Client::new(port).send("GET", path, &token, &[]).unwrap();
    assert_eq!(answer.status, 204, "each app has its own keys");
    device.publish("t", &json!(1));
    for (app, path) in [(&first, "/first"), (&second, "/second")] {
        assert_eq!(app.wait_for(path, 1)[0].event["data"], 1);
    }
}

/// Whether this machine has ::1; if not, the test is told to be left out.
fn has_ipv6(test: &str) -> bool {
    let bound = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
    if let Err(error) = &bound {
        untested(test, &error.to_string());
    }
    bound.is_ok()
}

fn answers_at(address: &str, port: u16) -> bool {
    TcpStream::connect((address, port)).is_ok()
}

#[test]
fn localhost_is_served_whichever_of_its_addresses_it_stands_for() {
    let device = Device::new().started();
    // The metrics are served a moment after the API.
    until("it is ready", || device.log().contains("pannier is ready").then_some(()));
    let v6 = has_ipv6("localhost_is_served_whichever_of_its_addresses_it_stands_for");
    for port in [device.http_port(), device.metrics_port()] {
        assert!(answers_at("127.0.0.1", port));
        assert_eq!(answers_at("::1", port), v6);
    }
    let log = device.log();
    assert!(!log.contains("::1"), "one address of each is told: {log}");
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn a_port_that_is_drawn_is_the_same_at_both_addresses() {
    let directory = Directory::new();
    let data = directory.path().join("data").display().to_string();
    let mut command = Command::new(binary::path());
    command.args(["run", "--data-dir", &data, "--dapr-http-port", "0", "--enable-metrics=false"]);
    let mut child = command.spawn().unwrap();
    let port = until("it tells its port", || {
        let told = binary::run(&["status", "--json", "--data-dir", &data]);
        let status: Status = serde_json::from_str(&told.said).ok()?;
        status.apps.first().map(|app| app.http_port)
    });
    assert!(answers_at("127.0.0.1", port));
    if has_ipv6("a_port_that_is_drawn_is_the_same_at_both_addresses") {
        assert!(answers_at("::1", port));
    }
    assert_eq!(Client::new(port).send("POST", "/v1.0/shutdown", &[], &[]).unwrap().status, 204);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn another_program_at_the_ipv6_address_is_warned_of_and_the_other_address_served() {
    if !has_ipv6("another_program_at_the_ipv6_address_is_warned_of_and_the_other_address_served") {
        return;
    }
    let device = Device::new();
    let _other = TcpListener::bind((Ipv6Addr::LOCALHOST, device.http_port())).unwrap();
    let device = device.started();
    assert_eq!(status_at(device.http_port(), "/v1.0/healthz/outbound"), Some(204));
    let warned = |line: &str| line.contains("WARN") && line.contains("::1");
    assert!(device.log().lines().any(warned), "{}", device.log());
}

#[test]
fn an_address_that_is_given_is_the_only_one() {
    let device = Device::new().with_flags(&["--dapr-listen-addresses", "127.0.0.1"]).started();
    assert!(answers_at("127.0.0.1", device.http_port()));
    assert!(!answers_at("::1", device.http_port()));
}

#[test]
fn an_address_that_this_machine_lacks_is_named_with_the_flag() {
    // TEST-NET-1 of RFC 5737: nobody has it.
    let device = Device::new().with_flags(&["--dapr-listen-addresses", "192.0.2.1"]);
    let finished = binary::run_command(&mut device.command());
    assert_eq!(finished.code, Some(1), "{}", finished.said);
    for told in ["no address 192.0.2.1", "--dapr-listen-addresses"] {
        assert!(finished.said.contains(told), "{told} is not in:\n{}", finished.said);
    }
}
