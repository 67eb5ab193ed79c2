//! What a store says of itself, as text that has to stay the same.

use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use store_forward::Store;
use store_forward::backoff::Backoff;
use store_forward::clock::{ManualClock, Reading};
use store_forward::consumer::{self, Delivery, Outcome, Policy, Sink, Slot};
use store_forward::disk::OsDisk;
use store_forward::limits::StreamLimits;
use store_forward::record::{ConsumerSpec, NewMessage, Op, Topic};
use store_forward::store::{
    ConsumerStatus, LossStatus, Options, Row, StateStatus, Status, StreamStatus,
};
use tokio::sync::Notify;

use super::make::{KEYS, WRITTEN_MS, limits};

/// An hour after it was written: what has minutes to live is gone, what has days isn't.
const OPENED_MS: i64 = WRITTEN_MS + 3_600_000;

/// The payload of the last message of each stream.
const END: &[u8] = b"the end";

/// Opens the store in `dir` on another boot, and tells its rows, its messages for each consumer,
/// and its counts.
///
/// # Panics
/// When it can't be opened or read.
#[must_use]
pub fn describe(dir: &Path) -> String {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build();
    tokio.expect("it can be built").block_on(describe_store(dir))
}

async fn describe_store(dir: &Path) -> String {
    let store = open(dir);
    let mut text = String::new();
    let identity = store.identity();
    let _ = writeln!(text, "node {} epoch {}", identity.node, identity.epoch);
    for (component, key) in KEYS {
        let row = store.get(component, key).expect("a row can be read");
        let row = row.map(|Row { value, etag, expires_in_ms }| (value, etag, expires_in_ms));
        let _ = writeln!(text, "row {component} {key}: {row:?}");
    }
    let status = store.status().expect("the status can be read");
    assert!(status.damage.is_empty(), "{:?}", status.damage);
    for StreamStatus { pubsub, topic, last_sequence, messages, lost, .. } in &status.streams {
        let LossStatus { expired, overflowed, dropped, unclaimed, damaged, too_large } = lost;
        let lost = [expired, overflowed, dropped, unclaimed, damaged, too_large];
        let _ = writeln!(
            text,
            "stream {pubsub}/{topic}: up to {last_sequence}, {messages} kept, lost {lost:?}"
        );
    }
    for ConsumerStatus { name, backlog, unmatched, inactive, .. } in &status.consumers {
        let inactive = inactive.as_ref().map(|it| (&it.reason, it.collecting, it.kept_for_ms));
        let _ = writeln!(
            text,
            "consumer {name}: {backlog} wait, {unmatched} unmatched, inactive {inactive:?}"
        );
    }
    for StateStatus { component, keys, bytes } in &status.state {
        let _ = writeln!(text, "state {component}: {keys} keys, {bytes} bytes");
    }
    end_streams(&store, &status).await;
    for spec in store.consumers().expect("consumers can be read") {
        let ConsumerSpec { name, kind, filters, dead_letter } = &spec;
        let filters: Vec<_> = filters.iter().map(|it| (&it.component, &it.topic)).collect();
        let dead = dead_letter.as_ref().map(Topic::to_string);
        let _ = writeln!(text, "{kind:?} {name}: reads {filters:?}, dead letters {dead:?}");
        let mut deliveries = deliver(&store, &status, spec).await;
        deliveries.sort_by_key(|delivery| (delivery.stream, delivery.message.sequence));
        deliveries.iter().for_each(|delivery| describe_delivery(&mut text, delivery));
    }
    store.close().await;
    text
}

fn open(dir: &Path) -> Store {
    let reading = Reading { wall_ms: OPENED_MS, up_ms: 1000, believed: true };
    let clock = Arc::new(ManualClock::new(reading, "boot of the next version"));
    let disk = Arc::new(OsDisk::open(dir).expect("the directory can be opened"));
    let options = Options { node: None, limits: limits(), volatile: false };
    Store::open(options, disk, clock).expect("an older version's store can be opened")
}

fn describe_delivery(text: &mut String, delivery: &Delivery) {
    let Delivery { topic, attempt, message, .. } = delivery;
    let at = message.at;
    let at = (at.wall_ms, at.boot, at.up_ms, at.believed);
    let _ = writeln!(
        text,
        "  {topic} {} attempt {attempt}: at {at:?}, expires {:?}, {:?}, {:?}, key {:?}, priority {}, {} {:?}",
        message.sequence,
        // Reading takes some of it.
        message.expires_in_ms.map(|millis| format!("in {} s", millis.div_ceil(1000))),
        message.content_type,
        message.attributes,
        message.key,
        message.priority,
        message.data.len(),
        String::from_utf8_lossy(&message.data[..message.data.len().min(20)]),
    );
}

/// Publishes a last message to each stream, so that consumers can tell when they have everything.
async fn end_streams(store: &Store, status: &Status) {
    for StreamStatus { pubsub, topic, .. } in &status.streams {
        store.configure(pubsub, StreamLimits::default()).await.expect("limits can be set");
        let message = NewMessage { data: END.to_vec(), ..NewMessage::default() };
        let topic = Topic::new(pubsub, topic);
        store.commit(vec![Op::Publish { topic, message }]).await.expect("there is room");
    }
}

/// What a consumer gets, all of which it takes.
async fn deliver(store: &Store, status: &Status, spec: ConsumerSpec) -> Vec<Delivery> {
    let reads = |stream: &&StreamStatus| spec.reads(&Topic::new(&stream.pubsub, &stream.topic));
    let streams = status.streams.iter().filter(reads).count();
    let (taken, complete) = (Mutex::default(), Notify::new());
    let sink = Arc::new(Collector { streams: AtomicUsize::new(streams), taken, complete });
    let policy = Policy {
        window: 1,
        per_stream: 1,
        batch: 1,
        batch_wait: Duration::ZERO,
        by_key: false,
        backoff: Backoff::default(),
        max_attempts: None,
        read_ahead: Arc::default(),
    };
    let consumer = store.register(spec).await.expect("a known consumer can be taken up");
    consumer::run(consumer, sink.clone(), policy, sink.complete.notified()).await;
    std::mem::take(&mut sink.taken.lock().expect("no thread panicked"))
}

/// Takes everything, until each stream has come to its end.
struct Collector {
    streams: AtomicUsize,
    taken: Mutex<Vec<Delivery>>,
    complete: Notify,
}

#[async_trait]
impl Sink<Delivery> for Collector {
    async fn ready(&self) -> Slot {
        Slot::new(1)
    }

    fn deliver(self: Arc<Self>, _: Slot, batch: Vec<Delivery>) -> BoxFuture<'static, Vec<Outcome>> {
        let outcomes = batch.iter().map(|_| Outcome::Ack).collect();
        for delivery in batch {
            if delivery.message.data != END {
                self.taken.lock().expect("no thread panicked").push(delivery);
            } else if self.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.complete.notify_one();
            }
        }
        Box::pin(std::future::ready(outcomes))
    }
}
