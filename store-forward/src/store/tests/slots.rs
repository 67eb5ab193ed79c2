//! Consumers and the slots of the remotes that they deliver to.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;
use crate::consumer::ReadAhead;

/// A remote with so many slots, which answers when it is told to.
pub(super) struct Remote {
    slots: Arc<Semaphore>,
    generation: AtomicU64,
    /// Slots that were asked for.
    asked: AtomicUsize,
    sent: Mutex<Vec<String>>,
    open: Mutex<VecDeque<(usize, oneshot::Sender<Vec<Outcome>>)>>,
}

impl Remote {
    pub(super) fn with_slots(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(slots)),
            generation: AtomicU64::new(1),
            asked: AtomicUsize::new(0),
            sent: Mutex::default(),
            open: Mutex::default(),
        })
    }

    pub(super) fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }

    /// Answers the oldest batch.
    pub(super) fn answer(&self, outcome: &Outcome) {
        let (messages, answer) = self.open.lock().unwrap().pop_front().unwrap();
        answer.send(vec![outcome.clone(); messages]).unwrap();
    }

    pub(super) async fn has_sent(&self, count: usize) {
        until(|| self.sent().len() >= count).await;
    }

    async fn was_asked(&self, times: usize) {
        until(|| self.asked.load(Ordering::SeqCst) >= times).await;
    }
}

#[async_trait::async_trait]
impl Sink<Delivery> for Remote {
    async fn ready(&self) -> Slot {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let permit = self.slots.clone().acquire_owned().await.unwrap();
        Slot::with_permit(self.generation.load(Ordering::SeqCst), permit)
    }

    fn deliver(
        self: Arc<Self>,
        slot: Slot,
        batch: Vec<Delivery>,
    ) -> BoxFuture<'static, Vec<Outcome>> {
        let (answer, answered) = oneshot::channel();
        self.open.lock().unwrap().push_back((batch.len(), answer));
        let text = |delivery: &Delivery| String::from_utf8(delivery.message.data.clone()).unwrap();
        self.sent.lock().unwrap().extend(batch.iter().map(text));
        async move {
            let _slot = slot;
            answered.await.unwrap()
        }
        .boxed()
    }
}

pub(super) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// Lets tasks of this thread take many turns.
async fn turns() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Runs a consumer of a topic until the test ends.
async fn start(store: &Store, topic: &str, remote: &Arc<Remote>, policy: Policy) {
    let consumer = store.register(consumer(topic, topic)).await.unwrap();
    tokio::spawn(run(consumer, remote.clone(), policy, std::future::pending()));
}

#[tokio::test]
async fn a_payload_is_not_read_before_a_slot_is_granted() {
    let store = Bench::new().open();
    let limits =
        StreamLimits { max_messages: 2, overflow: Overflow::DropOldest, ..StreamLimits::default() };
    store.commit(vec![Op::Configure { component: "pubsub".into(), limits }]).await.unwrap();
    let remote = Remote::with_slots(0);
    start(&store, "t", &remote, policy()).await;
    store.commit(vec![publish("t", "old")]).await.unwrap();
    remote.was_asked(1).await;
    for data in ["1", "2"] {
        store.commit(vec![publish("t", data)]).await.unwrap();
    }
    remote.slots.add_permits(1);
    remote.has_sent(1).await;
    assert_eq!(remote.sent(), ["1"], "the store had lost the other one by then");
}

#[tokio::test]
async fn an_idle_consumer_holds_no_slot() {
    let store = Bench::new().open();
    let remote = Remote::with_slots(1);
    start(&store, "t", &remote, policy()).await;
    store.commit(vec![publish("t", "1")]).await.unwrap();
    remote.has_sent(1).await;
    assert_eq!(remote.slots.available_permits(), 0, "the outcome isn't known");
    remote.answer(&Outcome::Ack);
    drop(remote.slots.acquire().await.unwrap());
    turns().await;
    assert_eq!(remote.slots.available_permits(), 1);
}

#[tokio::test]
async fn a_consumer_that_waits_keeps_its_place_in_line() {
    let store = Bench::new().open();
    let remote = Remote::with_slots(0);
    start(&store, "t", &remote, policy()).await;
    start(&store, "u", &remote, policy()).await;
    store.commit(vec![publish("t", "t1")]).await.unwrap();
    remote.was_asked(1).await;
    store.commit(vec![publish("u", "u1")]).await.unwrap();
    remote.was_asked(2).await;
    for data in ["t2", "t3"] {
        store.commit(vec![publish("t", data)]).await.unwrap();
        turns().await;
    }
    assert_eq!(remote.asked.load(Ordering::SeqCst), 2, "what is new doesn't ask again");
    remote.slots.add_permits(1);
    for count in 1..=4 {
        remote.has_sent(count).await;
        remote.answer(&Outcome::Ack);
    }
    assert_eq!(remote.sent(), ["t1", "u1", "t2", "t3"]);
}

#[tokio::test]
async fn a_batch_that_waits_for_more_holds_no_slot_and_no_payload() {
    let store = Bench::new().open();
    let remote = Remote::with_slots(1);
    let read_ahead = Arc::new(ReadAhead::default());
    let (batch, batch_wait) = (3, Duration::from_secs(3600));
    let policy = Policy { batch, batch_wait, read_ahead: read_ahead.clone(), ..policy() };
    start(&store, "t", &remote, policy).await;
    store.commit(vec![publish("t", "1"), publish("t", "2")]).await.unwrap();
    remote.was_asked(1).await;
    let permit = remote.slots.acquire().await.unwrap();
    assert_eq!((remote.sent().len(), read_ahead.used()), (0, 0));
    drop(permit);
    store.commit(vec![publish("t", "3")]).await.unwrap();
    remote.has_sent(3).await;
}

#[tokio::test]
async fn nothing_goes_out_with_a_slot_of_a_new_life_while_the_earlier_one_has_not_answered() {
    let store = Bench::new().open();
    let remote = Remote::with_slots(1);
    let policy = Policy { per_stream: usize::MAX, ..policy() };
    for data in ["a", "b", "c"] {
        store.commit(vec![publish("t", data)]).await.unwrap();
    }
    start(&store, "t", &remote, policy).await;
    remote.has_sent(1).await;
    remote.was_asked(2).await;
    remote.generation.store(2, Ordering::SeqCst);
    remote.slots.add_permits(1);
    turns().await;
    assert_eq!(remote.sent(), ["a"]);
    assert_eq!(remote.slots.available_permits(), 1, "the slot was returned");
    remote.answer(&Outcome::Unreachable("gone".into()));
    remote.has_sent(3).await;
    assert_eq!(remote.sent(), ["a", "a", "b"]);
}
