//! "Did you mean": the nearest of some known names.

/// Returns the known name nearest to `name` if it is near enough to be a slip: letter case, a missing
/// or swapped letter, a plural.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = fold(name);
    known
        .into_iter()
        .map(|candidate| (distance(&wanted, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed(wanted.len().min(candidate.len())))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Drops letter case and separators: `client_id` equals `clientId`.
fn fold(name: &str) -> Vec<char> {
    let significant = name.chars().filter(|c| !matches!(c, '-' | '_' | ' '));
    significant.take(LONGEST).flat_map(char::to_lowercase).collect()
}

/// Letters of a name that are compared. No field is as long, so longer names are cut.
const LONGEST: usize = 64;

/// Returns how many slips a name of this many letters may have and still be meant.
fn allowed(letters: usize) -> usize {
    match letters {
        0..=3 => 1,
        4..=7 => 2,
        _ => 3,
    }
}

/// Counts the edits between two names; a swap of neighbours is one edit (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = above[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 6] = ["clientId", "clientKey", "url", "routes", "to", "window"];

    #[test]
    fn slips_find_the_name_that_was_meant() {
        let slips = [
            ("clientID", "clientId"),
            ("client_id", "clientId"),
            ("route", "routes"),
            ("widnow", "window"),
            ("uri", "url"),
        ];
        for (slip, meant) in slips {
            assert_eq!(nearest(slip, KNOWN), Some(meant), "{slip}");
        }
    }

    #[test]
    fn other_words_find_nothing() {
        assert_eq!(nearest("priority", KNOWN), None);
        assert_eq!(nearest("", ["window"]), None);
        assert_eq!(nearest(&"x".repeat(100_000), KNOWN), None);
    }

    #[test]
    fn swapped_neighbours_are_one_edit() {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        assert_eq!(distance(&letters("form"), &letters("from")), 1);
        assert_eq!(distance(&letters(""), &letters("abc")), 3);
    }
}
