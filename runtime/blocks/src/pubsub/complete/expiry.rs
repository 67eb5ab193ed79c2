//! Times to live over a component that has none: as an attribute of the message, as Dapr does.

use components::clock::Reading;
use components::port::pubsub::{Message, Outgoing};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::pubsub::cloudevent::rfc3339;

/// The attribute that holds the time of expiry (RFC 3339).
const EXPIRATION: &str = "expiration";

/// Gives each message with a time to live the attribute. A clock that was never set would tell other
/// devices a time in the past, so then the messages don't expire.
pub(super) fn stamp(messages: &mut [Outgoing], now: Reading) {
    if !now.believed {
        return;
    }
    for message in messages {
        let Some(ttl) = message.ttl_ms else { continue };
        let at = now.wall_ms.saturating_add(i64::try_from(ttl).unwrap_or(i64::MAX));
        // A time beyond the year 9999 can't be written, and need not be.
        let Some(at) = rfc3339(at) else { continue };
        remove(&mut message.attributes);
        message.attributes.push((EXPIRATION.to_owned(), at));
    }
}

/// Removes the attribute.
pub(super) fn remove(attributes: &mut Vec<(String, String)>) {
    attributes.retain(|(name, _)| name != EXPIRATION);
}

/// Returns the milliseconds until a message expires, zero if it has; `None` if it never does.
pub(super) fn left_ms(message: &Message, now: Reading) -> Option<u64> {
    let by_attribute = message.attribute(EXPIRATION).filter(|_| now.believed).and_then(|at| {
        let at = OffsetDateTime::parse(at, &Rfc3339).ok()?.unix_timestamp_nanos() / 1_000_000;
        Some(u64::try_from(at - i128::from(now.wall_ms)).unwrap_or(0))
    });
    match (message.expires_in_ms, by_attribute) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Reading = Reading { wall_ms: 1_800_000_000_000, up_ms: 0, believed: true };

    fn stamped(ttl_ms: u64, now: Reading) -> Message {
        let mut messages = [Outgoing { ttl_ms: Some(ttl_ms), ..Outgoing::default() }];
        stamp(&mut messages, now);
        let [message] = messages;
        Message { attributes: message.attributes, ..Message::default() }
    }

    fn after(ms: i64) -> Reading {
        Reading { wall_ms: NOW.wall_ms + ms, ..NOW }
    }

    #[test]
    fn the_time_left_is_what_the_sender_gave_less_what_has_passed() {
        let message = stamped(1500, NOW);
        assert_eq!(message.attribute(EXPIRATION), Some("2027-01-15T08:00:01.5Z"));
        assert_eq!(left_ms(&message, NOW), Some(1500));
        assert_eq!(left_ms(&message, after(1499)), Some(1));
        assert_eq!(left_ms(&message, after(1500)), Some(0));
        assert_eq!(left_ms(&message, after(9999)), Some(0));
    }

    #[test]
    fn the_earlier_of_two_times_counts() {
        let message = Message { expires_in_ms: Some(20), ..stamped(1500, NOW) };
        assert_eq!(left_ms(&message, NOW), Some(20));
        assert_eq!(left_ms(&message, after(1490)), Some(10));
    }

    #[test]
    fn a_clock_that_was_never_set_makes_nothing_expire() {
        let unset = Reading { believed: false, ..NOW };
        assert_eq!(stamped(1, unset).attribute(EXPIRATION), None);
        let late = Reading { believed: false, ..after(9999) };
        assert_eq!(left_ms(&stamped(1, NOW), late), None);
    }

    #[test]
    fn a_time_that_can_not_be_written_or_read_is_none() {
        assert_eq!(left_ms(&stamped(u64::MAX, NOW), NOW), None);
        let attributes = vec![(EXPIRATION.to_owned(), "tomorrow".to_owned())];
        assert_eq!(left_ms(&Message { attributes, ..Message::default() }, NOW), None);
    }
}
