//! Consumers come, change, go inactive, and are forgotten.

use std::collections::{BTreeMap, BTreeSet};

use store_forward::record::{ConsumerSpec, InactiveReason, Loss, Retention};

use super::{Idle, Model, Reader};

impl Model {
    /// Who is told of what is published to a stream now.
    pub(crate) fn readers(&self, stream: u32) -> Vec<u32> {
        let topic = &self.streams[&stream].topic;
        let collects = |reader: &Reader| reader.idle.is_none_or(|idle| idle.collecting);
        let reads = self
            .consumers
            .iter()
            .filter(|(_, reader)| collects(reader) && reader.spec.reads(topic));
        reads.map(|(id, _)| *id).collect()
    }

    pub(super) fn reader_mut(&mut self, id: u32) -> &mut Reader {
        self.consumers.get_mut(&id).expect("it was just found")
    }

    fn named(&self, name: &str) -> Option<u32> {
        self.consumers.iter().find(|(_, reader)| reader.spec.name == name).map(|(id, _)| *id)
    }

    pub(super) fn register(&mut self, spec: &ConsumerSpec) -> u32 {
        let id = self.named(&spec.name).unwrap_or_else(|| {
            self.next_consumer += 1;
            let reader = Reader {
                spec: spec.clone(),
                idle: None,
                wants: BTreeSet::new(),
                has: BTreeSet::new(),
                failures: BTreeMap::new(),
                owed: BTreeSet::new(),
            };
            self.consumers.insert(self.next_consumer, reader);
            self.next_consumer
        });
        let reader = self.reader_mut(id);
        reader.spec = spec.clone();
        reader.idle = None;
        self.collect(id);
        id
    }

    /// All that is there now in what it reads is kept for it, too.
    fn collect(&mut self, id: u32) {
        for stream in self.all_streams() {
            if self.readers(stream).contains(&id) {
                let kept: Vec<u64> = self.streams[&stream].kept.keys().copied().collect();
                self.reader_mut(id).wants.extend(kept.into_iter().map(|s| (stream, s)));
            }
        }
    }

    pub(super) fn deactivate(&mut self, name: &str, reason: InactiveReason, now_ms: u64) {
        let Some(id) = self.named(name) else { return };
        let reader = self.reader_mut(id);
        let collected = reader.idle.is_none_or(|idle| idle.collecting);
        let collecting = collected && reason == InactiveReason::NotSubscribed;
        let began = reader.idle.is_none_or(|idle| idle.collecting != collecting);
        let (ran_ms, seen_ms) = match reader.idle {
            Some(idle) if !began => (idle.ran_ms, idle.seen_ms),
            _ => (0, now_ms),
        };
        reader.idle = Some(Idle { reason, collecting, ran_ms, seen_ms });
    }

    pub(super) fn resume(&mut self, now_ms: u64) {
        for idle in self.consumers.values_mut().filter_map(|reader| reader.idle.as_mut()) {
            idle.seen_ms = now_ms;
        }
    }

    pub(super) fn age(&mut self, retention: &Retention, now_ms: u64) {
        let mut over = Vec::new();
        for reader in self.consumers.values_mut() {
            let limit = limit_ms(reader, retention);
            let Some(idle) = &mut reader.idle else { continue };
            idle.ran_ms += now_ms - idle.seen_ms;
            idle.seen_ms = now_ms;
            if limit.is_none_or(|limit| idle.ran_ms < limit) {
                continue;
            }
            if idle.collecting {
                (idle.collecting, idle.ran_ms) = (false, 0);
            } else {
                over.push(reader.spec.name.clone());
            }
        }
        for name in over {
            self.forget(&name);
        }
    }

    /// Whether an inactive consumer is past the end of its stage.
    pub(super) fn is_someone_overdue(&self, retention: &Retention, now_ms: u64) -> bool {
        self.consumers.values().any(|reader| {
            let passed = reader.idle.map(|idle| idle.ran_ms + now_ms - idle.seen_ms);
            passed.zip(limit_ms(reader, retention)).is_some_and(|(passed, limit)| passed >= limit)
        })
    }

    pub(super) fn forget(&mut self, name: &str) -> Option<(u64, u64)> {
        let reader = self.consumers.remove(&self.named(name)?)?;
        Some(self.release_backlog(&reader))
    }

    pub(super) fn skip(&mut self, name: &str) -> Option<(u64, u64)> {
        let id = self.named(name)?;
        let reader = self.consumers[&id].clone();
        let done = self.release_backlog(&reader);
        for stream in self.all_streams() {
            let last = self.streams[&stream].next - 1;
            let reads = self.readers(stream).contains(&id)
                || reader.wants.range((stream, 0)..(stream + 1, 0)).next().is_some();
            if reads {
                self.reader_mut(id).has.extend((1..=last).map(|s| (stream, s)));
            }
        }
        self.all_streams().into_iter().for_each(|stream| self.release(stream));
        Some(done)
    }

    /// What was kept for a consumer alone goes. Says how much that was, and how much stays.
    fn release_backlog(&mut self, reader: &Reader) -> (u64, u64) {
        let (mut deleted, mut stays) = (0, 0);
        for (stream, sequence) in reader.wants.difference(&reader.has) {
            let place = (*stream, *sequence);
            if !self.streams[stream].kept.contains_key(sequence) {
                continue;
            }
            let waits = |other: &&Reader| {
                other.spec.name != reader.spec.name
                    && other.wants.contains(&place)
                    && !other.has.contains(&place)
            };
            if self.consumers.values().any(|other| waits(&other)) {
                stays += 1;
            } else {
                self.lose(*stream, *sequence, Loss::Unclaimed);
                deleted += 1;
            }
        }
        self.all_streams().into_iter().for_each(|stream| self.release(stream));
        (deleted, stays)
    }

    fn all_streams(&self) -> Vec<u32> {
        self.streams.keys().copied().collect()
    }
}

/// The end of the stage that an inactive consumer is in.
fn limit_ms(reader: &Reader, retention: &Retention) -> Option<u64> {
    match reader.idle?.collecting {
        true => Some(retention.grace_ms),
        false => retention.inactive_ms(reader.spec.kind),
    }
}
