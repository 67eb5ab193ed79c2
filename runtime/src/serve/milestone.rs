//! Keeps events that repeat from flooding the log.

/// Returns whether an event that happened `before` times is worth a line of the log: the first, the
/// second, the fourth, and so on.
pub(super) fn is_milestone(before: u64) -> bool {
    (before + 1).is_power_of_two()
}
