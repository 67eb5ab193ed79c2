//! A message broker in memory that can do next to nothing, for the building block that completes it.

mod queue;
mod subscription;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use components::Refusal;
use components::clock::Clock;
use components::port::Component;
use components::port::pubsub::{
    Message, Outgoing, PubSub, PubSubFeatures, PublishError, Sequence, StreamId, SubscribeSpec,
    Subscription, Timestamp, Topic,
};
use tokio::sync::watch;

use queue::{Envelope, Queue};
use subscription::FakeSubscription;

/// A broker with a loop of its own: unordered, slow, and with a link that breaks now and then. It
/// counts no attempts, makes no batches, knows no dead letters and no times to live, and hands over
/// again what was not acknowledged. All it does is a function of its seed.
pub struct FakeBroker {
    name: String,
    seed: u64,
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
}

/// The broker behind its link.
#[derive(Default)]
struct Shared {
    topics: Mutex<BTreeMap<String, FakeTopic>>,
    /// By the consumers' names.
    queues: Mutex<BTreeMap<String, Queue>>,
    /// Counts the changes of the queues.
    changes: watch::Sender<u64>,
}

#[derive(Clone, Copy)]
struct FakeTopic {
    stream: StreamId,
    last: Sequence,
}

impl FakeBroker {
    /// A broker without messages: a pub/sub component called `name`.
    #[must_use]
    pub fn new(name: &str, seed: u64, clock: Arc<dyn Clock>) -> Self {
        Self { name: name.to_owned(), seed, clock, shared: Arc::default() }
    }

    /// Returns the place of the next message of a topic.
    fn place(&self, topic: &str) -> FakeTopic {
        let mut topics = lock(&self.shared.topics);
        let stream = StreamId(u32::try_from(topics.len()).expect("a test has few topics"));
        let new = FakeTopic { stream, last: Sequence(0) };
        let topic = topics.entry(topic.to_owned()).or_insert(new);
        topic.last = topic.last.next();
        *topic
    }

    fn envelope(&self, topic: &str, message: Outgoing) -> Envelope {
        let FakeTopic { stream, last } = self.place(topic);
        let Outgoing { content_type, attributes, key, priority, data, .. } = message;
        let now = self.clock.read();
        let at = Timestamp { wall_ms: now.wall_ms, up_ms: now.up_ms, ..Timestamp::default() };
        let sequence = last;
        let expires_in_ms = None;
        let message =
            Message { sequence, at, expires_in_ms, content_type, attributes, key, priority, data };
        Envelope { topic: Topic::new(&self.name, topic), stream, message }
    }
}

impl Component for FakeBroker {}

#[async_trait]
impl PubSub for FakeBroker {
    fn features(&self) -> PubSubFeatures {
        PubSubFeatures::default()
    }

    async fn publish(&self, topic: &str, messages: Vec<Outgoing>) -> Result<(), PublishError> {
        for message in messages {
            let envelope = self.envelope(topic, message);
            for queue in lock(&self.shared.queues).values_mut() {
                queue.offer(&envelope);
            }
        }
        self.shared.changed();
        Ok(())
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<Arc<dyn Subscription>, Refusal> {
        let unknown = spec.batch.is_some() || spec.attempts.is_some() || spec.dead_letter.is_some();
        if unknown {
            return Err(Refusal::other("the fake broker was asked for what it can't do"));
        }
        let seed = self.seed ^ u64::from(crc32c::crc32c(spec.consumer.as_bytes()));
        let mut queues = lock(&self.shared.queues);
        queues.entry(spec.consumer.clone()).or_default().filter(spec.filters);
        let shared = Arc::clone(&self.shared);
        Ok(Arc::new(FakeSubscription::new(shared, spec.consumer, spec.order, seed)))
    }
}

impl Shared {
    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn with_queue<T>(&self, consumer: &str, look: impl FnOnce(&mut Queue) -> T) -> T {
        look(lock(&self.queues).entry(consumer.to_owned()).or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
