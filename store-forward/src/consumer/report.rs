//! Tells people why messages don't get through: counters, the last refusal, and sparing log lines.

use std::sync::Arc;
use std::time::Duration;

use super::Progress;
use super::dispatch::{Fate, Refusal, Settled};
use super::progress::LastRefusal;
use crate::record::Topic;

/// Between two log lines of one kind.
const QUIET: Duration = Duration::from_secs(10);
/// Characters of a reason: it may be a remote's own words.
const REASON_MAX: usize = 200;

/// Admits the first of many events of one kind, and then one in ten seconds.
#[derive(Debug, Default)]
struct Sparing {
    quiet_until: Option<Duration>,
    suppressed: u64,
}

impl Sparing {
    /// Returns how many were suppressed since the last one that was admitted, if this one is.
    fn admit(&mut self, now: Duration) -> Option<u64> {
        if self.quiet_until.is_some_and(|until| now < until) {
            self.suppressed += 1;
            return None;
        }
        self.quiet_until = Some(now + QUIET);
        Some(std::mem::take(&mut self.suppressed))
    }
}

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
    fn the_first_event_is_admitted_and_then_one_in_ten_seconds_with_the_number_suppressed() {
        let mut sparing = Sparing::default();
        let admitted = [0, 1, 9, 10, 11, 30].map(|s| sparing.admit(Duration::from_secs(s)));
        assert_eq!(admitted, [Some(0), None, None, Some(2), None, Some(1)]);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ä".repeat(300)), "ä".repeat(REASON_MAX));
    }
}
