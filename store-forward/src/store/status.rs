//! What the store can tell of itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::Store;
use crate::consumer::{Deliveries, LastRefusal};
use crate::engine::Engine;
use crate::error::Error;
use crate::journal::Recovery;
use crate::record::ConsumerKind;
use crate::tables::{Losses, StreamView};

/// What the writer thread shows of itself.
#[derive(Default)]
pub(super) struct Gauges {
    disk_bytes: AtomicU64,
    poisoned: Mutex<Option<String>>,
}

impl Gauges {
    pub(super) fn update(&self, engine: &Engine) {
        self.disk_bytes.store(engine.disk_bytes(), Ordering::Relaxed);
        if let Some(cause) = engine.poisoned() {
            let mut poisoned = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
            poisoned.get_or_insert_with(|| cause.to_owned());
        }
    }
}

/// A store as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The device.
    pub node: String,
    /// This life of its store.
    pub epoch: u32,
    /// Bytes on disk: journal, tables, and what is held back.
    pub disk_bytes: u64,
    /// Why it refuses to write, if it does.
    pub poisoned: Option<String>,
    /// What opening found damaged.
    pub damage: Vec<DamageStatus>,
    /// Its streams.
    pub streams: Vec<StreamStatus>,
    /// Its consumers.
    pub consumers: Vec<ConsumerStatus>,
}

/// A damaged part of the journal.
#[derive(Clone, Debug, Serialize)]
pub struct DamageStatus {
    /// The segment's file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How long.
    pub bytes: u64,
    /// The first record concerned.
    pub from_lsn: u64,
    /// The last one, where that can be told.
    pub to_lsn: Option<u64>,
    /// The file it was copied to.
    pub set_aside: Option<String>,
}

/// A stream as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct StreamStatus {
    /// The pub/sub component.
    pub pubsub: String,
    /// The topic.
    pub topic: String,
    /// The last sequence given out.
    pub last_sequence: u64,
    /// Messages kept.
    pub messages: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Age of the oldest message, in elapsed milliseconds.
    pub oldest_age_ms: Option<u64>,
    /// Messages that left without being acknowledged, by reason.
    pub lost: LossStatus,
}

/// Messages that left without being acknowledged, by reason.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LossStatus {
    /// Their time to live was over.
    pub expired: u64,
    /// A limit was reached and the policy took them.
    pub overflowed: u64,
    /// A consumer refused them and no dead letter topic was set.
    pub dropped: u64,
    /// No consumer was registered in time.
    pub unclaimed: u64,
    /// Damage took them.
    pub damaged: u64,
    /// The remote of a consumer can't take messages of their size, and too many were held for it.
    pub too_large: u64,
}

impl From<Losses> for LossStatus {
    fn from(losses: Losses) -> Self {
        let Losses { expired, overflowed, dropped, unclaimed, damaged, too_large } = losses;
        Self { expired, overflowed, dropped, unclaimed, damaged, too_large }
    }
}

/// A consumer as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct ConsumerStatus {
    /// Its name.
    pub name: String,
    /// `app` or `uplink`.
    pub kind: &'static str,
    /// Messages that it has not, over all its streams.
    pub backlog: u64,
    /// Age of the oldest message in a stream that it has not finished, in elapsed milliseconds.
    pub oldest_age_ms: Option<u64>,
    /// Messages that its remote can't take while its limits stand.
    pub held: u64,
    /// Why the last of them is held.
    pub held_reason: Option<String>,
    /// The last delivery that was refused since the process started.
    pub last_refusal: Option<LastRefusal>,
    /// Outcomes of its deliveries since the process started.
    pub deliveries: Deliveries,
}

impl Store {
    /// Whether it takes nothing more until it is opened again, since its disk failed.
    #[must_use]
    pub fn refuses_writes(&self) -> bool {
        self.inner.gauges.poisoned.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The store as it stands.
    ///
    /// # Errors
    ///
    /// When the tables can't be read.
    pub fn status(&self) -> Result<Status, Error> {
        let now_ms = self.now_ms();
        let views = self.inner.reader.streams()?;
        let poisoned = &self.inner.gauges.poisoned;
        Ok(Status {
            node: self.inner.identity.node.to_string(),
            epoch: self.inner.identity.epoch.0,
            disk_bytes: self.inner.gauges.disk_bytes.load(Ordering::Relaxed),
            poisoned: poisoned.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            damage: self.inner.damage.clone(),
            consumers: self.consumer_status(&views, now_ms)?,
            streams: views.into_iter().map(|view| stream_status(view, now_ms)).collect(),
        })
    }

    fn consumer_status(
        &self,
        views: &[StreamView],
        now_ms: u64,
    ) -> Result<Vec<ConsumerStatus>, Error> {
        let reader = &self.inner.reader;
        let mut all = Vec::new();
        for (id, spec) in reader.consumers()? {
            let (mut backlog, mut oldest) = (0, None);
            for view in views.iter().filter(|view| spec.reads(&view.topic)) {
                let missing = reader.backlog(view, &reader.cursor(id, view.id)?)?;
                backlog += missing;
                if missing > 0 {
                    oldest = oldest.max(view.oldest_ms.map(|ms| now_ms.saturating_sub(ms)));
                }
            }
            let kind = match spec.kind {
                ConsumerKind::App => "app",
                ConsumerKind::Uplink => "uplink",
            };
            let progress = self.inner.progress.get(id);
            let seen = progress.map(|progress| progress.seen().clone()).unwrap_or_default();
            let held = reader.count_kept(&seen.held)?;
            all.push(ConsumerStatus {
                name: spec.name,
                kind,
                backlog,
                oldest_age_ms: oldest,
                held,
                held_reason: seen.held_reason.filter(|_| held > 0),
                last_refusal: seen.last_refusal,
                deliveries: seen.deliveries,
            });
        }
        Ok(all)
    }
}

pub(super) fn damage(recovery: &Recovery) -> Vec<DamageStatus> {
    let seen = recovery.damage.iter().map(|damage| DamageStatus {
        file: damage.file.clone(),
        offset: damage.offset,
        bytes: damage.bytes,
        from_lsn: damage.from_lsn.0,
        to_lsn: damage.to_lsn.map(|lsn| lsn.0),
        set_aside: damage.set_aside.clone(),
    });
    seen.collect()
}

fn stream_status(view: StreamView, now_ms: u64) -> StreamStatus {
    StreamStatus {
        pubsub: view.topic.component,
        topic: view.topic.name,
        last_sequence: view.next.0.saturating_sub(1),
        messages: view.messages,
        bytes: view.bytes,
        oldest_age_ms: view.oldest_ms.map(|ms| now_ms.saturating_sub(ms)),
        lost: view.losses.into(),
    }
}
