//! The binary is killed at random moments under load: nothing that was acknowledged is lost.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use tests::http::Client;
use tests::ledger::first_arrivals;
use tests::{Broker, Device, Subscriber};

const CLIENTS: usize = 8;
const CRASHES: u32 = 6;

/// How long the program lives between two crashes.
const LIFE_MS: std::ops::Range<u64> = 20..400;

/// What one client was told.
#[derive(Default)]
struct Told {
    /// Numbers whose publish was acknowledged.
    published: Vec<u64>,
    /// The last number whose save was acknowledged.
    saved: u64,
    /// The last number that was tried.
    tried: u64,
}

#[test]
fn what_was_acknowledged_outlives_any_crash() {
    let seed = seed();
    println!("the seed is {seed}: set PANNIER_TEST_SEED to use it again");
    let mut chance = fastrand::Rng::with_seed(seed);
    let broker = Broker::started();
    let subscriber = Subscriber::start(broker.port(), "load/#");
    let mut device = Device::new().with_resource("uplink.yaml", &uplink(broker.port())).started();
    let port = device.http_port();
    let stop = AtomicBool::new(false);
    let told: Vec<Told> = std::thread::scope(|scope| {
        let stop = &stop;
        let clients = (0..CLIENTS).map(|client| scope.spawn(move || load(client, port, stop)));
        let clients: Vec<_> = clients.collect();
        // Set when this thread panics, too: otherwise the clients would never end.
        let _stopped = Stop(stop);
        for _ in 0..CRASHES {
            sleep(Duration::from_millis(chance.u64(LIFE_MS)));
            device.kill();
            device.start();
        }
        stop.store(true, Ordering::Release);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    check_state(&device, &told);
    check_messages(&subscriber, &told);
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn seed() -> u64 {
    let given = std::env::var("PANNIER_TEST_SEED").ok();
    given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().expect("the seed is a number"))
}

fn uplink(port: u16) -> String {
    format!(
        "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {{name: up}}\nspec:\n  \
         backoff: {{initial: 50ms, max: 200ms}}\n  mqtt: {{url: \"mqtt://127.0.0.1:{port}\"}}\n  \
         routes: [{{topic: \"load/#\", format: raw}}]\n"
    )
}

/// Publishes and saves one number after the other. What was not acknowledged is never tried again:
/// it may have been taken, or not.
fn load(client: usize, port: u16, stop: &AtomicBool) -> Told {
    let mut http = Client::new(port);
    let mut told = Told::default();
    while !stop.load(Ordering::Acquire) {
        told.tried += 1;
        let number = told.tried;
        let publish = format!("/v1.0/publish/pubsub/load/{client}");
        let body = Value::from(number).to_string();
        if !post(&mut http, &publish, &body) {
            // Nothing listens while the program is down: no use in trying at full speed.
            sleep(Duration::from_millis(5));
            continue;
        }
        told.published.push(number);
        let items = json!([{ "key": format!("client-{client}"), "value": number }]).to_string();
        if post(&mut http, "/v1.0/state/statestore", &items) {
            told.saved = number;
        }
    }
    told
}

fn post(http: &mut Client, path: &str, body: &str) -> bool {
    let json = [("Content-Type", "application/json")];
    match http.send("POST", path, &json, body.as_bytes()) {
        Ok(answer) => {
            assert_eq!(answer.status, 204, "{}", answer.text());
            true
        }
        Err(_) => false,
    }
}

fn check_state(device: &Device, told: &[Told]) {
    for (client, told) in told.iter().enumerate() {
        let answer = device.get(&format!("/v1.0/state/statestore/client-{client}"));
        let value = if answer.status == 204 { 0 } else { answer.json().as_u64().unwrap() };
        let possible = told.saved..=told.tried;
        assert!(possible.contains(&value), "client {client}: {value} is not in {possible:?}");
    }
}

fn check_messages(subscriber: &Subscriber, told: &[Told]) {
    let last: Vec<(String, Vec<u8>)> = told
        .iter()
        .enumerate()
        .filter_map(|(client, told)| Some((client, told.published.last()?)))
        .map(|(client, number)| (format!("load/{client}"), number.to_string().into_bytes()))
        .collect();
    let received = subscriber.wait_for("the last of each client", |received| {
        last.iter().all(|(topic, payload)| {
            let mut latest = received.iter().rev();
            latest.any(|message| message.topic == *topic && message.payload == *payload)
        })
    });
    let streams = first_arrivals(&received);
    for (client, told) in told.iter().enumerate() {
        let stream = streams.get(&format!("load/{client}")).cloned().unwrap_or_default();
        let arrived: Vec<u64> = stream.iter().map(|number| number.as_u64().unwrap()).collect();
        assert!(arrived.is_sorted_by(|one, next| one < next), "client {client} is out of order");
        let missing: Vec<&u64> =
            told.published.iter().filter(|number| arrived.binary_search(number).is_err()).collect();
        assert!(missing.is_empty(), "client {client}: acknowledged and lost: {missing:?}");
    }
    let published: usize = told.iter().map(|told| told.published.len()).sum();
    assert!(published > CLIENTS, "there was hardly any load: {published} messages");
}
