//! What is over its time goes.

use store_forward::record::{Loss, Timestamp, Topic};

use super::Model;

impl Model {
    pub(super) fn expire(
        &mut self,
        at: Timestamp,
        now_ms: u64,
        unclaimed_ms: u64,
    ) -> Vec<(u32, u64)> {
        self.state.retain(|_, value| value.expires_ms == 0 || now_ms < value.expires_ms);
        let mut letters = Vec::new();
        while let Some((stream, sequence)) = self.first_over(now_ms) {
            let topics = self.dead_letters_of(stream, sequence);
            let kept = self.lose(stream, sequence, Loss::Expired);
            for topic in topics {
                letters.push(self.dead_letter(at, (stream, sequence, &kept), &topic, "expired"));
            }
            self.release(stream);
        }
        for stream in self.streams.keys().copied().collect::<Vec<_>>() {
            if self.readers(stream).is_empty() {
                self.expire_unclaimed(stream, now_ms, unclaimed_ms);
            }
        }
        letters
    }

    /// Whether a sweep would find anything.
    pub(crate) fn is_overdue(&self, now_ms: u64, unclaimed_ms: u64) -> bool {
        let state =
            self.state.values().any(|value| value.expires_ms != 0 && value.expires_ms <= now_ms);
        let unclaimed = self.streams.iter().any(|(id, stream)| {
            let first = stream.kept.values().next();
            first.is_some_and(|kept| kept.born_ms + unclaimed_ms <= now_ms)
                && self.readers(*id).is_empty()
        });
        state || unclaimed || self.first_over(now_ms).is_some()
    }

    fn first_over(&self, now_ms: u64) -> Option<(u32, u64)> {
        let all = self.streams.iter().flat_map(|(id, stream)| {
            stream.kept.iter().map(|(sequence, kept)| (kept.expires_ms, *id, *sequence))
        });
        let over = all.filter(|(expires_ms, ..)| *expires_ms != 0 && *expires_ms <= now_ms);
        over.min().map(|(_, stream, sequence)| (stream, sequence))
    }

    fn dead_letters_of(&self, stream: u32, sequence: u64) -> Vec<Topic> {
        let lacks = |id: &u32| !self.consumers[id].has.contains(&(stream, sequence));
        let readers = self.readers(stream).into_iter().filter(lacks);
        let mut topics: Vec<Topic> =
            readers.filter_map(|id| self.consumers[&id].spec.dead_letter.clone()).collect();
        topics.retain(|topic| *topic != self.streams[&stream].topic);
        topics.sort();
        topics.dedup();
        topics
    }

    fn expire_unclaimed(&mut self, stream: u32, now_ms: u64, unclaimed_ms: u64) {
        while let Some((sequence, kept)) = self.streams[&stream].kept.first_key_value() {
            if kept.born_ms + unclaimed_ms > now_ms {
                return;
            }
            let sequence = *sequence;
            self.lose(stream, sequence, Loss::Unclaimed);
        }
    }
}
