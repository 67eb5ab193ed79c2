//! How a broker is reached: addresses, passwords, certificates, limits.
#![allow(clippy::unwrap_used)]

use runtime::uplink::LastError;
use serde_json::{Value, json};
use tests::{Broker, Device, Subscriber, until};

const PASSWORD: &str = "open-the-door-1234";
const WRONG_PASSWORD: &str = "let-me-in-98765";

fn uplink(url: &str, more: &str) -> String {
    format!(
        "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {{name: up}}\nspec:\n  \
         backoff: {{initial: 50ms, max: 200ms}}\n  mqtt: {{url: \"{url}\"{more}}}\n  \
         routes: [{{topic: \"sensors/#\", to: \"fleet/{{topic}}\", format: raw}}]\n"
    )
}

fn device(url: &str, more: &str) -> Device {
    Device::new().with_resource("uplink.yaml", &uplink(url, more))
}

fn assert_gets_through(broker: &Broker, device: &Device) {
    let subscriber = Subscriber::start(broker.port(), "fleet/#");
    (0..10).for_each(|n| device.publish("sensors/speed", &json!(n)));
    let received = subscriber.wait_for("10 messages", |received| received.len() >= 10);
    let numbers: Vec<Value> =
        received.iter().map(|one| serde_json::from_slice(&one.payload).unwrap()).collect();
    assert_eq!(numbers, (0..10).map(Value::from).collect::<Vec<_>>());
}

/// Waits until the uplink's last error contains a text.
fn last_error(device: &Device, expected: &str) -> LastError {
    until(expected, || device.uplink("up").last_error.filter(|error| error.text.contains(expected)))
}

/// Waits until another attempt to connect has failed.
fn wait_for_another_try(device: &Device, first: &LastError) {
    until("another try", || device.uplink("up").last_error.filter(|error| error.at > first.at));
}

/// Returns everything that the device shows to people.
fn everything_told(device: &Device) -> String {
    device.log() + &serde_json::to_string(&device.status()).unwrap()
}

fn identity(broker: &Broker) -> String {
    let (certificate, key) = broker.client_certificate();
    let (certificate, key) = (certificate.display(), key.display());
    format!(", clientCert: \"{certificate}\", clientKey: \"{key}\"")
}

fn ca(broker: &Broker) -> String {
    format!(", caCert: \"{}\"", broker.ca_certificate().display())
}

#[test]
fn an_ipv6_address_is_reached() {
    let mut broker = Broker::new();
    let port = broker.add_listener("::1", "allow_anonymous true");
    broker.start();
    for version in ["5", "3.1.1"] {
        let url = format!("mqtt://[::1]:{port}");
        let device = device(&url, &format!(", version: \"{version}\"")).started();
        assert_gets_through(&broker, &device);
        assert_eq!(device.uplink("up").url, format!("[::1]:{port}"));
    }
}

#[test]
fn an_ipv6_address_is_reached_with_tls() {
    let mut broker = Broker::new();
    let settings = format!("allow_anonymous true\n{}", broker.tls_settings());
    let port = broker.add_listener("::1", &settings);
    broker.start();
    let device = device(&format!("mqtts://[::1]:{port}"), &ca(&broker)).started();
    assert_gets_through(&broker, &device);
}

#[test]
fn a_broker_that_asks_for_a_password_gets_it() {
    let mut broker = Broker::new();
    let settings = broker.login_settings("device", PASSWORD);
    let port = broker.add_listener("127.0.0.1", &settings);
    broker.start();
    for version in ["5", "3.1.1"] {
        let more = format!(
            ", version: \"{version}\", username: device, password: {{env: BROKER_PASSWORD}}"
        );
        let device = device(&format!("mqtt://127.0.0.1:{port}"), &more)
            .with_variable("BROKER_PASSWORD", PASSWORD)
            .started();
        assert_gets_through(&broker, &device);
    }
}

#[test]
fn a_wrong_password_is_told_and_tried_again_until_it_is_right() {
    let mut broker = Broker::new();
    let settings = broker.login_settings("device", PASSWORD);
    let port = broker.add_listener("127.0.0.1", &settings);
    broker.start();
    let secrets = tests::Directory::new();
    let file = secrets.write("password", WRONG_PASSWORD);
    for version in ["5", "3.1.1"] {
        secrets.write("password", WRONG_PASSWORD);
        let more = format!(
            ", version: \"{version}\", username: device, password: {{file: \"{}\"}}",
            file.display()
        );
        let device = device(&format!("mqtt://127.0.0.1:{port}"), &more).with_trace().started();
        let first = last_error(&device, "correct username, password");
        assert!(!device.uplink("up").connected);
        wait_for_another_try(&device, &first);
        let said = everything_told(&device);
        assert!(!said.contains(WRONG_PASSWORD), "{said}");
        secrets.write("password", PASSWORD);
        assert_gets_through(&broker, &device);
        let said = everything_told(&device);
        assert!(!said.contains(PASSWORD), "{said}");
    }
}

#[test]
fn the_roots_of_the_system_are_trusted_where_no_ca_is_named() {
    let broker = Broker::started();
    let url = format!("mqtts://localhost:{}", broker.tls_port());
    let ca = broker.ca_certificate();
    let trusting = device(&url, "").with_variable("SSL_CERT_FILE", ca.to_str().unwrap()).started();
    assert_gets_through(&broker, &trusting);
}

#[test]
fn a_certificate_of_an_unknown_ca_is_refused_and_told() {
    let broker = Broker::started();
    let stranger = Broker::new();
    let url = format!("mqtts://localhost:{}", broker.tls_port());
    let device = device(&url, &ca(&stranger)).started();
    last_error(&device, "certificate of localhost isn't trusted: set caCert");
    assert!(!device.uplink("up").connected);
}

#[test]
fn a_broker_that_is_not_there_is_told_by_its_address() {
    let broker = Broker::new();
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    last_error(&device(&url, "").started(), &format!("connection refused by {url}"));
}

#[test]
fn a_port_for_tls_and_one_that_is_not_are_told_apart() {
    let broker = Broker::started();
    for version in ["5", "3.1.1"] {
        let version = format!(", version: \"{version}\"");
        let plain = format!("mqtt://localhost:{}", broker.tls_port());
        last_error(&device(&plain, &version).started(), "if that port is for TLS, write mqtts://");
        let tls = format!("mqtts://localhost:{}", broker.port());
        let more = version + &ca(&broker);
        last_error(&device(&tls, &more).started(), "if that port is not for TLS, write mqtt://");
    }
}

#[test]
fn a_client_id_that_two_clients_use_is_told() {
    let broker = Broker::started();
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    for version in ["5", "3.1.1"] {
        let more = format!(", version: \"{version}\", clientId: twin");
        let one = device(&url, &more).started();
        let _other = device(&url, &more).started();
        last_error(&one, "another client uses the id \"twin\"");
    }
}

#[test]
fn a_broker_that_asks_for_a_certificate_gets_it() {
    let mut broker = Broker::new();
    let settings = format!(
        "{}cafile {}\nrequire_certificate true\nallow_anonymous true",
        broker.tls_settings(),
        broker.ca_certificate().display(),
    );
    let port = broker.add_listener("127.0.0.1", &settings);
    broker.start();
    let url = format!("mqtts://localhost:{port}");
    let without = device(&url, &ca(&broker)).started();
    last_error(&without, "set clientCert and clientKey");
    assert!(!without.uplink("up").connected);
    let with = device(&url, &(ca(&broker) + &identity(&broker))).started();
    assert_gets_through(&broker, &with);
}

#[test]
fn a_message_down_that_is_too_large_is_told_with_its_limit_and_the_link_tried_again() {
    let broker = Broker::started();
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let resource =
        uplink(&url, ", version: 3.1.1") + "  downlinks: [{from: \"commands/#\", to: commands}]\n";
    let device = Device::new().with_resource("uplink.yaml", &resource).started();
    until("the uplink is up", || device.uplink("up").connected.then_some(()));
    let sender = Subscriber::start(broker.port(), "nothing");
    sender.publish_bytes("commands/all", 9 << 20);
    let first = last_error(&device, "max_packet_size");
    assert!(first.text.contains("8388608") && first.text.contains("9437"), "{}", first.text);
    wait_for_another_try(&device, &first);
    device.save("alive", &json!(true));
}
