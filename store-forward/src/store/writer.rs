//! The writer thread: gathers what is waiting, has the engine commit it, answers.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::losses::Watch;
use super::mailbox::Mailboxes;
use super::status::Gauges;
use crate::engine::{Committed, Engine, Published, Request};
use crate::error::Error;
use crate::ids::ConsumerId;

/// Requests in one commit: bounds how long the first of them waits for the last.
const MAX_BATCH: usize = 512;

/// A request and who waits for it.
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) answer: Answer,
}

/// Who waits.
pub(super) enum Answer {
    /// A caller.
    To(oneshot::Sender<Result<Committed, Error>>),
    /// Nobody: the next delivery tells.
    Nobody,
    /// A consumer that starts: its backlog is put into its mailbox.
    Fill(ConsumerId),
}

#[derive(Default)]
struct Waiting {
    pending: VecDeque<Pending>,
    closed: bool,
    stopped: Vec<oneshot::Sender<()>>,
    writer_sleeps: bool,
}

/// What waits for the writer.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Queue {
    pub(super) fn push(&self, pending: Pending) -> Result<(), Error> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(Error::Closed);
        }
        waiting.pending.push_back(pending);
        let sleeps = waiting.writer_sleeps;
        // Or the writer wakes to wait for the lock.
        drop(waiting);
        if sleeps {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Takes no more; `stopped` is told when the writer is done.
    pub(super) fn close(&self, stopped: oneshot::Sender<()>) {
        let mut waiting = self.lock();
        if waiting.closed && !waiting.writer_sleeps && waiting.stopped.is_empty() {
            let _ = stopped.send(());
            return;
        }
        waiting.closed = true;
        waiting.stopped.push(stopped);
        drop(waiting);
        self.wake.notify_one();
    }

    /// Takes no more, and nobody waits for the writer to be done.
    pub(super) fn abandon(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Waits for requests, or until `due`. `None` once closed and empty.
    fn take(&self, due: Option<Duration>, max_bytes: usize) -> Option<Vec<Pending>> {
        let mut waiting = self.lock();
        if waiting.pending.is_empty() && !waiting.closed {
            waiting.writer_sleeps = true;
            waiting = match due {
                Some(due) => {
                    let woken = self.wake.wait_timeout(waiting, due);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
            waiting.writer_sleeps = false;
        }
        if waiting.pending.is_empty() && waiting.closed {
            return None;
        }
        let mut bytes = 0;
        let fits = |pending: &&Pending| {
            bytes += pending.request.bytes();
            bytes <= max_bytes
        };
        let count = waiting.pending.iter().take(MAX_BATCH).take_while(fits).count();
        // One that is larger than the bound goes alone.
        let count = count.max(1).min(waiting.pending.len());
        Some(waiting.pending.drain(..count).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until the queue is closed and empty; then checkpoints.
pub(super) fn run(
    mut engine: Engine,
    queue: &Queue,
    mailboxes: &Mailboxes,
    gauges: &Gauges,
    commit_delay: Duration,
) {
    let mut losses = Watch::new(engine.index());
    while let Some(mut batch) = queue.take(due_in(&engine, &losses), engine.batch_bytes()) {
        if !commit_delay.is_zero() && !batch.is_empty() && batch.len() < MAX_BATCH {
            std::thread::sleep(commit_delay);
            batch
                .extend(queue.take(Some(Duration::ZERO), engine.batch_bytes()).unwrap_or_default());
        }
        let due = engine.due_in();
        if !batch.is_empty() || due.is_some_and(|due| due.is_zero()) {
            losses.changed();
        }
        commit(&mut engine, mailboxes, batch);
        let letters = engine.maintain();
        announce(&engine, mailboxes, letters);
        losses.look(engine.index());
        gauges.update(&engine);
    }
    engine.close();
    gauges.update(&engine);
    drop(engine);
    for stopped in std::mem::take(&mut queue.lock().stopped) {
        let _ = stopped.send(());
    }
}

/// How long until there is something to do without being asked.
fn due_in(engine: &Engine, losses: &Watch) -> Option<Duration> {
    [engine.due_in(), losses.due_in()].into_iter().flatten().min()
}

fn commit(engine: &mut Engine, mailboxes: &Mailboxes, batch: Vec<Pending>) {
    if batch.is_empty() {
        return;
    }
    let (requests, answers): (Vec<Request>, Vec<Answer>) =
        batch.into_iter().map(|pending| (pending.request, pending.answer)).unzip();
    let done = engine.commit(&requests);
    let mut published = Vec::new();
    for (result, answer) in done.into_iter().zip(answers) {
        published.extend(result.iter().flat_map(|done| done.published.iter().copied()));
        if let Some(consumer) = result.as_ref().ok().and_then(|done| done.skipped) {
            mailboxes.skip(consumer);
        }
        match answer {
            // A caller that went away needs no answer.
            Answer::To(caller) => drop(caller.send(result)),
            Answer::Nobody => {
                if let Err(error) = result {
                    tracing::warn!(%error, "acknowledgement was not written, its message comes again");
                }
            }
            Answer::Fill(consumer) => {
                mailboxes.put(consumer, engine.index().backlog_of(consumer));
            }
        }
    }
    announce(engine, mailboxes, published);
}

fn announce(engine: &Engine, mailboxes: &Mailboxes, published: Vec<Published>) {
    let mut streams: Vec<_> = published.into_iter().map(|published| published.stream).collect();
    streams.sort_unstable();
    streams.dedup();
    for stream in streams {
        let Some(known) = engine.index().streams.get(&stream) else { continue };
        for claim in known.claims.iter().filter(|claim| claim.is_open()) {
            mailboxes.put(claim.consumer, [stream]);
        }
    }
}
