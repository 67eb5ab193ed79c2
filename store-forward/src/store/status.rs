//! The status of a store: plain data, which other processes read as JSON. A reader of another version
//! ignores fields that it doesn't know, and fills in those that are missing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Store;
use crate::consumer::{Deliveries, LastRefusal};
use crate::engine::Engine;
use crate::error::Error;
use crate::ids::ConsumerId;
use crate::journal::Recovery;
use crate::record::{ConsumerKind, ConsumerSpec, InactiveReason};
use crate::tables::{Inactive, Losses, StateCount, StreamView};

/// Figures that the writer thread publishes.
#[derive(Default)]
pub(super) struct Gauges {
    disk_bytes: AtomicU64,
    poisoned: Mutex<Option<String>>,
    state: Mutex<BTreeMap<String, StateCount>>,
}

impl Gauges {
    pub(super) fn update(&self, engine: &Engine) {
        self.disk_bytes.store(engine.disk_bytes(), Ordering::Relaxed);
        let counts = &engine.index().meta.state;
        let mut shown = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown != *counts {
            shown.clone_from(counts);
        }
        drop(shown);
        if let Some(cause) = engine.poisoned() {
            let mut poisoned = self.poisoned.lock().unwrap_or_else(PoisonError::into_inner);
            poisoned.get_or_insert_with(|| cause.to_owned());
        }
    }
}

/// The status of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The id of the node.
    pub node: String,
    /// Epoch of the store, a random number.
    pub epoch: u32,
    /// Bytes on disk: journal, tables and reserve.
    pub disk_bytes: u64,
    /// Cause for which the store refuses writes; `None` while it takes them.
    pub poisoned: Option<String>,
    /// Parts of the journal that were found damaged when the store was opened.
    pub damage: Vec<DamageStatus>,
    /// Contents of each state store component.
    pub state: Vec<StateStatus>,
    /// The streams.
    pub streams: Vec<StreamStatus>,
    /// The consumers.
    pub consumers: Vec<ConsumerStatus>,
}

/// A damaged part of the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DamageStatus {
    /// The segment's file.
    pub file: String,
    /// Offset of the damage in the file, in bytes.
    pub offset: u64,
    /// Length of the damage.
    pub bytes: u64,
    /// The first damaged record.
    pub from_lsn: u64,
    /// The last damaged record; `None` if it is unknown.
    pub to_lsn: Option<u64>,
    /// File that the damaged bytes were copied to.
    pub set_aside: Option<String>,
}

/// The status of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamStatus {
    /// The pub/sub component.
    pub pubsub: String,
    /// The topic.
    pub topic: String,
    /// The last sequence given out.
    pub last_sequence: u64,
    /// Messages kept.
    pub messages: u64,
    /// Bytes of the messages kept.
    pub bytes: u64,
    /// Age of the oldest message, in elapsed milliseconds.
    pub oldest_age_ms: Option<u64>,
    /// Messages that left without being acknowledged, by reason.
    pub lost: LossStatus,
}

/// Messages that left without being acknowledged, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossStatus {
    /// Their time to live had passed.
    pub expired: u64,
    /// Deleted by the overflow policy when a limit was reached.
    pub overflowed: u64,
    /// A consumer refused them and no dead letter topic was set.
    pub dropped: u64,
    /// No consumer was registered in time.
    pub unclaimed: u64,
    /// Lost with a damaged part of the journal.
    pub damaged: u64,
    /// Too large for the remote of a consumer, which held too many of them already.
    pub too_large: u64,
}

impl From<Losses> for LossStatus {
    fn from(losses: Losses) -> Self {
        let Losses { expired, overflowed, dropped, unclaimed, damaged, too_large } = losses;
        Self { expired, overflowed, dropped, unclaimed, damaged, too_large }
    }
}

impl LossStatus {
    /// Returns each reason with its count.
    #[must_use]
    pub fn by_reason(self) -> [LossCount; 6] {
        let Self { expired, overflowed, dropped, unclaimed, damaged, too_large } = self;
        [
            LossCount { reason: "expired", messages: expired },
            LossCount { reason: "overflowed", messages: overflowed },
            LossCount { reason: "dropped", messages: dropped },
            LossCount { reason: "unclaimed", messages: unclaimed },
            LossCount { reason: "damaged", messages: damaged },
            LossCount { reason: "too_large", messages: too_large },
        ]
    }
}

/// The number of messages lost for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossCount {
    /// The reason's name in [`LossStatus`].
    pub reason: &'static str,
    /// Messages lost.
    pub messages: u64,
}

/// The status of a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerStatus {
    /// The consumer's name, unique in the store.
    pub name: String,
    /// `app` or `uplink`.
    pub kind: String,
    /// Messages that wait for it, or are kept for it while it is inactive.
    pub backlog: u64,
    /// Messages that are kept for it in topics that its filters no longer match.
    pub unmatched: u64,
    /// Age of the oldest message in a stream that it has not finished, in elapsed milliseconds.
    pub oldest_age_ms: Option<u64>,
    /// Set while no configuration or app names the consumer.
    pub inactive: Option<InactiveStatus>,
    /// Messages held: the remote can't take them until its limits change.
    pub held: u64,
    /// Reason for which the last of them is held.
    pub held_reason: Option<String>,
    /// The last delivery that was refused since the process started.
    pub last_refusal: Option<LastRefusal>,
    /// Outcomes of its deliveries since the process started.
    pub deliveries: Deliveries,
}

/// The state of a consumer that no configuration or app names any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InactiveStatus {
    /// `not configured` or `not subscribed`.
    pub reason: String,
    /// True while the consumer still collects new messages.
    pub collecting: bool,
    /// Time for which the backlog is kept once collecting has stopped, in milliseconds during which
    /// the process runs; `None` is for ever.
    pub kept_for_ms: Option<u64>,
}

/// The contents of a state store component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StateStatus {
    /// The component.
    pub component: String,
    /// Keys, expired ones too until they are swept.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl Store {
    /// Returns true once the disk has failed: the store takes no more writes until it is reopened.
    #[must_use]
    pub fn refuses_writes(&self) -> bool {
        self.poisoned().is_some()
    }

    /// Returns the cause for which the store takes no more writes, if there is one.
    #[must_use]
    pub fn poisoned(&self) -> Option<String> {
        self.inner.gauges.poisoned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the status of the store.
    ///
    /// # Errors
    ///
    /// When the tables can't be read.
    pub fn status(&self) -> Result<Status, Error> {
        let now_ms = self.now_ms();
        let views = self.inner.reader.streams()?;
        Ok(Status {
            node: self.inner.identity.node.to_string(),
            epoch: self.inner.identity.epoch.0,
            disk_bytes: self.inner.gauges.disk_bytes.load(Ordering::Relaxed),
            poisoned: self.poisoned(),
            damage: self.inner.damage.clone(),
            state: self.state_status(),
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
        for (id, row) in reader.consumers()? {
            let claims = reader.claims(id)?;
            let (mut backlog, mut unmatched, mut oldest) = (0, 0, None);
            for view in views {
                let closed = claims.get(&view.id).copied();
                let until = match closed {
                    Some(until) => until,
                    None if row.collects(&view.topic) => view.next.previous(),
                    None => continue,
                };
                let missing = reader.cursor(id, view.id)?.missing(until).min(view.messages);
                if closed.is_some() && row.inactive.is_none() {
                    unmatched += missing;
                } else {
                    backlog += missing;
                }
                if missing > 0 {
                    oldest = oldest.max(view.oldest_ms.map(|ms| now_ms.saturating_sub(ms)));
                }
            }
            let progress = self.inner.progress.get(id);
            let seen = progress.map(|progress| progress.seen().clone()).unwrap_or_default();
            let held = reader.count_kept(&seen.held)?;
            all.push(ConsumerStatus {
                kind: kind(row.spec.kind).into(),
                inactive: row.inactive.map(|inactive| self.inactive_status(&row.spec, inactive)),
                name: row.spec.name,
                backlog,
                unmatched,
                oldest_age_ms: oldest,
                held,
                held_reason: seen.held_reason.filter(|_| held > 0),
                last_refusal: seen.last_refusal,
                deliveries: seen.deliveries,
            });
        }
        Ok(all)
    }

    fn inactive_status(&self, spec: &ConsumerSpec, inactive: Inactive) -> InactiveStatus {
        let kept = self.inner.retention.inactive_ms(spec.kind);
        let ran_ms = self.now_ms().saturating_sub(inactive.seen_ms).saturating_add(inactive.ran_ms);
        let passed_ms = if inactive.collecting { 0 } else { ran_ms };
        InactiveStatus {
            reason: match inactive.reason {
                InactiveReason::NotConfigured => "not configured".into(),
                InactiveReason::NotSubscribed => "not subscribed".into(),
            },
            collecting: inactive.collecting,
            kept_for_ms: kept.map(|kept| kept.saturating_sub(passed_ms)),
        }
    }

    /// Warns of messages kept for a consumer in topics that its filters no longer match.
    pub(super) fn tell_unmatched(&self, id: ConsumerId, consumer: &str) -> Result<(), Error> {
        let reader = &self.inner.reader;
        let claims = reader.claims(id)?;
        if claims.is_empty() {
            return Ok(());
        }
        let (mut messages, mut example) = (0, None);
        for view in reader.streams()? {
            let Some(until) = claims.get(&view.id) else { continue };
            let missing = reader.cursor(id, view.id)?.missing(*until).min(view.messages);
            messages += missing;
            example = example.or((missing > 0).then_some(view.topic));
        }
        if let Some(topic) = example {
            tracing::warn!(
                consumer,
                messages,
                example = %topic,
                "messages are kept for topics that the consumer no longer matches: correct its \
                 routes to have them delivered, or give them up with `pannier forget --force`"
            );
        }
        Ok(())
    }

    fn state_status(&self) -> Vec<StateStatus> {
        let counts = self.inner.gauges.state.lock().unwrap_or_else(PoisonError::into_inner);
        let status = |(component, count): (&String, &StateCount)| StateStatus {
            component: component.clone(),
            keys: count.keys,
            bytes: count.bytes,
        };
        counts.iter().map(status).collect()
    }
}

fn kind(kind: ConsumerKind) -> &'static str {
    match kind {
        ConsumerKind::App => "app",
        ConsumerKind::Uplink => "uplink",
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
