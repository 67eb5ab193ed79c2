//! Tells people why messages don't get through: counters, the last refusal, and sparing log lines.

use std::sync::Arc;
use std::time::Duration;

use super::Progress;
use super::dispatch::{Fate, Refusal, Settled};
use super::progress::LastRefusal;
use crate::record::Topic;
use crate::sparing::Sparing;

/// Characters of a reason: it may be a remote's own words.
const REASON_MAX: usize = 200;

/// Reports on one consumer.
pub(super) struct Reporter {
    consumer: String,
    has_dead_letter: bool,
    progress: Arc<Progress>,
    retried: Sparing,
    rejected: Sparing,
    held: Sparing,
    lost: Sparing,
}

impl Reporter {
    pub(super) fn new(consumer: &str, has_dead_letter: bool, progress: Arc<Progress>) -> Self {
        Self {
            consumer: consumer.to_owned(),
            has_dead_letter,
            progress,
            retried: Sparing::default(),
            rejected: Sparing::default(),
            held: Sparing::default(),
            lost: Sparing::default(),
        }
    }

    /// Counts outcomes, and tells why messages were refused. `now` is a steady clock's, `wall_ms`
    /// the wall clock's in milliseconds since 1970.
    pub(super) fn settled(
        &mut self,
        now: Duration,
        wall_ms: i64,
        topic: Option<&Topic>,
        settled: &Settled,
    ) {
        self.progress.seen().deliveries.acknowledged += settled.acknowledged;
        for refusal in &settled.refusals {
            let reason = cut(&refusal.reason);
            self.count(refusal.fate, reason);
            if refusal.fate == Fate::Unreachable {
                continue;
            }
            let topic = topic.map(ToString::to_string).unwrap_or_default();
            self.log(now, &topic, refusal, reason);
            self.progress.seen().last_refusal = Some(LastRefusal {
                topic,
                sequence: refusal.sequence.0,
                attempt: refusal.attempt,
                reason: reason.to_owned(),
                at: wall_ms,
            });
        }
    }

    fn count(&self, fate: Fate, reason: &str) {
        let mut seen = self.progress.seen();
        match fate {
            Fate::Retried => seen.deliveries.refused += 1,
            Fate::Rejected => seen.deliveries.rejected += 1,
            Fate::Held => {
                seen.deliveries.held += 1;
                seen.held_reason = Some(reason.to_owned());
            }
            Fate::Unreachable => seen.deliveries.unreachable += 1,
            // Counted when it was held, and by the stream's losses.
            Fate::Lost => {}
        }
    }

    fn log(&mut self, now: Duration, topic: &str, refusal: &Refusal, reason: &str) {
        let Refusal { sequence, attempt, fate, .. } = refusal;
        let sparing = match fate {
            Fate::Retried => &mut self.retried,
            Fate::Rejected => &mut self.rejected,
            Fate::Held => &mut self.held,
            Fate::Lost => &mut self.lost,
            Fate::Unreachable => return,
        };
        let Some(suppressed) = sparing.admit(now) else { return };
        let consumer = self.consumer.as_str();
        macro_rules! warn {
            ($text:literal) => {
                tracing::warn!(consumer, topic, %sequence, attempt, reason, suppressed, $text)
            };
        }
        match fate {
            Fate::Retried => warn!("message was refused, it is tried again"),
            Fate::Rejected if self.has_dead_letter => {
                warn!("message was refused, it goes to the dead letter topic");
            }
            Fate::Rejected => warn!("message was refused and dropped"),
            Fate::Held => {
                warn!("message is held until the remote takes it or `pannier retry` is called");
            }
            Fate::Lost => warn!("oldest held message is lost"),
            Fate::Unreachable => {}
        }
    }
}

fn cut(reason: &str) -> &str {
    reason.char_indices().nth(REASON_MAX).map_or(reason, |(end, _)| &reason[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ä".repeat(300)), "ä".repeat(REASON_MAX));
    }
}
