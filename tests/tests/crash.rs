//! The binary is killed at random moments under load, and its uplink and the broker fail meanwhile:
//! nothing that was acknowledged is lost.
//!
//! `PANNIER_KILLS` is how often it is killed (50), `PANNIER_TEST_SEED` repeats a run.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use tests::http::Client;
use tests::ledger::first_arrivals;
use tests::{Broker, Device, Proxy, Subscriber, until};

const CLIENTS: usize = 8;
const KILLS: u32 = 50;
const BROKER_KILLS: u32 = 6;

/// How long the program or the broker lives between two crashes.
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
fn what_was_acknowledged_outlives_any_crash_while_the_uplink_flaps() {
    let mut chance = chance();
    let mut broker = Broker::started();
    let link = Proxy::start(broker.port());
    let subscriber = Subscriber::start(broker.port(), "load/#");
    let mut device = Device::new().with_resource("uplink.yaml", &uplink(link.port())).started();
    let told = under_load(device.http_port(), || {
        for _ in 0..kills() {
            sleep(Duration::from_millis(chance.u64(LIFE_MS)));
            match chance.u8(..20) {
                0 => {
                    broker.stop();
                    device.kill();
                    device.start();
                    broker.start();
                }
                1..6 => link.cut(),
                _ => {}
            }
            if device.is_running() {
                device.kill();
                device.start();
            }
        }
    });
    check_state(&device, &told);
    check_messages(&subscriber, &told);
}

/// A broker that is killed loses what it has not saved, whoever sent it. What can be promised is
/// that it has acknowledged everything: it, or the one before it.
#[test]
fn what_was_acknowledged_is_handed_over_in_order_to_a_broker_that_is_killed() {
    let mut chance = chance();
    let mut broker = Broker::started();
    let link = Proxy::start(broker.port());
    let device = Device::new().with_resource("uplink.yaml", &uplink(link.port())).started();
    let told = under_load(device.http_port(), || {
        for _ in 0..BROKER_KILLS {
            sleep(Duration::from_millis(chance.u64(LIFE_MS)));
            broker.kill();
            broker.start();
        }
    });
    check_state(&device, &told);
    let last: Vec<String> = told.iter().map(|t| t.published.last().unwrap().to_string()).collect();
    let acknowledged = until("the broker has acknowledged the last of each client", || {
        let all = link.acknowledged();
        let has = |(client, number): (usize, &String)| {
            let topic = format!("load/{client}");
            let mut latest = all.iter().rev().filter(|sent| sent.topic == topic);
            latest.any(|sent| sent.payload == number.as_bytes())
        };
        last.iter().enumerate().all(has).then_some(all)
    });
    let mut streams: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for sent in acknowledged {
        let number = String::from_utf8(sent.payload).unwrap().parse().unwrap();
        let stream = streams.entry(sent.topic).or_default();
        if !stream.contains(&number) {
            stream.push(number);
        }
    }
    for (client, told) in told.iter().enumerate() {
        let arrived = streams.remove(&format!("load/{client}")).unwrap_or_default();
        check_stream(client, &arrived, told);
    }
}

/// Lets all clients publish and save while `trouble` is made.
fn under_load(port: u16, trouble: impl FnOnce()) -> Vec<Told> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let clients = (0..CLIENTS).map(|client| scope.spawn(move || load(client, port, stop)));
        let clients: Vec<_> = clients.collect();
        // Set when this thread panics, too: otherwise the clients would never end.
        let stopped = Stop(stop);
        trouble();
        drop(stopped);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

fn kills() -> u32 {
    let given = std::env::var("PANNIER_KILLS").ok();
    given.map_or(KILLS, |kills| kills.parse().expect("PANNIER_KILLS is a number"))
}

fn chance() -> fastrand::Rng {
    let seed = seed();
    println!("the seed is {seed}: set PANNIER_TEST_SEED to use it again");
    fastrand::Rng::with_seed(seed)
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
        check_stream(client, &arrived, told);
    }
    let published: usize = told.iter().map(|told| told.published.len()).sum();
    assert!(published > CLIENTS, "there was hardly any load: {published} messages");
    println!("{published} messages were acknowledged, {} arrived", received.len());
}

fn check_stream(client: usize, arrived: &[u64], told: &Told) {
    assert!(arrived.is_sorted_by(|one, next| one < next), "client {client} is out of order");
    let missing: Vec<&u64> =
        told.published.iter().filter(|number| arrived.binary_search(number).is_err()).collect();
    assert!(missing.is_empty(), "client {client}: acknowledged and lost: {missing:?}");
}
