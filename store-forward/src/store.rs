//! The async shell: callers on one side, the one writer thread on the other.

mod losses;
mod mailbox;
mod status;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};

use crate::clock::Clock;
use crate::consumer::dispatch::Want;
use crate::consumer::{Board, Message, Progress};
use crate::disk::{Disk, LOCK};
use crate::engine::{Engine, Request};
use crate::error::Error;
use crate::ids::{ConsumerId, Epoch, NodeId, StreamId};
use crate::limits::StreamLimits;
use crate::record::{ConsumerSpec, InactiveReason, Op, Retention, Topic};
use crate::tables::{ConsumerRow, Page, Reader, Resumed};

pub use crate::engine::{Committed, OpenError, Options, Published};
pub use crate::tables::{Cursor, Forgotten, Losses, Row};
pub use mailbox::News;
pub use status::{
    ConsumerStatus, DamageStatus, InactiveStatus, LossCount, LossStatus, StateStatus, Status,
    StreamStatus,
};

use mailbox::{Mailbox, Mailboxes};
use writer::{Answer, Pending, Queue};

/// Who the store is: the first two parts of every record's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The device.
    pub node: NodeId,
    /// This life of its store.
    pub epoch: Epoch,
}

/// A durable store. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Arc<Queue>,
    permits: Semaphore,
    reader: Reader,
    mailboxes: Arc<Mailboxes>,
    progress: Board,
    identity: Identity,
    clock: Arc<dyn Clock>,
    /// Device time at this boot.
    base_ms: u64,
    gauges: Arc<status::Gauges>,
    damage: Vec<DamageStatus>,
    retention: Retention,
}

/// With the last handle the writer ends, once it has written what is queued.
impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

impl Store {
    /// Tells whether a disk holds a store, or a part of one.
    ///
    /// # Errors
    ///
    /// When the disk can't be listed.
    pub fn is_on(disk: &dyn Disk) -> std::io::Result<bool> {
        Ok(disk.list()?.iter().any(|name| name != LOCK))
    }

    /// Opens the store and starts its writer thread.
    ///
    /// # Errors
    ///
    /// See [`Engine::open`].
    pub fn open(
        options: Options,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let permits = options.limits.max_queued_requests;
        let commit_delay = options.limits.commit_delay;
        let retention = options.limits.retention();
        let engine = Engine::open(options, disk, clock.clone())?;
        let meta = &engine.index().meta;
        let identity = Identity { node: meta.node.clone(), epoch: meta.epoch };
        let inner = Inner {
            queue: Arc::new(Queue::default()),
            permits: Semaphore::new(permits),
            reader: engine.reader(),
            mailboxes: Arc::new(Mailboxes::default()),
            progress: Board::default(),
            identity,
            clock,
            base_ms: meta.base_ms,
            gauges: Arc::new(status::Gauges::default()),
            damage: status::damage(engine.recovery()),
            retention,
        };
        inner.gauges.update(&engine);
        let (queue, mailboxes) = (inner.queue.clone(), inner.mailboxes.clone());
        let gauges = inner.gauges.clone();
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer::run(engine, &queue, &mailboxes, &gauges, commit_delay))
            .map_err(|source| OpenError::Io { file: "writer thread", source })?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Commits operations as one record. Resolves once it is durable and visible; waits its turn
    /// while [`crate::limits::Limits::max_queued_requests`] others do.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] when a condition does not hold, [`Error::is_full`] ones when there is
    /// no room, [`Error::TooLarge`], [`Error::Poisoned`] after the disk failed. Nothing of the
    /// record took effect then.
    pub async fn commit(&self, ops: Vec<Op>) -> Result<Committed, Error> {
        let _permit = self.inner.permits.acquire().await.map_err(|_| Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        let request = Request { ops, durable: true };
        self.inner.queue.push(Pending { request, answer: Answer::To(answer) })?;
        answered.await.map_err(|_| Error::Closed)?
    }

    /// Commits operations that nobody waits for: acknowledgements, whose loss costs a repeat. They
    /// are written at once and synced with the next durable record or checkpoint.
    pub fn commit_lazily(&self, ops: Vec<Op>) {
        let request = Request { ops, durable: false };
        // A closed store delivers again what was not acknowledged.
        let _ = self.inner.queue.push(Pending { request, answer: Answer::Nobody });
    }

    /// Reads a key; `None` when it is absent or expired.
    ///
    /// # Errors
    ///
    /// When the tables can't be read.
    pub fn get(&self, component: &str, key: &str) -> Result<Option<Row>, Error> {
        self.inner.reader.state(component, key, self.now_ms())
    }

    /// Registers a durable consumer, or takes up the one of that name with what `spec` says now. A
    /// new one starts at the oldest message that is still kept. What a former spec matched and this
    /// one doesn't stays kept for it, and is delivered if a later one matches it again.
    ///
    /// # Errors
    ///
    /// See [`Store::commit`].
    pub async fn register(&self, spec: ConsumerSpec) -> Result<Consumer, Error> {
        let known = self.inner.reader.consumers()?.into_iter();
        let mut known = known.filter(|(_, row)| row.inactive.is_none() && row.spec == spec);
        let id = match known.next() {
            Some((id, _)) => id,
            None => {
                let done = self.commit(vec![Op::Register(spec.clone())]).await?;
                self.tell_missed(&spec.name, &done.resumed)?;
                done.registered.ok_or_else(|| Error::UnknownConsumer(spec.name.clone()))?
            }
        };
        self.tell_unmatched(id, &spec.name)?;
        let mailbox = self.inner.mailboxes.open(id);
        self.inner.queue.push(Pending {
            request: Request { ops: Vec::new(), durable: false },
            answer: Answer::Fill(id),
        })?;
        let progress = self.inner.progress.open(id);
        Ok(Consumer { store: self.clone(), id, spec, mailbox, progress })
    }

    /// Has a consumer try again what it holds, and what waits for its next attempt; returns how
    /// many messages it holds. One that doesn't run holds none.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownConsumer`]; or when the tables can't be read.
    pub fn retry(&self, name: &str) -> Result<usize, Error> {
        let (id, _) = self.consumer_named(name)?;
        Ok(self.inner.progress.get(id).map_or(0, |progress| progress.retry()))
    }

    /// The registered consumers.
    ///
    /// # Errors
    ///
    /// When the tables can't be read.
    pub fn consumers(&self) -> Result<Vec<ConsumerSpec>, Error> {
        Ok(self.inner.reader.consumers()?.into_iter().map(|(_, row)| row.spec).collect())
    }

    /// Takes note of the consumers that the configuration names: others become inactive, and of
    /// those that were inactive for that reason the ones that are back become active.
    ///
    /// # Errors
    ///
    /// See [`Store::commit`].
    pub async fn configured(&self, is_named: impl Fn(&str) -> bool) -> Result<(), Error> {
        let reason = InactiveReason::NotConfigured;
        let (mut gone, mut back) = (Vec::new(), Vec::new());
        for (_, row) in self.inner.reader.consumers()? {
            let was = row.inactive.map(|inactive| inactive.reason);
            match (is_named(&row.spec.name), was == Some(reason)) {
                (false, false) => gone.push(Op::Deactivate { name: row.spec.name, reason }),
                (true, true) => back.push(row.spec),
                _ => {}
            }
        }
        if !gone.is_empty() {
            self.commit(gone).await?;
        }
        for spec in back {
            let name = spec.name.clone();
            let done = self.commit(vec![Op::Register(spec)]).await?;
            self.tell_missed(&name, &done.resumed)?;
        }
        Ok(())
    }

    /// Makes a consumer inactive that its app no longer names. Says whether it was active.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownConsumer`]; see [`Store::commit`].
    pub async fn unsubscribed(&self, name: &str) -> Result<bool, Error> {
        let (_, row) = self.consumer_named(name)?;
        if row.inactive.is_some() {
            return Ok(false);
        }
        let reason = InactiveReason::NotSubscribed;
        self.commit(vec![Op::Deactivate { name: name.to_owned(), reason }]).await?;
        Ok(true)
    }

    /// Forgets an inactive consumer, with what is kept for it alone. One that is in use is not
    /// forgotten unless that is forced: then it loses its backlog and goes on with the next message.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownConsumer`], [`Error::InUse`]; see [`Store::commit`].
    pub async fn forget(&self, name: &str, force: bool) -> Result<Forgotten, Error> {
        let (_, row) = self.consumer_named(name)?;
        let name = name.to_owned();
        let op = match (row.inactive, force) {
            (Some(_), _) => Op::Unregister { name },
            (None, true) => Op::Skip { name },
            (None, false) => return Err(Error::InUse(name)),
        };
        Ok(self.commit(vec![op]).await?.forgotten.unwrap_or_default())
    }

    fn consumer_named(&self, name: &str) -> Result<(ConsumerId, ConsumerRow), Error> {
        let mut known = self.inner.reader.consumers()?.into_iter();
        let known = known.find(|(_, row)| row.spec.name == name);
        known.ok_or_else(|| Error::UnknownConsumer(name.to_owned()))
    }

    fn tell_missed(&self, consumer: &str, resumed: &[Resumed]) -> Result<(), Error> {
        let mut missed = 0;
        for Resumed { stream, after, until } in resumed {
            let kept = self.inner.reader.count(*stream, *after, *until)?;
            missed += (until.0 - after.0).saturating_sub(kept);
        }
        if missed > 0 {
            tracing::warn!(
                consumer,
                missed,
                "consumer is back, messages that came meanwhile were not kept for it"
            );
        }
        Ok(())
    }

    /// Sets the limits of a pub/sub component's streams, where they are not set so already.
    ///
    /// # Errors
    ///
    /// See [`Store::commit`].
    pub async fn configure(&self, component: &str, limits: StreamLimits) -> Result<(), Error> {
        if self.inner.reader.limits(component)?.unwrap_or_default() == limits {
            return Ok(());
        }
        let component = component.to_owned();
        self.commit(vec![Op::Configure { component, limits }]).await.map(|_| ())
    }

    /// Who the store is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Finishes what is queued, checkpoints, and stops the writer. Later commits get
    /// [`Error::Closed`].
    pub async fn close(&self) {
        let (stopped, waits) = oneshot::channel();
        self.inner.queue.close(stopped);
        let _ = waits.await;
    }

    fn now_ms(&self) -> u64 {
        self.inner.base_ms.saturating_add(self.inner.clock.read().up_ms)
    }
}

/// A registered consumer: what it may read, and how it says what became of it.
#[derive(Clone)]
pub struct Consumer {
    store: Store,
    id: ConsumerId,
    spec: ConsumerSpec,
    mailbox: Arc<Mailbox>,
    progress: Arc<Progress>,
}

impl Consumer {
    /// Its number in the store.
    #[must_use]
    pub fn id(&self) -> ConsumerId {
        self.id
    }

    /// What it was registered with.
    #[must_use]
    pub fn spec(&self) -> &ConsumerSpec {
        &self.spec
    }

    /// Resolves once there is something new for it.
    pub async fn news(&self) -> News {
        self.mailbox.take().await
    }

    /// What its deliveries come to.
    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The wall clock, in milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> i64 {
        self.store.inner.clock.read().wall_ms
    }

    /// How far it has come.
    pub(crate) fn cursor(&self, stream: StreamId) -> Result<Cursor, Error> {
        self.store.inner.reader.cursor(self.id, stream)
    }

    /// The stream's name.
    pub(crate) fn topic(&self, stream: StreamId) -> Result<Option<Topic>, Error> {
        self.store.inner.reader.topic(stream)
    }

    /// Reads a page, and returns whether the stream has more behind it.
    pub(crate) fn read(&self, want: &Want) -> Result<(Vec<Message>, bool), Error> {
        let Want { stream, after, count, bytes, .. } = *want;
        let now_ms = self.store.now_ms();
        let Page { messages, more } =
            self.store.inner.reader.page(stream, after, count, bytes, now_ms)?;
        Ok((messages, more))
    }

    /// Writes down what became of deliveries.
    pub(crate) fn settle(&self, ops: Vec<Op>) {
        self.store.commit_lazily(ops);
    }

    /// Resolves once everything that was settled can be read: who registers the consumer anew begins
    /// behind it.
    pub(crate) async fn settled(&self) {
        let (answer, answered) = oneshot::channel();
        let request = Request { ops: Vec::new(), durable: false };
        let pending = Pending { request, answer: Answer::To(answer) };
        // A store that is closed has written down what it could.
        if self.store.inner.queue.push(pending).is_ok() {
            let _ = answered.await;
        }
    }
}
