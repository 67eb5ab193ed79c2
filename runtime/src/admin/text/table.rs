//! Tables that fit into the columns of a terminal.

use std::fmt::Write;

use crate::text;

/// Characters to which names are cut at most, however narrow the terminal.
const LEAST_NAME: usize = 12;
/// Spaces between two columns.
const GAP: usize = 2;

/// Writes an empty line, the head and the aligned rows; nothing if there are no rows. Empty columns
/// are left out. The names in the first column are cut so that lines fit into `width`; if that is not
/// enough, whole lines are cut.
pub(super) fn table(
    out: &mut String,
    head: &[&str],
    mut rows: Vec<Vec<String>>,
    width: Option<usize>,
) {
    if rows.is_empty() {
        return;
    }
    let is_used = |at: &usize| rows.iter().any(|row| !row[*at].is_empty());
    let used: Vec<usize> = (0..head.len()).filter(is_used).collect();
    rows.insert(0, head.iter().map(|cell| (*cell).to_owned()).collect());
    let length = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let mut widths: Vec<usize> = used.iter().map(|at| length(*at)).collect();
    if let (Some(width), Some((name, others))) = (width, widths.split_first_mut()) {
        let others: usize = others.iter().map(|other| other + GAP).sum();
        *name = (*name).min(width.saturating_sub(others).max(LEAST_NAME));
    }
    out.push('\n');
    for row in &rows {
        let cells = used.iter().zip(&widths);
        let cells = cells.map(|(at, width)| format!("{:<width$}", text::cut(&row[*at], *width)));
        let line = cells.collect::<Vec<_>>().join("  ");
        let line = line.trim_end();
        let _ = writeln!(out, "{}", text::cut(line, width.unwrap_or(usize::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(width: Option<usize>) -> String {
        let mut out = String::new();
        let rows = vec![
            vec!["uplink/a-long-name-of-it".to_owned(), "3".to_owned(), String::new()],
            vec!["b".to_owned(), "4".to_owned(), String::new()],
        ];
        table(&mut out, &["NAME", "WAITING", "REMARKS"], rows, width);
        out
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let expected = "\nNAME                      WAITING\n\
            uplink/a-long-name-of-it  3\nb                         4\n";
        assert_eq!(written(None), expected);
    }

    #[test]
    fn names_are_cut_before_the_figures_and_lines_in_any_case() {
        let expected = "\nNAME            WAITING\nuplink/a-long…  3\nb               4\n";
        assert_eq!(written(Some(23)), expected);
        assert!(written(Some(9)).lines().all(|line| line.chars().count() <= 9));
    }
}
