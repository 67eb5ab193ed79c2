//! A store with every kind of record and row in it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use store_forward::clock::{ManualClock, Reading};
use store_forward::disk::OsDisk;
use store_forward::engine::{Committed, Engine, Options, Request};
use store_forward::ids::{ConsumerId, NodeId, Sequence, StreamId};
use store_forward::limits::{Limits, Overflow, StreamLimits};
use store_forward::record::{
    Condition, ConsumerKind, ConsumerSpec, Filter, InactiveReason, NewMessage, Op, Topic,
};

/// When it is written, in milliseconds since 1970: 2026-01-02.
pub const WRITTEN_MS: i64 = 1_767_312_000_000;

/// The keys that are set, and some that aren't any more.
pub(super) const KEYS: [(&str, &str); 8] = [
    ("statestore", "tester||plain"),
    ("statestore", "tester||changed"),
    ("statestore", "tester||deleted"),
    ("statestore", "tester||for a minute"),
    ("statestore", "tester||for days"),
    ("statestore", "tester||empty"),
    ("other", "tester||plain"),
    ("statestore", "tester||after"),
];

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Limits under which the journal has several segments.
pub(super) fn limits() -> Limits {
    Limits { segment_bytes: 64 << 10, reserve_bytes: 0, ..Limits::default() }
}

/// Makes the store in `dir`. `snapshot` is called twice: when the store has been closed, and when
/// it has gone on for a while and is open, as a kill would leave it.
///
/// # Panics
/// When anything is refused.
pub fn make(dir: &Path, mut snapshot: impl FnMut(&str)) {
    // The epoch is drawn at random; here it has to be the same each time.
    fastrand::seed(1);
    let reading = Reading { wall_ms: WRITTEN_MS, up_ms: 5000, believed: true };
    let clock = ManualClock::new(reading, "first boot");
    let mut maker = Maker::open(dir, &clock);
    maker.first_life();
    maker.engine.checkpoint();
    drop(maker);
    snapshot("closed");
    clock.reboot("second boot", WRITTEN_MS + 60_000, true);
    let mut maker = Maker::open(dir, &clock);
    maker.second_life();
    snapshot("killed");
}

struct Maker<'a> {
    engine: Engine,
    clock: &'a ManualClock,
}

impl<'a> Maker<'a> {
    fn open(dir: &Path, clock: &'a ManualClock) -> Self {
        let disk = Arc::new(OsDisk::open(dir).expect("the directory can be opened"));
        let node = Some(NodeId("golden".into()));
        let options = Options { node, limits: limits(), volatile: false };
        let engine = Engine::open(options, disk, Arc::new(clock.clone()));
        Self { engine: engine.expect("the store can be opened"), clock }
    }

    fn commit(&mut self, ops: Vec<Op>) -> Committed {
        let answer = self.engine.commit(&[Request { ops, durable: true }]).remove(0);
        answer.expect("it is taken")
    }

    fn register(&mut self, spec: ConsumerSpec) -> ConsumerId {
        self.commit(vec![Op::Register(spec)]).registered.expect("it is new")
    }

    fn publish(&mut self, topic: &Topic, messages: Vec<NewMessage>) -> StreamId {
        let publish = |message| Op::Publish { topic: topic.clone(), message };
        self.commit(messages.into_iter().map(publish).collect()).published[0].stream
    }

    /// Everything that ends up in the tables.
    fn first_life(&mut self) {
        self.state();
        self.streams();
        self.limited();
        // Rows and messages with a minute to live go; one of them has a dead letter topic.
        self.clock.advance(Duration::from_millis(2 * MINUTE_MS));
        self.engine.maintain();
    }

    fn state(&mut self) {
        self.commit(vec![set("statestore", "plain", b"{\"a\":1.50}", None)]);
        self.commit(vec![
            set("statestore", "changed", b"1", None),
            set("statestore", "deleted", b"2", None),
            set("statestore", "for a minute", b"3", Some(MINUTE_MS)),
            set("statestore", "for days", b"4", Some(9 * DAY_MS)),
            set("statestore", "empty", b"", None),
            set("other", "plain", &[0, 159, 146, 150], None),
        ]);
        let lsn = self.commit(vec![set("statestore", "changed", b"\"once\"", None)]).lsn;
        let (component, key) = ("statestore".to_owned(), "tester||changed".to_owned());
        let when = Condition::Etag(lsn.0);
        let value = b"\"twice\"".to_vec();
        self.commit(vec![Op::Set { component, key, value, when, ttl_ms: None }]);
        let (component, key) = ("statestore".to_owned(), "tester||deleted".to_owned());
        self.commit(vec![Op::Delete { component, key, when: Condition::Any }]);
    }

    /// An app with a dead letter topic and an uplink over all: sparse acknowledgements, failures,
    /// refusals, and messages that expire.
    fn streams(&mut self) {
        let orders = Topic::new("pubsub", "orders");
        let dead = Some(Topic::new("pubsub", "dead"));
        let app = self.register(app("orders", dead));
        let uplink = self.register(uplink());
        self.register(self::app("forgotten", None));
        self.register(self::app("sensors/a", None));
        self.register(self::app("sensors/b", None));
        self.register(changed("#"));
        let stream = self.publish(&orders, (1..=10).map(numbered).collect());
        self.publish(&orders, vec![full(), NewMessage { ttl_ms: Some(MINUTE_MS), ..numbered(12) }]);
        self.publish(&Topic::new("pubsub", "sensors/a"), vec![numbered(1), numbered(2)]);
        self.publish(&Topic::new("pubsub", "sensors/b"), vec![numbered(1)]);
        self.commit(vec![ack(app, stream, &[(1, 2), (4, 4), (7, 8)])]);
        self.commit(vec![ack(uplink, stream, &[(1, 3)])]);
        for _ in 0..3 {
            self.commit(vec![Op::Nack { consumer: app, stream, sequence: Sequence(3) }]);
        }
        let reason = "no use".to_owned();
        self.commit(vec![Op::Reject { consumer: app, stream, sequence: Sequence(5), reason }]);
        let reason = "no use either".to_owned();
        self.commit(vec![Op::Reject { consumer: uplink, stream, sequence: Sequence(6), reason }]);
        self.commit(vec![Op::Unregister { name: "app/tester/pubsub/forgotten".into() }]);
        // One that its app dropped, one that gave up its backlog, and one that reads less than before.
        let name = "app/tester/pubsub/sensors/a".into();
        self.commit(vec![Op::Deactivate { name, reason: InactiveReason::NotSubscribed }]);
        self.commit(vec![Op::Skip { name: "app/tester/pubsub/sensors/b".into() }]);
        self.register(changed("sensors/b"));
    }

    /// A component whose oldest messages have gone.
    fn limited(&mut self) {
        let limits = StreamLimits {
            max_messages: 3,
            overflow: Overflow::DropOldest,
            ..StreamLimits::default()
        };
        self.commit(vec![Op::Configure { component: "limited".into(), limits }]);
        let topic = Topic::new("limited", "newest");
        self.publish(&topic, (1..=5).map(numbered).collect());
    }

    /// What only the journal holds, in several segments.
    fn second_life(&mut self) {
        let orders = Topic::new("pubsub", "orders");
        self.commit(vec![
            set("statestore", "after", b"\"the checkpoint\"", None),
            Op::Publish { topic: orders.clone(), message: numbered(13) },
        ]);
        for number in 14..=16 {
            let data = vec![number; 40 << 10];
            self.publish(&orders, vec![NewMessage { data, ..numbered(number) }]);
        }
        let (app, stream) = (ConsumerId(1), StreamId(1));
        self.commit(vec![ack(app, stream, &[(3, 3), (14, 16)])]);
        self.commit(vec![ack(ConsumerId(2), stream, &[(14, 16)])]);
        self.commit(vec![Op::Nack { consumer: app, stream, sequence: Sequence(9) }]);
        let name = "app/tester/pubsub/sensors/b".into();
        self.commit(vec![Op::Deactivate { name, reason: InactiveReason::NotConfigured }]);
    }
}

fn set(component: &str, key: &str, value: &[u8], ttl_ms: Option<u64>) -> Op {
    let (component, key) = (component.to_owned(), format!("tester||{key}"));
    Op::Set { component, key, value: value.to_vec(), when: Condition::Any, ttl_ms }
}

fn ack(consumer: ConsumerId, stream: StreamId, ranges: &[(u64, u64)]) -> Op {
    let ranges = ranges.iter().map(|(from, to)| (Sequence(*from), Sequence(*to))).collect();
    Op::Ack { consumer, stream, ranges }
}

fn app(topic: &str, dead_letter: Option<Topic>) -> ConsumerSpec {
    ConsumerSpec {
        name: format!("app/tester/pubsub/{topic}"),
        kind: ConsumerKind::App,
        filters: vec![filter("pubsub", topic)],
        dead_letter,
    }
}

fn uplink() -> ConsumerSpec {
    ConsumerSpec {
        name: "uplink/hub".into(),
        kind: ConsumerKind::Uplink,
        filters: vec![filter("pubsub", "#"), filter("limited", "+")],
        dead_letter: None,
    }
}

fn changed(topic: &str) -> ConsumerSpec {
    let filters = vec![filter("pubsub", topic)];
    ConsumerSpec { name: "uplink/changed".into(), filters, ..uplink() }
}

fn filter(component: &str, topic: &str) -> Filter {
    Filter { component: component.into(), topic: topic.into() }
}

fn numbered(number: u8) -> NewMessage {
    NewMessage {
        content_type: Some("application/json".into()),
        data: number.to_string().into_bytes(),
        ..NewMessage::default()
    }
}

/// A message with everything that one can have.
fn full() -> NewMessage {
    NewMessage {
        content_type: Some("application/octet-stream".into()),
        attributes: vec![("type".into(), "order".into()), ("source".into(), "äöü".into())],
        key: Some("customer".into()),
        priority: 7,
        ttl_ms: Some(9 * DAY_MS),
        data: vec![0, 255, 128],
    }
}
