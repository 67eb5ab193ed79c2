//! Drives a dispatcher: reads the store, hands batches to the sink, writes down what became of them.

use std::collections::{BTreeSet, HashMap};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::dispatch::{Batch, Dispatcher, Fate};
use super::report::Reporter;
use super::{Delivery, Message, Outcome, Policy, Sink, Slot};
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
    sink: Arc<dyn Sink<Delivery>>,
    policy: Policy,
    shutdown: impl Future<Output = ()> + Send,
) {
    let mut shutdown = pin!(shutdown);
    let mut driver = Driver::new(consumer, sink, policy);
    // Kept over the turns of the loop: a new future would go to the end of the line.
    let mut slot: Option<BoxFuture<'static, Slot>> = None;
    let mut stopping = false;
    while !(stopping && driver.in_flight() == 0) {
        if !stopping {
            driver.prepare();
        }
        if driver.prepared.is_some() || driver.is_down() {
            // Slots that are free are used before outcomes are looked at, so that windows fill.
            let asked = slot.get_or_insert_with(|| driver.ask());
            let polled = poll_fn(|context| Poll::Ready(asked.poll_unpin(context))).await;
            if let Poll::Ready(granted) = polled {
                slot = None;
                driver.hand_over(granted);
                continue;
            }
        } else {
            slot = None;
        }
        let wake = driver.wake();
        tokio::select! {
            () = shutdown.as_mut(), if !stopping => {
                stopping = true;
                driver.forget_prepared();
            }
            Some((stream, outcomes)) = driver.landing.next(), if !driver.landing.is_empty() => {
                driver.settle(stream, outcomes);
            }
            granted = granted(&mut slot) => driver.hand_over(granted),
            news = driver.consumer.news(), if !stopping => driver.take(&news),
            () = driver.sink.roomier(), if driver.holds() && !stopping => driver.retry_held(),
            () = driver.consumer.progress().retried(), if !stopping => driver.retry_all(),
            () = sleep_until(wake), if wake.is_some() && !stopping => {}
        }
    }
    driver.consumer.progress().seen().held.clear();
}

/// Resolves to the slot that was asked for; never, if none was.
async fn granted(slot: &mut Option<BoxFuture<'static, Slot>>) -> Slot {
    match slot {
        Some(asked) => {
            let granted = asked.await;
            *slot = None;
            granted
        }
        None => std::future::pending().await,
    }
}

type Landed = (StreamId, Vec<(Sequence, Outcome)>);

struct Driver {
    consumer: Consumer,
    sink: Arc<dyn Sink<Delivery>>,
    dispatcher: Dispatcher,
    /// The next batch, which waits for a slot.
    prepared: Option<Batch>,
    /// The generation of the last slot.
    generation: u64,
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
            prepared: None,
            generation: 0,
            started: Instant::now(),
            landing: FuturesUnordered::new(),
            unread_until: None,
            topics: HashMap::new(),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Messages handed over whose outcome is not known.
    fn in_flight(&self) -> usize {
        let prepared = self.prepared.as_ref().map_or(0, |batch| batch.messages.len());
        self.dispatcher.in_flight() - prepared
    }

    /// Nothing can be handed over until the sink is ready again.
    fn is_down(&self) -> bool {
        self.dispatcher.is_broken() && self.dispatcher.in_flight() == 0
    }

    fn ask(&self) -> BoxFuture<'static, Slot> {
        let sink = Arc::clone(&self.sink);
        Box::pin(async move { sink.ready().await })
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
        let dispatcher = self.dispatcher.wake_at(usize::MAX);
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

    /// Reads, and takes the next batch unless the window is full.
    fn prepare(&mut self) {
        if self.dispatcher.is_broken() {
            self.forget_prepared();
        }
        self.read();
        if self.prepared.is_none() {
            self.prepared = self.dispatcher.next(self.now(), usize::MAX);
        }
    }

    /// Puts the batch that waits for a slot back.
    fn forget_prepared(&mut self) {
        let Some(batch) = self.prepared.take() else { return };
        let unsent = |m: &(u32, Message)| (m.1.sequence, Outcome::Unreachable("not sent".into()));
        let outcomes = batch.messages.iter().map(unsent).collect();
        self.dispatcher.settle(self.now(), batch.stream, outcomes, 0.0);
    }

    /// Hands over the next batch. What an earlier life of the remote may have lost goes first.
    fn hand_over(&mut self, slot: Slot) {
        let before = std::mem::replace(&mut self.generation, slot.generation);
        if slot.generation != before && self.in_flight() > 0 {
            return self.forget_prepared();
        }
        self.dispatcher.mended();
        if let Some(batch) = self.prepared.take() {
            self.deliver(slot, batch);
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
