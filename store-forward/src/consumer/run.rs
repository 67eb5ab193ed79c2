//! Drives a dispatcher: reads the store, hands batches to the sink, writes down what became of them.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::dispatch::{Batch, Dispatcher, Fate};
use super::report::Reporter;
use super::{Delivery, Outcome, Policy, Sink};
use crate::error::Error;
use crate::ids::{Sequence, StreamId};
use crate::record::Topic;
use crate::store::{Consumer, News};

/// Bytes read ahead from a stream at once: bounds memory, not delivery.
const READ_BYTES: usize = 256 << 10;
/// How long a consumer waits when the tables can't be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Runs until `shutdown` resolves; then hands over nothing more, waits for what is in flight, and
/// returns. What is cut off is delivered again next time.
pub async fn run(
    consumer: Consumer,
    sink: Arc<dyn Sink>,
    policy: Policy,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut shutdown = pin!(shutdown);
    let mut driver = Driver::new(consumer, sink, policy);
    tokio::select! {
        () = driver.sink.ready() => {}
        () = shutdown.as_mut() => return,
    }
    let mut stopping = false;
    while !(stopping && driver.dispatcher.in_flight() == 0) {
        if !stopping {
            driver.hand_over();
        }
        let wake = driver.wake();
        tokio::select! {
            () = shutdown.as_mut(), if !stopping => stopping = true,
            Some((stream, outcomes)) = driver.landing.next(), if !driver.landing.is_empty() => {
                driver.settle(stream, outcomes);
            }
            news = driver.consumer.news(), if !stopping => driver.take(&news),
            () = driver.sink.ready(), if driver.is_down() && !stopping => driver.dispatcher.mended(),
            () = driver.sink.roomier(), if driver.holds() && !stopping => driver.retry_held(),
            () = driver.consumer.progress().retried(), if !stopping => driver.retry_all(),
            () = sleep_until(wake), if wake.is_some() && !stopping => {}
        }
    }
    driver.consumer.progress().seen().held.clear();
}

type Landed = (StreamId, Vec<(Sequence, Outcome)>);

struct Driver {
    consumer: Consumer,
    sink: Arc<dyn Sink>,
    dispatcher: Dispatcher,
    reporter: Reporter,
    started: Instant,
    landing: FuturesUnordered<futures_util::future::BoxFuture<'static, Landed>>,
    unread_until: Option<Instant>,
    topics: HashMap<StreamId, Topic>,
}

impl Driver {
    fn new(consumer: Consumer, sink: Arc<dyn Sink>, policy: Policy) -> Self {
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

    /// Nothing can be handed over until the sink is ready again.
    fn is_down(&self) -> bool {
        self.dispatcher.is_broken() && self.dispatcher.in_flight() == 0
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

    fn wake(&self) -> Option<Instant> {
        let dispatcher = self.dispatcher.wake_at(self.sink.window());
        let dispatcher = dispatcher.map(|at| self.started + at);
        [dispatcher, self.unread_until].into_iter().flatten().min()
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
                self.dispatcher.grown(*stream);
                continue;
            }
            match self.consumer.cursor(*stream) {
                Ok(cursor) => self.dispatcher.follow(*stream, cursor),
                Err(error) => self.cannot_read(&error),
            }
        }
    }

    /// Reads and hands over until the window is full or there is nothing left.
    fn hand_over(&mut self) {
        loop {
            self.read();
            let window = self.sink.window();
            let Some(batch) = self.dispatcher.next(self.now(), window) else { return };
            self.deliver(batch);
        }
    }

    fn read(&mut self) {
        if self.unread_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.unread_until = None;
        while let Some((stream, after, count)) = self.dispatcher.wants() {
            match self.consumer.read(stream, after, count, READ_BYTES) {
                Ok((messages, more)) => self.dispatcher.read(self.now(), stream, messages, more),
                Err(error) => return self.cannot_read(&error),
            }
        }
    }

    fn cannot_read(&mut self, error: &Error) {
        tracing::error!(consumer = self.consumer.spec().name, %error, "consumer can't read the store");
        self.unread_until = Some(Instant::now() + READ_AGAIN);
    }

    fn deliver(&mut self, batch: Batch) {
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
        let outcomes = self.sink.clone().deliver(deliveries.collect());
        self.landing.push(Box::pin(async move {
            let mut outcomes = outcomes.await;
            let silent = || Outcome::Retry("the far side gave no outcome".into());
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
