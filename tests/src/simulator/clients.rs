//! What clients ask for.

use std::time::Duration;
use store_forward::engine::Request;
use store_forward::limits::{Limits, Overflow, StreamLimits};
use store_forward::record::{Condition, ConsumerKind, ConsumerSpec, Filter, NewMessage, Op, Topic};

use fastrand::Rng;

use super::model::Model;

/// Pub/sub components, one for each overflow policy; the last has no limits.
const COMPONENTS: [&str; 5] = ["reject", "oldest", "new", "lowest", "free"];
const TOPICS: [&str; 3] = ["a", "b", "c/d"];
const KEYS: [&str; 5] = ["k1", "k2", "k3", "k4", "k5"];

/// Draws requests; each payload is told from every other by its number.
#[derive(Default)]
pub(crate) struct Clients {
    drawn: u64,
}

/// Small bounds, so that they are met.
pub(crate) fn limits(random: &mut Rng) -> Limits {
    Limits {
        segment_bytes: 8192 << random.u32(0..3),
        checkpoint_bytes: random.u64(2_000..30_000),
        checkpoint_interval: Duration::from_secs(random.u64(1..60)),
        cache_bytes: random.usize(0..4) * 64 * 1024,
        reserve_bytes: 1 << 20,
        unclaimed_retention: Duration::from_secs(random.u64(10..3600)),
        inactive_grace: Duration::from_secs(random.u64(1..1800)),
        inactive_retention: random.bool().then(|| Duration::from_secs(random.u64(0..7200))),
        ..Limits::default()
    }
}

/// What every device is told first: the limits of each component.
pub(crate) fn configuration(random: &mut Rng) -> Vec<Op> {
    let policies =
        [Overflow::Reject, Overflow::DropOldest, Overflow::DropNew, Overflow::DropLowestPriority];
    let limits = COMPONENTS.iter().zip(policies).map(|(component, overflow)| {
        let some =
            |random: &mut Rng, most: u64| if random.bool() { random.u64(2..most) } else { 0 };
        let limits = StreamLimits {
            max_messages: some(random, 8),
            max_bytes: some(random, 8) * 500,
            max_component_messages: some(random, 14),
            max_component_bytes: some(random, 14) * 500,
            overflow,
        };
        Op::Configure { component: (*component).to_owned(), limits }
    });
    limits.collect()
}

/// The consumers that may be registered: apps with and without a dead letter topic, an uplink.
pub(crate) fn consumer(number: usize) -> ConsumerSpec {
    let filter =
        |component: &str, topic: &str| Filter { component: component.into(), topic: topic.into() };
    let (name, kind, filters, dead_letter) = match number % 4 {
        0 => {
            ("uplink/hub", ConsumerKind::Uplink, COMPONENTS.map(|c| filter(c, "#")).to_vec(), None)
        }
        1 => {
            let letters = Some(Topic::new("oldest", "letters"));
            let filters = vec![filter("reject", "a"), filter("free", "+"), filter("oldest", "b")];
            ("app/one", ConsumerKind::App, filters, letters)
        }
        2 => ("app/two", ConsumerKind::App, vec![filter("free", "#"), filter("lowest", "a")], None),
        _ => {
            let letters = Some(Topic::new("reject", "letters"));
            (
                "app/three",
                ConsumerKind::App,
                vec![filter("new", "c/#"), filter("lowest", "#")],
                letters,
            )
        }
    };
    ConsumerSpec { name: name.into(), kind, filters, dead_letter }
}

/// The same consumer after a slip in its file: it reads less.
pub(crate) fn mistyped(random: &mut Rng, spec: ConsumerSpec) -> ConsumerSpec {
    let keep = random.usize(0..spec.filters.len());
    ConsumerSpec { filters: spec.filters.into_iter().take(keep).collect(), ..spec }
}

impl Clients {
    pub(crate) fn publish(&mut self, random: &mut Rng) -> Request {
        let topic = topic(random);
        let count = *random.choice(&[1, 1, 1, 2, 3]).unwrap_or(&1);
        let ops = (0..count).map(|_| {
            let topic = if random.u8(0..4) == 0 { self::topic(random) } else { topic.clone() };
            Op::Publish { topic, message: self.message(random) }
        });
        Request { ops: ops.collect(), durable: true }
    }

    pub(crate) fn save(&mut self, random: &mut Rng, model: &Model) -> Request {
        Request { ops: vec![self.change(random, model)], durable: true }
    }

    pub(crate) fn transact(&mut self, random: &mut Rng, model: &Model) -> Request {
        let mut ops = vec![self.change(random, model)];
        for _ in 0..random.usize(1..4) {
            ops.push(match random.bool() {
                true => self.change(random, model),
                false => Op::Publish { topic: topic(random), message: self.message(random) },
            });
        }
        Request { ops, durable: true }
    }

    pub(crate) fn any(&mut self, random: &mut Rng, model: &Model) -> Request {
        match random.u8(0..4) {
            0 => self.transact(random, model),
            1 => self.save(random, model),
            _ => self.publish(random),
        }
    }

    fn change(&mut self, random: &mut Rng, model: &Model) -> Op {
        let (component, key) = key(random);
        let found = model.state.get(&(component.clone(), key.clone())).map(|value| value.etag);
        let when = match random.u8(0..8) {
            0..4 => Condition::Any,
            4 => Condition::Absent,
            5 => Condition::Etag(random.u64(1..50)),
            _ => found.map_or(Condition::Absent, Condition::Etag),
        };
        if random.u8(0..4) == 0 {
            return Op::Delete { component, key, when };
        }
        Op::Set { component, key, value: self.payload(random), when, ttl_ms: ttl(random) }
    }

    fn message(&mut self, random: &mut Rng) -> NewMessage {
        NewMessage {
            content_type: random.bool().then(|| "text/plain".to_owned()),
            attributes: Vec::new(),
            key: random.bool().then(|| random.choice(KEYS).unwrap_or("k").to_owned()),
            priority: random.u8(0..4),
            ttl_ms: ttl(random),
            data: self.payload(random),
        }
    }

    fn payload(&mut self, random: &mut Rng) -> Vec<u8> {
        self.drawn += 1;
        let len = match random.u8(0..16) {
            0 => random.usize(1000..2500),
            1..4 => random.usize(300..1000),
            _ => random.usize(8..60),
        };
        let mut payload = self.drawn.to_le_bytes().to_vec();
        payload.resize(len, self.drawn.to_le_bytes()[0] | 1);
        payload
    }
}

/// A key of a state store.
pub(crate) fn key(random: &mut Rng) -> (String, String) {
    ("state".to_owned(), random.choice(KEYS).unwrap_or("k").to_owned())
}

fn topic(random: &mut Rng) -> Topic {
    let component = random.choice(COMPONENTS).unwrap_or("free");
    Topic::new(component, random.choice(TOPICS).unwrap_or("a"))
}

fn ttl(random: &mut Rng) -> Option<u64> {
    (random.u8(0..4) == 0).then(|| random.u64(1..100_000))
}
