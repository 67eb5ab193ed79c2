//! What the store promises its callers.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::*;
use crate::backoff::Backoff;
use crate::clock::{ManualClock, Reading};
use crate::consumer::{Delivery, Outcome, Policy, Sink, Slot, run};
use crate::disk::MemoryDisk;
use crate::ids::Sequence;
use crate::limits::{Limits, Overflow, StreamLimits};
use crate::record::{Condition, ConsumerKind, Filter, NewMessage, Retention};

mod slots;
mod stop;

struct Bench {
    disk: Arc<MemoryDisk>,
    clock: ManualClock,
    limits: Limits,
}

impl Bench {
    fn new() -> Self {
        let reading = Reading { wall_ms: 1_800_000_000_000, up_ms: 1_000, believed: true };
        let limits = Limits { reserve_bytes: 0, segment_bytes: 64 << 10, ..Limits::default() };
        Self {
            disk: Arc::new(MemoryDisk::new()),
            clock: ManualClock::new(reading, "boot-1"),
            limits,
        }
    }

    fn open(&self) -> Store {
        let options = Options { node: None, limits: self.limits.clone(), volatile: false };
        Store::open(options, self.disk.clone(), Arc::new(self.clock.clone())).unwrap()
    }
}

fn set(key: &str, value: &str, when: Condition) -> Op {
    let (component, key) = ("store".to_owned(), key.to_owned());
    Op::Set { component, key, value: value.into(), when, ttl_ms: None }
}

fn publish(topic: &str, data: &str) -> Op {
    let message = NewMessage { data: data.into(), ..NewMessage::default() };
    Op::Publish { topic: Topic::new("pubsub", topic), message }
}

fn consumer(name: &str, topic: &str) -> ConsumerSpec {
    ConsumerSpec {
        name: name.into(),
        kind: ConsumerKind::App,
        filters: vec![Filter { component: "pubsub".into(), topic: topic.into() }],
        dead_letter: None,
    }
}

fn policy() -> Policy {
    Policy {
        window: 16,
        per_stream: 1,
        batch: 1,
        batch_wait: Duration::ZERO,
        by_key: false,
        backoff: Backoff { initial: Duration::ZERO, max: Duration::ZERO, jitter: 0.0 },
        max_attempts: None,
        read_ahead: Arc::default(),
    }
}

/// Takes what it is given, answers by a script, and tells when it has as many as it waits for.
struct Script<F> {
    answer: F,
    seen: Mutex<Vec<String>>,
    enough: usize,
    done: tokio::sync::Notify,
}

impl<F: Fn(&Delivery) -> Outcome + Send + Sync + 'static> Script<F> {
    fn new(enough: usize, answer: F) -> Arc<Self> {
        Arc::new(Self { answer, seen: Mutex::default(), enough, done: tokio::sync::Notify::new() })
    }

    async fn drive(
        self: &Arc<Self>,
        store: &Store,
        spec: ConsumerSpec,
        policy: Policy,
    ) -> Vec<String> {
        let consumer = store.register(spec).await.unwrap();
        run(consumer, self.clone(), policy, self.done.notified()).await;
        self.seen.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl<F: Fn(&Delivery) -> Outcome + Send + Sync + 'static> Sink<Delivery> for Script<F> {
    async fn ready(&self) -> Slot {
        Slot::new(1)
    }

    fn deliver(self: Arc<Self>, _: Slot, batch: Vec<Delivery>) -> BoxFuture<'static, Vec<Outcome>> {
        let outcomes = batch.iter().map(|delivery| {
            let mut seen = self.seen.lock().unwrap();
            seen.push(String::from_utf8(delivery.message.data.clone()).unwrap());
            if seen.len() == self.enough {
                self.done.notify_one();
            }
            (self.answer)(delivery)
        });
        futures_util::future::ready(outcomes.collect()).boxed()
    }
}

#[tokio::test]
async fn what_was_saved_is_there_after_a_restart() {
    let bench = Bench::new();
    let store = bench.open();
    let saved = store.commit(vec![set("k", "v", Condition::Any)]).await.unwrap();
    let row = store.get("store", "k").unwrap().unwrap();
    assert_eq!((row.value.as_slice(), row.etag), (&b"v"[..], saved.lsn.0));
    store.close().await;
    assert!(matches!(store.commit(vec![set("k", "w", Condition::Any)]).await, Err(Error::Closed)));
    let identity = store.identity().clone();
    let store = bench.open();
    assert_eq!(store.get("store", "k").unwrap().unwrap(), row);
    assert_eq!(store.identity(), &identity);
}

#[tokio::test]
async fn the_last_handle_takes_the_writer_and_its_memory_with_it() {
    let bench = Bench::new();
    let store = bench.open();
    store.commit(vec![set("k", "v", Condition::Any)]).await.unwrap();
    assert!(Arc::strong_count(&bench.disk) > 1);
    drop(store);
    let gone = async {
        while Arc::strong_count(&bench.disk) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
}

#[tokio::test]
async fn a_wrong_etag_changes_nothing_of_the_whole_record() {
    let store = Bench::new().open();
    let first = store.commit(vec![set("a", "1", Condition::Absent)]).await.unwrap();
    let wrong =
        vec![set("b", "2", Condition::Any), set("a", "2", Condition::Etag(first.lsn.0 + 7))];
    let refused = store.commit(wrong).await.unwrap_err();
    assert!(matches!(refused, Error::Conflict { op: 1, .. }), "{refused}");
    assert!(store.get("store", "b").unwrap().is_none());
    let right = set("a", "2", Condition::Etag(first.lsn.0));
    store.commit(vec![right]).await.unwrap();
    let again = store.commit(vec![set("a", "3", Condition::Absent)]).await;
    assert!(matches!(again, Err(Error::Conflict { .. })));
}

#[tokio::test]
async fn a_key_is_invisible_once_its_elapsed_time_is_over_whatever_the_wall_clock_does() {
    let bench = Bench::new();
    let store = bench.open();
    let (component, key) = ("store".to_owned(), "k".to_owned());
    let op = Op::Set { component, key, value: vec![1], when: Condition::Any, ttl_ms: Some(5_000) };
    store.commit(vec![op]).await.unwrap();
    bench.clock.set_wall(4_000_000_000_000, true);
    assert!(store.get("store", "k").unwrap().is_some());
    bench.clock.advance(Duration::from_millis(5_000));
    assert!(store.get("store", "k").unwrap().is_none());
    store.commit(vec![set("k", "new", Condition::Absent)]).await.unwrap();
}

#[tokio::test]
async fn messages_reach_a_consumer_in_order_and_once_when_it_acknowledges() {
    let bench = Bench::new();
    let store = bench.open();
    let sent: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    for data in &sent {
        store.commit(vec![publish("t", data)]).await.unwrap();
    }
    let script = Script::new(300, |_: &Delivery| Outcome::Ack);
    assert_eq!(script.drive(&store, consumer("c", "t"), policy()).await, sent);
    store.close().await;
    let status = bench.open().status().unwrap();
    assert_eq!(status.streams[0].messages, 0);
    assert_eq!((status.consumers[0].backlog, status.streams[0].last_sequence), (0, 300));
}

#[tokio::test]
async fn a_refused_message_comes_again_before_the_next_one() {
    let store = Bench::new().open();
    for data in ["a", "b", "c"] {
        store.commit(vec![publish("t", data)]).await.unwrap();
    }
    let script = Script::new(5, |delivery: &Delivery| match delivery.attempt {
        1 | 2 if delivery.message.data == b"b" => Outcome::Retry("busy".into()),
        _ => Outcome::Ack,
    });
    let seen = script.drive(&store, consumer("c", "t"), policy()).await;
    assert_eq!(seen, ["a", "b", "b", "b", "c"]);
}

#[tokio::test]
async fn a_message_refused_too_often_goes_to_the_dead_letter_topic() {
    let store = Bench::new().open();
    store.commit(vec![publish("t", "bad"), publish("t", "good")]).await.unwrap();
    let spec =
        ConsumerSpec { dead_letter: Some(Topic::new("pubsub", "dead")), ..consumer("c", "t") };
    let script = Script::new(4, |delivery: &Delivery| {
        let bad = delivery.message.data == b"bad";
        if bad { Outcome::Retry("no".into()) } else { Outcome::Ack }
    });
    let policy = Policy { max_attempts: Some(3), ..policy() };
    assert_eq!(script.drive(&store, spec, policy).await, ["bad", "bad", "bad", "good"]);
    let letters = Script::new(1, |delivery: &Delivery| {
        assert_eq!(delivery.message.attribute("deadletterreason"), Some("no"));
        Outcome::Ack
    });
    assert_eq!(letters.drive(&store, consumer("d", "dead"), self::policy()).await, ["bad"]);
}

#[tokio::test]
async fn a_broken_link_counts_no_attempt_and_sends_again_in_order() {
    let store = Bench::new().open();
    for data in ["a", "b", "c", "d"] {
        store.commit(vec![publish("t", data)]).await.unwrap();
    }
    let broken = std::sync::atomic::AtomicUsize::new(0);
    let script = Script::new(6, move |delivery: &Delivery| {
        assert_eq!(delivery.attempt, 1);
        let place = broken.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if place < 2 { Outcome::Unreachable("gone".into()) } else { Outcome::Ack }
    });
    let policy = Policy { per_stream: usize::MAX, window: 2, ..policy() };
    let seen = script.drive(&store, consumer("c", "t"), policy).await;
    assert_eq!(seen, ["a", "b", "a", "b", "c", "d"]);
}

async fn limited(overflow: Overflow) -> Store {
    let store = Bench::new().open();
    let limits = StreamLimits { max_messages: 2, overflow, ..StreamLimits::default() };
    store.commit(vec![Op::Configure { component: "pubsub".into(), limits }]).await.unwrap();
    store.register(consumer("c", "t")).await.unwrap();
    store
}

async fn left_after_three(store: &Store, priorities: [u8; 3]) -> Vec<String> {
    for (n, priority) in priorities.into_iter().enumerate() {
        let message = NewMessage { data: n.to_string().into(), priority, ..NewMessage::default() };
        let topic = Topic::new("pubsub", "t");
        store.commit(vec![Op::Publish { topic, message }]).await.unwrap();
    }
    let status = store.status().unwrap();
    assert_eq!((status.streams[0].messages, status.streams[0].lost.overflowed), (2, 1));
    Script::new(2, |_: &Delivery| Outcome::Ack).drive(store, consumer("c", "t"), policy()).await
}

#[tokio::test]
async fn a_full_stream_refuses_the_producer_unless_told_otherwise() {
    let store = limited(Overflow::Reject).await;
    for data in ["0", "1"] {
        store.commit(vec![publish("t", data)]).await.unwrap();
    }
    let refused = store.commit(vec![publish("t", "2")]).await.unwrap_err();
    assert!(refused.is_full(), "{refused}");
    let script = Script::new(1, |_: &Delivery| Outcome::Ack);
    script.drive(&store, consumer("c", "t"), policy()).await;
    store.commit(vec![publish("t", "2")]).await.unwrap();
}

#[tokio::test]
async fn drop_oldest_takes_the_oldest_and_counts_it() {
    let store = limited(Overflow::DropOldest).await;
    assert_eq!(left_after_three(&store, [0, 0, 0]).await, ["1", "2"]);
}

#[tokio::test]
async fn drop_new_takes_the_new_one_and_counts_it() {
    let store = limited(Overflow::DropNew).await;
    assert_eq!(left_after_three(&store, [0, 0, 0]).await, ["0", "1"]);
}

#[tokio::test]
async fn drop_lowest_priority_takes_the_oldest_of_the_lowest_be_it_the_new_one() {
    let store = limited(Overflow::DropLowestPriority).await;
    assert_eq!(left_after_three(&store, [5, 1, 3]).await, ["0", "2"]);
    let store = limited(Overflow::DropLowestPriority).await;
    assert_eq!(left_after_three(&store, [5, 3, 1]).await, ["0", "1"]);
}

#[tokio::test]
async fn what_expires_is_counted_and_a_consumer_goes_on_behind_it() {
    let bench = Bench::new();
    let store = bench.open();
    store.register(consumer("c", "t")).await.unwrap();
    let short = NewMessage { data: b"short".to_vec(), ttl_ms: Some(10), ..NewMessage::default() };
    let topic = Topic::new("pubsub", "t");
    let ops = vec![Op::Publish { topic, message: short }, publish("t", "long")];
    store.commit(ops).await.unwrap();
    bench.clock.advance(Duration::from_secs(10));
    store.commit(vec![Op::Expire { limit: 10, retention: unclaimed(1_000_000) }]).await.unwrap();
    assert_eq!(store.status().unwrap().streams[0].lost.expired, 1);
    let script = Script::new(1, |_: &Delivery| Outcome::Ack);
    assert_eq!(script.drive(&store, consumer("c", "t"), policy()).await, ["long"]);
}

#[tokio::test]
async fn a_hole_in_the_middle_keeps_nothing_behind_it() {
    let bench = Bench::new();
    let store = bench.open();
    store.register(consumer("c", "t")).await.unwrap();
    let short = NewMessage { data: b"short".to_vec(), ttl_ms: Some(10), ..NewMessage::default() };
    let topic = Topic::new("pubsub", "t");
    let hole = Op::Publish { topic, message: short };
    store.commit(vec![publish("t", "1"), hole, publish("t", "3")]).await.unwrap();
    bench.clock.advance(Duration::from_secs(10));
    store.commit(vec![Op::Expire { limit: 10, retention: unclaimed(1_000_000) }]).await.unwrap();
    let script = Script::new(2, |_: &Delivery| Outcome::Ack);
    assert_eq!(script.drive(&store, consumer("c", "t"), policy()).await, ["1", "3"]);
    store.close().await;
    let status = bench.open().status().unwrap();
    assert_eq!((status.streams[0].messages, status.consumers[0].backlog), (0, 0));
}

#[tokio::test]
async fn a_message_for_nobody_waits_for_a_first_consumer_and_then_goes() {
    let bench = Bench::new();
    let store = bench.open();
    store.commit(vec![publish("t", "1")]).await.unwrap();
    bench.clock.advance(Duration::from_secs(100));
    store.commit(vec![Op::Expire { limit: 10, retention: unclaimed(200_000) }]).await.unwrap();
    assert_eq!(store.status().unwrap().streams[0].messages, 1);
    store.commit(vec![Op::Expire { limit: 10, retention: unclaimed(100_000) }]).await.unwrap();
    let stream = &store.status().unwrap().streams[0];
    assert_eq!((stream.messages, stream.lost.unclaimed), (0, 1));
}

#[tokio::test]
async fn what_is_longer_than_its_limit_is_refused_by_name() {
    let store = Bench::new().open();
    let refused =
        store.commit(vec![set(&"k".repeat(2000), "v", Condition::Any)]).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("a key has 2000 bytes") && text.contains("spec.limits.maxKey"), "{text}");
    let refused = store.commit(vec![publish(&"t".repeat(65_536), "v")]).await.unwrap_err();
    assert!(refused.to_string().contains("a topic has 65536 bytes"), "{refused}");
}

fn unclaimed(unclaimed_ms: u64) -> Retention {
    Retention { unclaimed_ms, ..Retention::default() }
}

/// Holds `large`, and takes everything else.
fn hold_large(delivery: &Delivery) -> Outcome {
    match delivery.message.data.as_slice() {
        b"large" => Outcome::Hold("it is too large".into()),
        _ => Outcome::Ack,
    }
}

#[tokio::test]
async fn a_held_message_stays_in_its_stream_alone_and_is_tried_again_on_request() {
    let bench = Bench::new();
    let store = bench.open();
    let mut publishes = vec![publish("t", "1"), publish("t", "large")];
    publishes.extend((2..9).map(|n| publish("t", &n.to_string())));
    store.commit(publishes).await.unwrap();
    let sink = Script::new(10, hold_large);
    let driven = sink.drive(&store, consumer("c", "t"), policy());
    let watched = async {
        let held = loop {
            let status = store.status().unwrap();
            let known = status.consumers.into_iter().next();
            if let Some(known) = known.filter(|known| known.deliveries.acknowledged == 8) {
                break known;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!((held.held, held.held_reason.as_deref()), (1, Some("it is too large")));
        let refusal = held.last_refusal.unwrap();
        assert_eq!((refusal.topic.as_str(), refusal.sequence, refusal.attempt), ("pubsub/t", 2, 1));
        assert_eq!(refusal.at, 1_800_000_000_000);
        assert_eq!(store.retry("c").unwrap(), 1);
        assert!(matches!(store.retry("d"), Err(Error::UnknownConsumer(_))));
    };
    let (seen, ()) = tokio::join!(driven, watched);
    assert_eq!(seen, ["1", "large", "2", "3", "4", "5", "6", "7", "8", "large"]);
    store.close().await;
    drop(store);

    let store = bench.open();
    let status = store.status().unwrap();
    assert_eq!(status.streams[0].messages, 1, "what passed it is not kept");
    assert_eq!((status.consumers[0].backlog, status.consumers[0].held), (1, 0));
    let seen = Script::new(1, hold_large).drive(&store, consumer("c", "t"), policy()).await;
    assert_eq!(seen, ["large"], "after a restart it is found again");
}

#[tokio::test]
async fn with_a_dead_letter_topic_nothing_is_held() {
    let store = Bench::new().open();
    store.commit(vec![publish("t", "large"), publish("t", "1")]).await.unwrap();
    let dead = Some(Topic::new("pubsub", "dead"));
    let spec = ConsumerSpec { dead_letter: dead, ..consumer("c", "t") };
    Script::new(2, hold_large).drive(&store, spec, policy()).await;
    let letters = Script::new(1, |letter| {
        let reason = crate::consumer::DeadLetter::of(&letter.message).map(|it| it.reason);
        assert_eq!(reason, Some("it is too large"));
        Outcome::Ack
    });
    assert_eq!(letters.drive(&store, consumer("d", "dead"), policy()).await, ["large"]);
    let deliveries = store.status().unwrap().consumers[0].deliveries;
    assert_eq!((deliveries.rejected, deliveries.held), (1, 0));
}

#[tokio::test]
async fn a_consumer_that_reads_its_own_dead_letters_holds_those() {
    let store = Bench::new().open();
    store.commit(vec![publish("t", "large")]).await.unwrap();
    let dead = Some(Topic::new("pubsub", "dead"));
    let spec = ConsumerSpec { dead_letter: dead, ..consumer("c", "#") };
    let seen = Script::new(2, hold_large).drive(&store, spec, policy()).await;
    assert_eq!(seen, ["large", "large"]);
    store.close().await;
    let status = store.status().unwrap();
    assert_eq!(status.consumers[0].deliveries.held, 1);
    assert_eq!(status.streams[1].messages, 1);
    assert_eq!(status.streams.iter().map(|stream| stream.lost.dropped).sum::<u64>(), 0);
}

#[tokio::test]
async fn a_message_that_is_given_up_is_counted_as_the_loss_that_it_is() {
    let store = Bench::new().open();
    let consumer = store.register(consumer("c", "t")).await.unwrap().id();
    store.commit(vec![publish("t", "1"), publish("t", "2")]).await.unwrap();
    let (stream, sequence) = (StreamId(1), Sequence(1));
    let loss = crate::record::Loss::TooLarge;
    let give_up = Op::GiveUp { consumer, stream, sequence, loss };
    store.commit(vec![give_up.clone()]).await.unwrap();
    store.commit(vec![give_up]).await.unwrap();
    let stream = store.status().unwrap().streams.remove(0);
    assert_eq!((stream.messages, stream.lost.too_large, stream.lost.dropped), (1, 1, 0));
}
