//! A remote that records what it is sent, and answers as told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use components::port::pubsub::{DeadLetter, Delivery, Outcome, Sink, Slot};
use futures_util::future::BoxFuture;
use tests::in_time;
use tokio::sync::watch;

/// A message as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) text: String,
    pub(crate) topic: String,
    pub(crate) attempt: u32,
    /// The reason of a dead letter, and the topic that it comes from.
    pub(crate) dead_letter: Option<(String, String)>,
}

/// A remote of a subscription. It answers [`Outcome::Ack`] unless it is told otherwise.
#[derive(Default)]
pub(crate) struct Recorder {
    answers: Mutex<BTreeMap<String, VecDeque<Outcome>>>,
    state: watch::Sender<RemoteState>,
    received: watch::Sender<Vec<Vec<Received>>>,
    unanswered: Mutex<Unanswered>,
}

/// The state of a remote, which a case changes.
#[derive(Clone, Copy, Debug, Default)]
struct RemoteState {
    generation: u64,
    /// Gives no slots.
    is_closed: bool,
    /// Gives no outcomes.
    holds: bool,
}

#[derive(Debug, Default)]
struct Unanswered {
    now: usize,
    most: usize,
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A remote that answers the message `text` with these outcomes, one after the other.
    pub(crate) fn answering(text: &str, outcomes: impl Into<VecDeque<Outcome>>) -> Arc<Self> {
        let recorder = Self::default();
        recorder.answers.lock().unwrap().insert(text.to_owned(), outcomes.into());
        Arc::new(recorder)
    }

    /// Gives no slots until [`Recorder::open`].
    pub(crate) fn close(&self) {
        self.state.send_modify(|state| state.is_closed = true);
    }

    pub(crate) fn open(&self) {
        self.state.send_modify(|state| state.is_closed = false);
    }

    /// Gives no outcomes until [`Recorder::release`].
    pub(crate) fn hold(&self) {
        self.state.send_modify(|state| state.holds = true);
    }

    pub(crate) fn release(&self) {
        self.state.send_modify(|state| state.holds = false);
    }

    /// Begins another life, in which nothing is held. Messages of the earlier one are lost.
    pub(crate) fn restart(&self) {
        self.state.send_modify(|state| {
            state.generation += 1;
            state.holds = false;
        });
    }

    pub(crate) fn batches(&self) -> Vec<Vec<Received>> {
        self.received.borrow().clone()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.batches().concat()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.received().into_iter().map(|received| received.text).collect()
    }

    /// Returns the numbers of a message's attempts.
    pub(crate) fn attempts(&self, text: &str) -> Vec<u32> {
        let received = self.received().into_iter();
        received.filter(|received| received.text == text).map(|received| received.attempt).collect()
    }

    /// Returns how many messages were unanswered at once.
    pub(crate) fn most_unanswered(&self) -> usize {
        self.unanswered.lock().unwrap().most
    }

    /// Waits until each of these was received, in any order.
    pub(crate) async fn until_all(&self, texts: &[&str]) {
        let all = |received: &[Received]| texts.iter().all(|text| times(received, text) > 0);
        self.until(&format!("all of {texts:?}"), all).await;
    }

    /// Waits until a message was received so often.
    pub(crate) async fn until_times(&self, text: &str, most: usize) {
        self.until(&format!("{text} {most} times"), |received| times(received, text) >= most).await;
    }

    /// Waits until so many messages were received.
    pub(crate) async fn until_count(&self, count: usize) {
        self.until(&format!("{count} messages"), |received| received.len() >= count).await;
    }

    async fn until(&self, what: &str, is_there: impl Fn(&[Received]) -> bool) {
        let mut received = self.received.subscribe();
        let is_there = |batches: &Vec<Vec<Received>>| is_there(&batches.concat());
        in_time(what, received.wait_for(is_there)).await.unwrap();
    }

    fn answer(&self, text: &str) -> Outcome {
        let mut answers = self.answers.lock().unwrap();
        answers.get_mut(text).and_then(VecDeque::pop_front).unwrap_or(Outcome::Ack)
    }

    fn count(&self, messages: usize) {
        let mut unanswered = self.unanswered.lock().unwrap();
        unanswered.now += messages;
        unanswered.most = unanswered.most.max(unanswered.now);
    }
}

fn times(received: &[Received], text: &str) -> usize {
    received.iter().filter(|received| received.text == text).count()
}

fn record(delivery: &Delivery) -> Received {
    let letter = DeadLetter::of(&delivery.message);
    Received {
        text: String::from_utf8(delivery.message.data.clone()).unwrap(),
        topic: delivery.topic.name.clone(),
        attempt: delivery.attempt,
        dead_letter: letter.map(|letter| (letter.reason.to_owned(), letter.topic.to_owned())),
    }
}

#[async_trait]
impl Sink<Delivery> for Recorder {
    async fn ready(&self) -> Slot {
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| !state.is_closed).await.unwrap();
        Slot::new(state.generation)
    }

    fn deliver(
        self: Arc<Self>,
        slot: Slot,
        batch: Vec<Delivery>,
    ) -> BoxFuture<'static, Vec<Outcome>> {
        let unreachable = Outcome::Unreachable("another life has begun".into());
        let mut state = self.state.subscribe();
        if state.borrow().generation != slot.generation {
            return Box::pin(async move { vec![unreachable; batch.len()] });
        }
        self.count(batch.len());
        let batch: Vec<Received> = batch.iter().map(record).collect();
        self.received.send_modify(|received| received.push(batch.clone()));
        Box::pin(async move {
            let life = slot.generation;
            let told = state.wait_for(|state| !state.holds || state.generation != life).await;
            let lost = told.unwrap().generation != life;
            self.unanswered.lock().unwrap().now -= batch.len();
            let answer = |received: &Received| match lost {
                true => unreachable.clone(),
                false => self.answer(&received.text),
            };
            batch.iter().map(answer).collect()
        })
    }
}
