//! Drives a dispatcher: reads the store, hands batches to the sink, writes down what became of them.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::dispatch::{Batch, Dispatcher, Fate, Step};
use super::report::Reporter;
use super::{Delivery, Outcome, Policy, Sink, Slot, SlotRequest};
use crate::error::Error;
use crate::ids::{Sequence, StreamId};
use crate::record::Topic;
use crate::store::{Consumer, News};

/// How long a consumer waits when the tables can't be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Runs until `shutdown` resolves; then hands over nothing more, waits for what is in flight, writes
/// the outcomes down and returns. What is cut off is delivered again next time.
pub async fn run(
    consumer: Consumer,
    sink: Arc<dyn Sink<Delivery>>,
    policy: Policy,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut shutdown = pin!(shutdown);
    let mut slot = SlotRequest::new(Arc::clone(&sink));
    let mut driver = Driver::new(consumer, sink, policy);
    let mut stopping = false;
    loop {
        // Before anything is handed over: branches of a select that are ready are taken in any order.
        stopping = stopping || shutdown.as_mut().now_or_never().is_some();
        if stopping && driver.dispatcher.in_flight() == 0 {
            break;
        }
        let mut wake = driver.wake().filter(|_| !stopping);
        if wake.is_some_and(|at| at <= Instant::now()) {
            slot.ask();
            wake = None;
            // Slots that are free are used before outcomes are looked at, so that windows fill.
            if let Some(granted) = slot.granted().now_or_never() {
                if driver.use_slot(granted) {
                    continue;
                }
                wake = driver.wake();
            }
        } else {
            slot.withdraw();
            driver.rest();
        }
        tokio::select! {
            () = shutdown.as_mut(), if !stopping => stopping = true,
            Some((stream, outcomes)) = driver.landing.next(), if !driver.landing.is_empty() => {
                driver.settle(stream, outcomes);
            }
            granted = slot.granted(), if !stopping => {
                stopping = shutdown.as_mut().now_or_never().is_some();
                if !stopping {
                    driver.use_slot(granted);
                }
            }
            news = driver.consumer.news(), if !stopping => driver.take(&news),
            () = driver.sink.roomier(), if driver.holds() && !stopping => driver.retry_held(),
            () = driver.consumer.progress().retried(), if !stopping => driver.retry_all(),
            () = sleep_until(wake), if wake.is_some() && !stopping => {}
        }
    }
    driver.consumer.progress().seen().held.clear();
    driver.consumer.settled().await;
}

type Landed = (StreamId, Vec<(Sequence, Outcome)>);

struct Driver {
    consumer: Consumer,
    sink: Arc<dyn Sink<Delivery>>,
    dispatcher: Dispatcher,
    reporter: Reporter,
    started: Instant,
    landing: FuturesUnordered<BoxFuture<'static, Landed>>,
    unread_until: Option<Instant>,
    topics: HashMap<StreamId, Topic>,
}

impl Driver {
    fn new(consumer: Consumer, sink: Arc<dyn Sink<Delivery>>, policy: Policy) -> Self {
        let spec = consumer.spec();
        let progress = consumer.progress().clone();
        Self {
            dispatcher: Dispatcher::new(consumer.id(), policy),
            reporter: Reporter::new(&spec.name, spec.dead_letter.is_some(), progress),
            consumer,
            sink,
            started: Instant::now(),
            landing: FuturesUnordered::new(),
            unread_until: None,
            topics: HashMap::new(),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn holds(&self) -> bool {
        self.dispatcher.held() > 0
    }

    fn retry_held(&mut self) {
        self.dispatcher.retry_held();
        self.show_held();
    }

    fn retry_all(&mut self) {
        self.retry_held();
        self.dispatcher.hurry(self.now());
    }

    /// Whether what is refused in this stream goes to another one.
    fn has_dead_letter(&self, stream: StreamId) -> bool {
        let dead_letter = self.consumer.spec().dead_letter.as_ref();
        dead_letter.is_some_and(|topic| self.topics.get(&stream) != Some(topic))
    }

    fn show_held(&self) {
        self.consumer.progress().seen().held = self.dispatcher.held_places();
    }

    /// When a slot is of use.
    fn wake(&self) -> Option<Instant> {
        let at = self.started + self.dispatcher.wake_at()?;
        Some(self.unread_until.map_or(at, |until| until.max(at)))
    }

    /// Keeps nothing in memory while there is nothing to do but wait.
    fn rest(&mut self) {
        if self.dispatcher.in_flight() == 0 {
            self.dispatcher.give_back();
        }
    }

    fn take(&mut self, news: &News) {
        if news.skipped {
            self.skip();
        }
        self.follow(&news.streams);
    }

    /// The backlog was given up: what was read of it is forgotten.
    fn skip(&mut self) {
        for stream in self.dispatcher.streams() {
            match self.consumer.cursor(stream) {
                Ok(cursor) => self.dispatcher.skip(stream, &cursor),
                Err(error) => self.cannot_read(&error),
            }
        }
        self.show_held();
    }

    fn follow(&mut self, streams: &BTreeSet<StreamId>) {
        for stream in streams {
            if self.dispatcher.follows(*stream) {
                self.dispatcher.grown(self.now(), *stream);
                continue;
            }
            match self.consumer.cursor(*stream) {
                Ok(cursor) => self.dispatcher.follow(self.now(), *stream, cursor),
                Err(error) => self.cannot_read(&error),
            }
        }
    }

    /// Reads what the next batch needs, and hands it over; returns whether there was one.
    fn use_slot(&mut self, slot: Slot) -> bool {
        if !self.dispatcher.admit(slot.generation) {
            return false;
        }
        loop {
            match self.dispatcher.step(self.now()) {
                Step::Read(want) => match self.consumer.read(&want) {
                    Ok((messages, more)) => self.dispatcher.read(self.now(), want, messages, more),
                    Err(error) => {
                        self.cannot_read(&error);
                        return false;
                    }
                },
                Step::Send(batch) => {
                    self.deliver(slot, batch);
                    return true;
                }
                Step::Rest => return false,
            }
        }
    }

    fn cannot_read(&mut self, error: &Error) {
        tracing::error!(consumer = self.consumer.spec().name, %error, "consumer can't read the store");
        self.unread_until = Some(Instant::now() + READ_AGAIN);
    }

    fn deliver(&mut self, slot: Slot, batch: Batch) {
        let stream = batch.stream;
        let sequences: Vec<Sequence> = batch.messages.iter().map(|(_, m)| m.sequence).collect();
        let Some(topic) = self.topic(stream) else {
            let gone = Outcome::Unreachable("the stream can't be read".into());
            let outcomes = sequences.into_iter().map(|s| (s, gone.clone())).collect();
            return self.settle(stream, outcomes);
        };
        let deliveries = batch.messages.into_iter().map(|(attempt, message)| Delivery {
            topic: topic.clone(),
            stream,
            attempt,
            message,
        });
        let outcomes = Arc::clone(&self.sink).deliver(slot, deliveries.collect());
        self.landing.push(Box::pin(async move {
            let mut outcomes = outcomes.await;
            let silent = || Outcome::Retry("the remote gave no outcome".into());
            outcomes.resize_with(sequences.len(), silent);
            (stream, sequences.into_iter().zip(outcomes).collect())
        }));
    }

    fn topic(&mut self, stream: StreamId) -> Option<Topic> {
        if let Some(topic) = self.topics.get(&stream) {
            return Some(topic.clone());
        }
        let topic = self.consumer.topic(stream).ok().flatten()?;
        self.topics.insert(stream, topic.clone());
        Some(topic)
    }

    fn settle(&mut self, stream: StreamId, mut outcomes: Vec<(Sequence, Outcome)>) {
        if self.has_dead_letter(stream) {
            outcomes.iter_mut().for_each(|(_, outcome)| reject_held(outcome));
        }
        let now = self.now();
        let settled = self.dispatcher.settle(now, stream, outcomes, fastrand::f64());
        let topic = self.topics.get(&stream);
        self.reporter.settled(now, self.consumer.wall_ms(), topic, &settled);
        if settled.refusals.iter().any(|r| matches!(r.fate, Fate::Held | Fate::Lost)) {
            self.show_held();
        }
        if !settled.ops.is_empty() {
            self.consumer.settle(settled.ops);
        }
    }
}

/// With a dead letter topic nothing has to be held, but in that topic itself.
fn reject_held(outcome: &mut Outcome) {
    if let Outcome::Hold(reason) = outcome {
        *outcome = Outcome::Reject(std::mem::take(reason));
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
