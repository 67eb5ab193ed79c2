//! What is over its time goes.

use store_forward::record::{Loss, Retention, Timestamp, Topic};

use super::{Model, Reader};

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
            while let Some(sequence) = self.first_unclaimed(stream, now_ms, unclaimed_ms) {
                self.lose(stream, sequence, Loss::Unclaimed);
            }
        }
        letters
    }

    /// Whether a sweep would find anything.
    pub(crate) fn is_overdue(&self, now_ms: u64, retention: &Retention) -> bool {
        let state =
            self.state.values().any(|value| value.expires_ms != 0 && value.expires_ms <= now_ms);
        let unclaimed_ms = retention.unclaimed_ms;
        let unclaimed =
            self.streams.keys().any(|id| self.first_unclaimed(*id, now_ms, unclaimed_ms).is_some());
        state
            || unclaimed
            || self.first_over(now_ms).is_some()
            || self.is_someone_overdue(retention, now_ms)
    }

    fn first_over(&self, now_ms: u64) -> Option<(u32, u64)> {
        let all = self.streams.iter().flat_map(|(id, stream)| {
            stream.kept.iter().map(|(sequence, kept)| (kept.expires_ms, *id, *sequence))
        });
        let over = all.filter(|(expires_ms, ..)| *expires_ms != 0 && *expires_ms <= now_ms);
        over.min().map(|(_, stream, sequence)| (stream, sequence))
    }

    fn dead_letters_of(&self, stream: u32, sequence: u64) -> Vec<Topic> {
        let place = (stream, sequence);
        let lacks = |r: &&Reader| r.wants.contains(&place) && !r.has.contains(&place);
        let readers = self.consumers.values().filter(lacks);
        let mut topics: Vec<Topic> =
            readers.filter_map(|reader| reader.spec.dead_letter.clone()).collect();
        topics.retain(|topic| *topic != self.streams[&stream].topic);
        topics.sort();
        topics.dedup();
        topics
    }

    /// The first message that was never kept for any consumer there is, if it waited too long.
    fn first_unclaimed(&self, stream: u32, now_ms: u64, unclaimed_ms: u64) -> Option<u64> {
        let is_wanted = |sequence: &u64| {
            self.consumers.values().any(|reader| reader.wants.contains(&(stream, *sequence)))
        };
        let mut kept = self.streams[&stream].kept.iter();
        let (sequence, kept) = kept.find(|(sequence, _)| !is_wanted(sequence))?;
        (kept.born_ms + unclaimed_ms <= now_ms).then_some(*sequence)
    }
}
