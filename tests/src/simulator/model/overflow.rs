//! What happens when a stream or a component is full.

use store_forward::limits::{Overflow, StreamLimits};
use store_forward::record::{Loss, NewMessage};

use super::Model;

/// The bytes that a message counts for before its row is made.
pub(super) fn message_bytes(message: &NewMessage) -> u64 {
    let attributes: usize = message.attributes.iter().map(|(k, v)| k.len() + v.len()).sum();
    (message.data.len() + attributes) as u64
}

impl Model {
    /// Messages and bytes that a stream keeps.
    pub(super) fn size(&self, stream: u32) -> (u64, u64) {
        let kept = &self.streams[&stream].kept;
        (kept.len() as u64, kept.values().map(|kept| kept.bytes).sum())
    }

    /// Messages and bytes that a component keeps.
    pub(crate) fn component_size(&self, component: &str) -> (u64, u64) {
        let streams = self.streams.iter().filter(|(_, s)| s.topic.component == component);
        streams
            .map(|(id, _)| self.size(*id))
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Makes room for a message; says whether it may be kept.
    pub(super) fn make_room(&mut self, stream: u32, message: &NewMessage, letter: bool) -> bool {
        while let Some((bounds, whole_component)) = self.exceeded(stream, message) {
            let from = if whole_component { self.largest(stream) } else { stream };
            let victim = match bounds.overflow {
                Overflow::Reject => return !letter,
                Overflow::DropNew => None,
                Overflow::DropOldest => self.streams[&from].kept.keys().next().copied(),
                Overflow::DropLowestPriority => self.lowest(from, message.priority),
            };
            let Some(victim) = victim else { return false };
            self.lose(from, victim, Loss::Overflow);
            self.release(from);
        }
        true
    }

    fn exceeded(&self, stream: u32, message: &NewMessage) -> Option<(StreamLimits, bool)> {
        let component = &self.streams[&stream].topic.component;
        let bounds = *self.limits.get(component)?;
        let bytes = message_bytes(message);
        let over = |(messages, size): (u64, u64), most: u64, most_bytes: u64| {
            (most != 0 && messages + 1 > most) || (most_bytes != 0 && size + bytes > most_bytes)
        };
        if over(self.size(stream), bounds.max_messages, bounds.max_bytes) {
            return Some((bounds, false));
        }
        let all = self.component_size(component);
        over(all, bounds.max_component_messages, bounds.max_component_bytes)
            .then_some((bounds, true))
    }

    /// The component's stream that keeps most bytes, the last of those that do.
    fn largest(&self, stream: u32) -> u32 {
        let component = &self.streams[&stream].topic.component;
        let streams = self.streams.iter().filter(|(_, s)| s.topic.component == *component);
        streams.map(|(id, _)| *id).max_by_key(|id| self.size(*id).1).unwrap_or(stream)
    }

    /// The oldest message of the lowest priority, if that is not above `priority`.
    fn lowest(&self, stream: u32, priority: u8) -> Option<u64> {
        let kept = self.streams[&stream].kept.iter();
        let (lowest, sequence) = kept.map(|(s, kept)| (kept.body.priority.min(7), *s)).min()?;
        (lowest <= priority).then_some(sequence)
    }
}
