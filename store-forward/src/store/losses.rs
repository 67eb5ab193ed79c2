//! Warns in the log of messages that expired, were unclaimed, or were dropped at a limit.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::ids::StreamId;
use crate::tables::{Index, Losses};

/// Time between two looks at the counts, to bound the log.
const INTERVAL: Duration = Duration::from_secs(10);
/// Topics that one look names at most.
const NAMED: usize = 10;

/// What was lost when it last looked.
pub(super) struct Watch {
    seen: HashMap<StreamId, Losses>,
    looked: Option<Instant>,
    /// Whether there were commits since.
    pending: bool,
}

impl Watch {
    /// Starts with what was lost in former lives, which was told then.
    pub(super) fn new(index: &Index) -> Self {
        let seen = index.streams.iter().map(|(id, stream)| (*id, stream.row.losses));
        let seen = seen.filter(|(_, losses)| *losses != Losses::default()).collect();
        Self { seen, looked: None, pending: false }
    }

    /// The store may have changed.
    pub(super) fn changed(&mut self) {
        self.pending = true;
    }

    /// How long until the next look; `None` while nothing has changed.
    pub(super) fn due_in(&self) -> Option<Duration> {
        let waited = self.looked.map_or(INTERVAL, |looked| looked.elapsed());
        self.pending.then(|| INTERVAL.saturating_sub(waited))
    }

    /// Tells what was lost since the last look, when it is time for one.
    pub(super) fn look(&mut self, index: &Index) {
        if self.due_in() != Some(Duration::ZERO) {
            return;
        }
        self.pending = false;
        self.looked = Some(Instant::now());
        let mut unnamed = 0;
        for (count, (topic, lost)) in self.fresh(index).into_iter().enumerate() {
            if count >= NAMED {
                unnamed += 1;
                continue;
            }
            let Losses { expired, overflowed, unclaimed, .. } = lost;
            tracing::warn!(topic, expired, overflowed, unclaimed, "messages were lost undelivered");
        }
        if unnamed > 0 {
            tracing::warn!(topics = unnamed, "messages of more topics were lost undelivered");
        }
    }

    /// The topics that have lost messages since the last look, each with how many. Those that a
    /// consumer gave up are told where that happens.
    fn fresh(&mut self, index: &Index) -> Vec<(String, Losses)> {
        let mut fresh = Vec::new();
        for (id, stream) in &index.streams {
            let now = stream.row.losses;
            if now == Losses::default() {
                continue;
            }
            let before = self.seen.insert(*id, now).unwrap_or_default();
            let lost = Losses {
                expired: now.expired.saturating_sub(before.expired),
                overflowed: now.overflowed.saturating_sub(before.overflowed),
                unclaimed: now.unclaimed.saturating_sub(before.unclaimed),
                ..Losses::default()
            };
            if lost != Losses::default() {
                fresh.push((stream.row.topic.to_string(), lost));
            }
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::clock::{ManualClock, Reading};
    use crate::disk::MemoryDisk;
    use crate::engine::{Engine, Options, Request};
    use crate::limits::{Limits, Overflow, StreamLimits};
    use crate::record::{NewMessage, Op, Topic};

    #[test]
    fn each_loss_is_told_once_and_none_of_a_former_life() {
        let clock = Arc::new(ManualClock::new(Reading::default(), "boot"));
        let small = Limits { reserve_bytes: 0, segment_bytes: 64 << 10, ..Limits::default() };
        let options = Options { node: None, limits: small, volatile: false };
        let mut engine = Engine::open(options, Arc::new(MemoryDisk::new()), clock).unwrap();
        let limits = StreamLimits {
            max_messages: 1,
            overflow: Overflow::DropOldest,
            ..StreamLimits::default()
        };
        let configure = Op::Configure { component: "p".into(), limits };
        let publish = || {
            let (topic, message) = (Topic::new("p", "t"), NewMessage::default());
            Op::Publish { topic, message }
        };
        let ops = vec![configure, publish(), publish()];
        engine.commit(&[Request { ops, durable: true }]).remove(0).unwrap();
        let mut watch = Watch::new(engine.index());
        assert_eq!(watch.fresh(engine.index()), []);
        let ops = vec![publish(), publish()];
        engine.commit(&[Request { ops, durable: true }]).remove(0).unwrap();
        let lost = Losses { overflowed: 2, ..Losses::default() };
        assert_eq!(watch.fresh(engine.index()), [("p/t".to_owned(), lost)]);
        assert_eq!(watch.fresh(engine.index()), []);
        assert_eq!(watch.due_in(), None, "an idle store looks for nothing");
        watch.changed();
        assert_eq!(watch.due_in(), Some(Duration::ZERO));
        watch.look(engine.index());
        assert_eq!(watch.due_in(), None);
    }
}
