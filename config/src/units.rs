//! Sizes, durations and booleans as people write them: `4Mi`, `1m30s`, `T`.

use std::time::Duration;

/// A size or a duration that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {remedy}")]
pub struct UnitError {
    /// The problem.
    pub problem: String,
    /// The way to write it.
    pub remedy: String,
}

/// Units of size, in bytes: binary and decimal ones as in Kubernetes' quantities, with or without the
/// `B`. Letter case matters, because `m` is a thousandth there.
const SIZES: [(&str, u64); 18] = [
    ("", 1),
    ("B", 1),
    ("k", 1_000),
    ("K", 1_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("Ki", 1 << 10),
    ("KiB", 1 << 10),
    ("M", 1_000_000),
    ("MB", 1_000_000),
    ("Mi", 1 << 20),
    ("MiB", 1 << 20),
    ("G", 1_000_000_000),
    ("GB", 1_000_000_000),
    ("Gi", 1 << 30),
    ("GiB", 1 << 30),
    ("Ti", 1 << 40),
    ("TiB", 1 << 40),
];

/// Units of time, in nanoseconds.
const TIMES: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 24 * 3_600 * 1_000_000_000),
];

/// Reads a size in bytes: a whole number and a unit (`4Mi`, `10MB`), or a whole number of bytes (`512`).
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split_number(text.trim());
    let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit.trim_start()) else {
        return Err(not_a_size(text));
    };
    let number: u64 = number.parse().map_err(|_| not_a_size(text))?;
    number.checked_mul(*factor).ok_or_else(|| not_a_size(text))
}

/// Reads a duration: whole numbers with units (`24h`, `1m30s`, `500ms`). `0` needs no unit; any other
/// bare number is refused, because its unit would be a guess.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(without_a_unit(rest));
    }
    let mut nanoseconds = 0_u64;
    loop {
        let (part, after) = leading_part(rest).ok_or_else(|| not_a_duration(text))?;
        nanoseconds = nanoseconds.checked_add(part).ok_or_else(|| not_a_duration(text))?;
        if after.is_empty() {
            return Ok(Duration::from_nanos(nanoseconds));
        }
        rest = after;
    }
}

/// Reads a boolean as Go's `strconv.ParseBool` does, which Dapr uses for most of its flags and metadata.
/// Returns `None` for any other text, the empty one included.
#[must_use]
pub fn parse_go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Splits off one number with its unit. Returns it in nanoseconds, with the rest of the text.
fn leading_part(text: &str) -> Option<(u64, &str)> {
    let (number, rest) = split_number(text);
    let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(end);
    let (_, factor) = TIMES.iter().find(|(name, _)| *name == unit)?;
    let number: u64 = number.parse().ok()?;
    Some((number.checked_mul(*factor)?, after))
}

/// Splits off the leading digits.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn not_a_size(text: &str) -> UnitError {
    UnitError {
        problem: format!("{text:?} is not a size"),
        remedy: "write a whole number of bytes, or one with Ki, Mi, Gi (or kB, MB, GB), \
                 for example 4Mi"
            .into(),
    }
}

fn not_a_duration(text: &str) -> UnitError {
    UnitError {
        problem: format!("{text:?} is not a duration"),
        remedy: "write whole numbers with ms, s, m, h or d, for example 500ms or 1m30s".into(),
    }
}

fn without_a_unit(number: &str) -> UnitError {
    UnitError {
        problem: format!("{number} has no unit"),
        remedy: format!("write {number}s for seconds, or {number}ms for milliseconds"),
    }
}

#[cfg(test)]
mod tests;
