//! A component and a remote, both played by the test.

use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use components::clock::{ManualClock, Reading};
use components::port::Component;
use components::port::pubsub::{Sequence, Slot, StreamId, Topic};
use components::stop::Stopper;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::*;

pub(super) const NOW: Reading = Reading { wall_ms: 1_800_000_000_000, up_ms: 0, believed: true };

/// A specification that asks for nothing in particular.
pub(super) fn spec() -> SubscribeSpec {
    SubscribeSpec {
        consumer: "app/a/pubsub/t".into(),
        filters: vec!["t".into()],
        order: Order::Stream,
        batch: None,
        attempts: None,
        dead_letter: None,
        read_ahead: Arc::default(),
    }
}

/// The first delivery of a message whose payload is its sequence.
pub(super) fn delivery(sequence: u64) -> Delivery {
    let data = sequence.to_string().into_bytes();
    let message = Message { sequence: Sequence(sequence), data, ..Message::default() };
    Delivery { topic: Topic::new("pubsub", "t"), stream: StreamId(1), attempt: 1, message }
}

/// A component that records what it is asked for.
pub(super) struct FakeComponent {
    features: PubSubFeatures,
    pub(super) clock: ManualClock,
    pub(super) subscription: Arc<FakeSubscription>,
    asked: Mutex<Vec<SubscribeSpec>>,
    published: Mutex<Vec<(String, Outgoing)>>,
    refuses: Mutex<bool>,
}

impl FakeComponent {
    pub(super) fn with(features: PubSubFeatures) -> Arc<Self> {
        Arc::new(Self {
            features,
            clock: ManualClock::new(NOW, "boot"),
            subscription: Arc::default(),
            asked: Mutex::default(),
            published: Mutex::default(),
            refuses: Mutex::default(),
        })
    }

    pub(super) async fn subscribe(self: &Arc<Self>, spec: SubscribeSpec) -> Arc<dyn Subscription> {
        let component: Arc<dyn PubSub> = self.clone();
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        super::subscribe(&component, "pubsub", spec, &clock).await.unwrap()
    }

    /// Returns the last specification.
    pub(super) fn asked(&self) -> SubscribeSpec {
        self.asked.lock().unwrap().last().unwrap().clone()
    }

    pub(super) fn published(&self) -> Vec<(String, Outgoing)> {
        self.published.lock().unwrap().clone()
    }

    pub(super) fn refuse(&self, refuses: bool) {
        *self.refuses.lock().unwrap() = refuses;
    }
}

impl Component for FakeComponent {}

#[async_trait]
impl PubSub for FakeComponent {
    fn features(&self) -> PubSubFeatures {
        self.features
    }

    async fn publish(&self, topic: &str, messages: Vec<Outgoing>) -> Result<(), PublishError> {
        if *self.refuses.lock().unwrap() {
            return Err(Refusal::other("the broker is full").into());
        }
        let messages = messages.into_iter().map(|message| (topic.to_owned(), message));
        self.published.lock().unwrap().extend(messages);
        Ok(())
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<Arc<dyn Subscription>, Refusal> {
        self.asked.lock().unwrap().push(spec);
        Ok(self.subscription.clone())
    }
}

/// A subscription that shows its sink. It ends after a stop, once the test has all outcomes.
#[derive(Default)]
pub(super) struct FakeSubscription {
    ran: Mutex<Option<mpsc::UnboundedSender<Arc<dyn Sink<Delivery>>>>>,
    answered: Notify,
}

impl Subscription for FakeSubscription {
    fn run(self: Arc<Self>, sink: Arc<dyn Sink<Delivery>>, stop: Stop) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.ran.lock().unwrap().as_ref().unwrap().send(sink).unwrap();
            stop.requested().await;
            self.answered.notified().await;
        })
    }
}

/// A subscription that runs, and the sink that the component sees.
pub(super) struct Running {
    pub(super) sink: Arc<dyn Sink<Delivery>>,
    pub(super) stopper: Stopper,
    task: JoinHandle<()>,
    subscription: Arc<FakeSubscription>,
}

impl Running {
    pub(super) async fn start(
        fake: &Arc<FakeComponent>,
        remote: &Arc<FakeRemote>,
        spec: SubscribeSpec,
    ) -> Self {
        let (ran, mut sinks) = mpsc::unbounded_channel();
        *fake.subscription.ran.lock().unwrap() = Some(ran);
        let subscription = fake.subscribe(spec).await;
        let stopper = Stopper::default();
        let task = tokio::spawn(subscription.run(remote.clone(), stopper.subscribe()));
        let sink = sinks.recv().await.unwrap();
        Self { sink, stopper, task, subscription: fake.subscription.clone() }
    }

    /// Delivers a message as the component would, and returns its outcome.
    pub(super) async fn deliver(&self, sequence: u64) -> Outcome {
        self.handed(sequence).await.await.remove(0)
    }

    /// Hands messages over, and returns their outcomes.
    pub(super) async fn hand_over(&self, batch: Vec<Delivery>) -> Vec<Outcome> {
        let slot = self.sink.ready().await;
        Arc::clone(&self.sink).deliver(slot, batch).await
    }

    /// Hands a message over, and returns the future of its outcome.
    pub(super) async fn handed(&self, sequence: u64) -> BoxFuture<'static, Vec<Outcome>> {
        let slot = self.sink.ready().await;
        self.handed_with(slot, sequence)
    }

    pub(super) fn handed_with(
        &self,
        slot: Slot,
        sequence: u64,
    ) -> BoxFuture<'static, Vec<Outcome>> {
        Arc::clone(&self.sink).deliver(slot, vec![delivery(sequence)])
    }

    pub(super) async fn end(self) {
        self.stopper.request();
        self.subscription.answered.notify_one();
        self.task.await.unwrap();
    }
}

/// A remote of one slot that answers every message in the same way.
pub(super) struct FakeRemote {
    answer: fn(&Delivery) -> Outcome,
    generation: Mutex<u64>,
    slots: Mutex<Arc<Semaphore>>,
    held: watch::Sender<bool>,
    batches: watch::Sender<Vec<Vec<Delivery>>>,
}

impl FakeRemote {
    pub(super) fn answering(answer: fn(&Delivery) -> Outcome) -> Arc<Self> {
        Arc::new(Self {
            answer,
            generation: Mutex::new(1),
            slots: Mutex::new(Arc::new(Semaphore::new(1))),
            held: watch::Sender::new(false),
            batches: watch::Sender::default(),
        })
    }

    /// Holds outcomes back, or gives them.
    pub(super) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    /// Begins another life.
    pub(super) fn restart(&self) {
        *self.lock() += 1;
    }

    /// Gives slots although the earlier ones are in use.
    pub(super) fn restart_slots(&self) {
        *self.slots.lock().unwrap() = Arc::new(Semaphore::new(1));
    }

    /// Waits for so many batches.
    pub(super) async fn until(&self, batches: usize) {
        let mut received = self.batches.subscribe();
        received.wait_for(|received| received.len() >= batches).await.unwrap();
    }

    /// Returns the sequences of each batch.
    pub(super) fn batches(&self) -> Vec<Vec<u64>> {
        let batches = self.batches.borrow();
        let sequences =
            |batch: &Vec<Delivery>| batch.iter().map(|d| d.message.sequence.0).collect();
        batches.iter().map(sequences).collect()
    }

    pub(super) fn attempts(&self) -> Vec<u32> {
        self.batches.borrow().iter().flatten().map(|delivery| delivery.attempt).collect()
    }

    pub(super) fn left_ms(&self) -> Vec<Option<u64>> {
        self.batches.borrow().iter().flatten().map(|d| d.message.expires_in_ms).collect()
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.generation.lock().unwrap()
    }
}

#[async_trait]
impl Sink<Delivery> for FakeRemote {
    async fn ready(&self) -> Slot {
        let slots = self.slots.lock().unwrap().clone();
        let permit = slots.acquire_owned().await.unwrap();
        Slot::with_permit(*self.lock(), permit)
    }

    fn deliver(
        self: Arc<Self>,
        slot: Slot,
        batch: Vec<Delivery>,
    ) -> BoxFuture<'static, Vec<Outcome>> {
        let outcomes = batch.iter().map(self.answer).collect();
        self.batches.send_modify(|batches| batches.push(batch));
        Box::pin(async move {
            self.held.subscribe().wait_for(|held| !held).await.unwrap();
            drop(slot);
            outcomes
        })
    }
}
