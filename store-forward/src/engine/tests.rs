//! What survives: crashes, full disks and clocks that jump.
#![allow(clippy::unwrap_used)]

mod claims;
mod crash;

use std::time::Duration;

use super::*;
use crate::clock::{ManualClock, Reading};
use crate::disk::{MemoryDisk, SimulatedDisk};
use crate::limits::{Overflow, StreamLimits};
use crate::record::{Condition, ConsumerKind, ConsumerSpec, Filter, NewMessage, Topic};

fn engine<D: Disk>(disk: &Arc<D>, clock: &ManualClock) -> Engine {
    try_engine(disk, clock).unwrap()
}

fn try_engine<D: Disk>(disk: &Arc<D>, clock: &ManualClock) -> Result<Engine, OpenError> {
    let limits = Limits { reserve_bytes: 1 << 20, segment_bytes: 64 << 10, ..Limits::default() };
    let options = Options { node: None, limits, volatile: false };
    let disk: Arc<dyn Disk> = disk.clone();
    Engine::open(options, disk, Arc::new(clock.clone()))
}

fn clock() -> ManualClock {
    ManualClock::new(Reading { wall_ms: 1_800_000_000_000, up_ms: 5_000, believed: true }, "boot-1")
}

fn one(engine: &mut Engine, ops: Vec<Op>) -> Result<Committed, Error> {
    engine.commit(&[Request { ops, durable: true }]).remove(0)
}

fn set(key: &str, ttl_ms: Option<u64>) -> Op {
    let (component, key) = ("s".to_owned(), key.to_owned());
    Op::Set { component, key, value: vec![7], when: Condition::Any, ttl_ms }
}

fn publish() -> Op {
    Op::Publish { topic: Topic::new("pubsub", "t"), message: NewMessage::default() }
}

#[test]
fn without_a_checkpoint_the_journal_alone_brings_everything_back() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut first = engine(&disk, &clock);
    for n in 0..200 {
        one(&mut first, vec![set(&n.to_string(), None), publish()]).unwrap();
    }
    let bytes = first.index().meta.state_bytes();
    drop(first);
    let second = engine(&disk, &clock);
    assert_eq!(second.recovery().replayed, 200);
    assert_eq!(second.index().meta.state_bytes(), bytes);
    let stream = second.index().streams.values().next().unwrap();
    assert_eq!((stream.row.messages, stream.row.next.0), (200, 201));
    for n in 0..200 {
        assert!(second.reader().state("s", &n.to_string(), 0).unwrap().is_some(), "{n}");
    }
}

#[test]
fn after_a_checkpoint_there_is_nothing_to_replay_and_an_idle_engine_is_not_due() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut first = engine(&disk, &clock);
    one(&mut first, vec![set("k", None)]).unwrap();
    assert!(first.due_in().is_some());
    first.checkpoint();
    clock.advance(Duration::from_secs(2));
    first.maintain();
    assert_eq!(first.due_in(), None);
    drop(first);
    assert_eq!(engine(&disk, &clock).recovery().replayed, 0);
}

#[test]
fn a_reboot_with_a_clock_years_ahead_expires_no_more_than_a_week() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut first = engine(&disk, &clock);
    let day = 24 * 3600 * 1000;
    one(&mut first, vec![set("week", Some(6 * day)), set("month", Some(30 * day))]).unwrap();
    drop(first);
    clock.reboot("boot-2", 1_800_000_000_000 + 3_650 * i64::try_from(day).unwrap(), true);
    let second = engine(&disk, &clock);
    let now_ms = second.index().device_ms(clock.read().up_ms);
    assert!(second.reader().state("s", "week", now_ms).unwrap().is_none());
    assert!(second.reader().state("s", "month", now_ms).unwrap().is_some());
}

#[test]
fn a_reboot_into_1970_expires_nothing_and_time_goes_on() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut first = engine(&disk, &clock);
    one(&mut first, vec![set("k", Some(60_000))]).unwrap();
    drop(first);
    clock.reboot("boot-2", 0, false);
    let second = engine(&disk, &clock);
    let now = |clock: &ManualClock| second.index().device_ms(clock.read().up_ms);
    assert!(second.reader().state("s", "k", now(&clock)).unwrap().is_some());
    clock.advance(Duration::from_millis(60_000));
    assert!(second.reader().state("s", "k", now(&clock)).unwrap().is_none());
}

#[test]
fn a_record_that_fits_in_no_segment_is_refused_and_the_store_goes_on() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    let (component, key) = ("s".to_owned(), "k".to_owned());
    let value = vec![7; 64 << 10];
    let large = Op::Set { component, key, value, when: Condition::Any, ttl_ms: None };
    let refused = one(&mut engine, vec![large]).unwrap_err();
    assert!(refused.to_string().contains("spec.limits.journalSegment"), "{refused}");
    one(&mut engine, vec![set("k", None)]).unwrap();
    assert_eq!(engine.poisoned(), None);
}

#[test]
fn what_has_nothing_to_do_writes_nothing() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    one(&mut engine, Vec::new()).unwrap();
    clock.advance(Duration::from_secs(60));
    engine.maintain();
    assert_eq!(engine.due_in(), None);
}

#[test]
fn the_sweeper_takes_what_is_over_its_time_and_then_sleeps() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    one(&mut engine, vec![set("k", Some(5_000))]).unwrap();
    clock.advance(Duration::from_secs(20));
    while engine.due_in() == Some(Duration::ZERO) {
        engine.maintain();
    }
    assert_eq!(engine.index().meta.state_bytes(), 0);
    clock.advance(Duration::from_secs(20));
    engine.maintain();
    assert_eq!(engine.due_in(), None);
}

#[test]
fn a_directory_that_is_gone_is_noticed_at_the_first_write_after_a_pause() {
    let (disk, clock) = (Arc::new(SimulatedDisk::new(1)), clock());
    let mut engine = engine(&disk, &clock);
    one(&mut engine, vec![set("k", None)]).unwrap();
    clock.advance(Duration::from_secs(10));
    disk.remove_directory();
    let refused = one(&mut engine, vec![publish()]).unwrap_err();
    assert!(matches!(refused, Error::Poisoned { .. }), "{refused}");
    assert!(refused.to_string().contains("the directory was removed"), "{refused}");
    assert_eq!(engine.due_in(), None);
}

#[test]
fn a_directory_that_goes_among_writes_is_noticed_soon_after_the_last_of_them() {
    let (disk, clock) = (Arc::new(SimulatedDisk::new(1)), clock());
    let mut engine = engine(&disk, &clock);
    one(&mut engine, vec![set("k", None)]).unwrap();
    disk.remove_directory();
    one(&mut engine, vec![publish()]).unwrap();
    while let Some(due) = engine.due_in() {
        clock.advance(due);
        engine.maintain();
    }
    let waited = clock.read().up_ms - 5_000;
    assert!(waited <= 2_000, "{waited} ms");
    assert_eq!(engine.poisoned(), Some("the directory was removed"));
}

#[test]
fn the_directory_is_looked_at_now_and_then_under_load_and_never_without() {
    let (disk, clock) = (Arc::new(SimulatedDisk::new(1)), clock());
    let mut engine = engine(&disk, &clock);
    let before = disk.place_checks();
    for _ in 0..1000 {
        clock.advance(Duration::from_millis(10));
        one(&mut engine, vec![publish()]).unwrap();
        engine.maintain();
    }
    let checks = disk.place_checks() - before;
    assert!((4..=6).contains(&checks), "{checks}");
    clock.advance(Duration::from_secs(60));
    engine.maintain();
    let idle = disk.place_checks();
    clock.advance(Duration::from_secs(60));
    engine.maintain();
    assert_eq!(disk.place_checks(), idle);
}

#[test]
fn a_message_stays_until_every_consumer_has_it() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    let spec = |name: &str| ConsumerSpec {
        name: name.into(),
        kind: ConsumerKind::Uplink,
        filters: vec![Filter { component: "pubsub".into(), topic: "#".into() }],
        dead_letter: None,
    };
    let register = vec![Op::Register(spec("a"))];
    let a = one(&mut engine, register).unwrap().registered.unwrap();
    let b = one(&mut engine, vec![Op::Register(spec("b"))]).unwrap().registered.unwrap();
    let stream = one(&mut engine, vec![publish(), publish()]).unwrap().published[0].stream;
    let ack = |consumer, from, to| {
        vec![Op::Ack { consumer, stream, ranges: vec![(Sequence(from), Sequence(to))] }]
    };
    let kept = |engine: &Engine| engine.index().streams[&stream].row.messages;
    one(&mut engine, ack(a, 1, 2)).unwrap();
    assert_eq!(kept(&engine), 2);
    one(&mut engine, ack(b, 2, 2)).unwrap();
    assert_eq!(kept(&engine), 1, "the first is still missing at b");
    one(&mut engine, ack(b, 1, 1)).unwrap();
    assert_eq!(kept(&engine), 0);
    one(&mut engine, vec![publish()]).unwrap();
    one(&mut engine, ack(a, 3, 3)).unwrap();
    one(&mut engine, vec![Op::Unregister { name: "b".into() }]).unwrap();
    assert_eq!(kept(&engine), 0);
}

#[test]
fn a_message_that_everyone_has_goes_with_the_expired_one_before_it() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    let consumer = register(&mut engine, "a", None);
    let short = NewMessage { ttl_ms: Some(1000), ..NewMessage::default() };
    let topic = Topic::new("pubsub", "t");
    let short = Op::Publish { topic, message: short };
    let stream = one(&mut engine, vec![short, publish()]).unwrap().published[0].stream;
    let ranges = vec![(Sequence(2), Sequence(2))];
    one(&mut engine, vec![Op::Ack { consumer, stream, ranges }]).unwrap();
    clock.advance(Duration::from_secs(5));
    engine.maintain();
    assert_eq!(engine.index().streams[&stream].row.messages, 0);
}

#[test]
fn a_message_that_everyone_has_takes_no_room_though_one_before_it_is_missing() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    keep_two(&mut engine);
    let consumer = register(&mut engine, "a", None);
    let stream = one(&mut engine, vec![publish(), publish()]).unwrap().published[0].stream;
    let ranges = vec![(Sequence(2), Sequence(2))];
    one(&mut engine, vec![Op::Ack { consumer, stream, ranges }]).unwrap();
    one(&mut engine, vec![publish()]).unwrap();
    let row = &engine.index().streams[&stream].row;
    assert_eq!((row.messages, row.losses.overflowed), (2, 0));
    one(&mut engine, vec![publish()]).unwrap();
    let row = &engine.index().streams[&stream].row;
    assert_eq!((row.messages, row.losses.overflowed), (2, 1), "the first is the oldest");
    let ranges = vec![(Sequence(4), Sequence(4)), (Sequence(3), Sequence(3))];
    one(&mut engine, vec![Op::Ack { consumer, stream, ranges }]).unwrap();
    let row = &engine.index().streams[&stream].row;
    assert_eq!((row.messages, row.first), (0, Sequence(5)));
}

#[test]
fn what_everyone_has_is_not_counted_as_lost_however_each_has_it() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    keep_two(&mut engine);
    let (ahead, beyond) = (register(&mut engine, "a", None), register(&mut engine, "b", None));
    let stream = one(&mut engine, vec![publish(), publish()]).unwrap().published[0].stream;
    for (consumer, from) in [(ahead, Sequence(1)), (beyond, Sequence(2))] {
        let ranges = vec![(from, Sequence(2))];
        one(&mut engine, vec![Op::Ack { consumer, stream, ranges }]).unwrap();
    }
    one(&mut engine, vec![publish()]).unwrap();
    one(&mut engine, vec![publish()]).unwrap();
    let row = &engine.index().streams[&stream].row;
    assert_eq!((row.messages, row.losses.overflowed), (2, 1));
}

#[test]
fn a_number_of_a_forgotten_consumer_is_never_given_again() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut first = engine(&disk, &clock);
    let gone = register(&mut first, "a", None);
    one(&mut first, vec![Op::Unregister { name: "a".into() }]).unwrap();
    assert!(register(&mut first, "b", None) > gone);
    one(&mut first, vec![Op::Unregister { name: "b".into() }]).unwrap();
    first.checkpoint();
    drop(first);
    assert!(register(&mut engine(&disk, &clock), "c", None).0 > gone.0 + 1);
}

#[test]
fn dead_letters_keep_to_the_limits_of_their_topic() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    let limits = StreamLimits { max_messages: 1, ..StreamLimits::default() };
    let component = "letters".to_owned();
    one(&mut engine, vec![Op::Configure { component, limits }]).unwrap();
    let consumer = register(&mut engine, "a", Some(Topic::new("letters", "l")));
    let stream = one(&mut engine, vec![publish(), publish()]).unwrap().published[0].stream;
    for sequence in [1, 2].map(Sequence) {
        let reason = "no".to_owned();
        one(&mut engine, vec![Op::Reject { consumer, stream, sequence, reason }]).unwrap();
    }
    let letters = &engine.index().streams[&StreamId(2)].row;
    assert_eq!((letters.messages, letters.losses.overflowed), (1, 1));
}

#[test]
fn a_message_refused_in_the_dead_letter_topic_is_dropped_and_not_published_there_again() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    let consumer = register(&mut engine, "a", Some(Topic::new("pubsub", "dead")));
    let stream = one(&mut engine, vec![publish()]).unwrap().published[0].stream;
    let reject =
        |stream, sequence| vec![Op::Reject { consumer, stream, sequence, reason: "no".to_owned() }];
    let letter = one(&mut engine, reject(stream, Sequence(1))).unwrap().published[0];
    assert_ne!(letter.stream, stream);
    assert!(one(&mut engine, reject(letter.stream, letter.sequence)).unwrap().published.is_empty());
    let dead = &engine.index().streams[&letter.stream].row;
    assert_eq!((dead.messages, dead.next, dead.losses.dropped), (0, Sequence(2), 1));
}

#[test]
fn a_dead_letter_that_is_refused_does_not_go_back_to_the_topic_it_comes_from() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    let reader = |name: &str, topic: &str, letters: &str| ConsumerSpec {
        name: name.into(),
        kind: ConsumerKind::App,
        filters: vec![Filter { component: "pubsub".into(), topic: topic.into() }],
        dead_letter: Some(Topic::new("pubsub", letters)),
    };
    let enlist = |engine: &mut Engine, spec| {
        one(engine, vec![Op::Register(spec)]).unwrap().registered.unwrap()
    };
    let first = enlist(&mut engine, reader("a", "t", "dead"));
    let second = enlist(&mut engine, reader("b", "dead", "t"));
    let stream = one(&mut engine, vec![publish()]).unwrap().published[0].stream;
    let reject = |consumer, stream| {
        let reason = "no".to_owned();
        vec![Op::Reject { consumer, stream, sequence: Sequence(1), reason }]
    };
    let letter = one(&mut engine, reject(first, stream)).unwrap().published[0];
    let back = one(&mut engine, reject(second, letter.stream)).unwrap();
    assert_eq!(back.published, []);
    assert_eq!(engine.index().streams[&letter.stream].row.losses.dropped, 1);
}

#[test]
fn a_message_that_expires_in_the_dead_letter_topic_is_not_published_there_again() {
    let (disk, clock) = (Arc::new(MemoryDisk::new()), clock());
    let mut engine = engine(&disk, &clock);
    register(&mut engine, "a", Some(Topic::new("pubsub", "dead")));
    let topic = Topic::new("pubsub", "dead");
    let message = NewMessage { ttl_ms: Some(1000), ..NewMessage::default() };
    let stream =
        one(&mut engine, vec![Op::Publish { topic, message }]).unwrap().published[0].stream;
    clock.advance(Duration::from_secs(20));
    while engine.due_in() == Some(Duration::ZERO) {
        engine.maintain();
    }
    let dead = &engine.index().streams[&stream].row;
    assert_eq!((dead.messages, dead.next, dead.losses.expired), (0, Sequence(2), 1));
}

/// From now on a topic keeps its two newest messages.
fn keep_two(engine: &mut Engine) {
    let limits =
        StreamLimits { max_messages: 2, overflow: Overflow::DropOldest, ..StreamLimits::default() };
    let component = "pubsub".to_owned();
    one(engine, vec![Op::Configure { component, limits }]).unwrap();
}

fn register(engine: &mut Engine, name: &str, dead_letter: Option<Topic>) -> ConsumerId {
    let spec = ConsumerSpec {
        name: name.into(),
        kind: ConsumerKind::App,
        filters: vec![Filter { component: "pubsub".into(), topic: "#".into() }],
        dead_letter,
    };
    one(engine, vec![Op::Register(spec)]).unwrap().registered.unwrap()
}
