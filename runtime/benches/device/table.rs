//! Medians, and what is printed.

use std::time::Duration;

/// A figure, its floor, and how they compare.
pub(crate) struct Row {
    figure: &'static str,
    value: String,
    floor: String,
    ratio: String,
    target: String,
    ok: bool,
}

impl Row {
    /// A figure that may be so many times its floor at most.
    pub(crate) fn at_most(
        figure: &'static str,
        (value, floor): (String, String),
        ratio: f64,
        most: f64,
    ) -> Self {
        let (ok, target) = (ratio <= most, format!("<= {most} x"));
        Self { figure, value, floor, ratio: format!("{ratio:.2}"), target, ok }
    }

    /// A figure that must be so many times its floor at least.
    pub(crate) fn at_least(
        figure: &'static str,
        (value, floor): (String, String),
        ratio: f64,
        least: f64,
    ) -> Self {
        let (ok, target) = (ratio >= least, format!(">= {least} x"));
        Self { figure, value, floor, ratio: format!("{ratio:.2}"), target, ok }
    }

    /// A figure with a bound of its own and no floor.
    pub(crate) fn bound(figure: &'static str, value: f64, most: f64, unit: &str) -> Self {
        let digits = if value < 10.0 && value > 0.0 { 3 } else { 1 };
        Self {
            figure,
            value: format!("{value:.digits$} {unit}"),
            floor: String::new(),
            ratio: String::new(),
            target: format!("<= {most} {unit}"),
            ok: value <= most,
        }
    }

    /// The same with a remark in the floor's place.
    pub(crate) fn beside(mut self, remark: String) -> Self {
        self.floor = remark;
        self
    }
}

/// Prints the rows as a table that reads well as text and as Markdown.
pub(crate) fn print(rows: &[Row]) {
    println!("| figure | value | floor or remark | ratio | target | |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for Row { figure, value, floor, ratio, target, ok } in rows {
        let verdict = if *ok { "ok" } else { "SHORT" };
        println!("| {figure} | {value} | {floor} | {ratio} | {target} | {verdict} |");
    }
}

/// The one in the middle; zero of none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The medians of both, and of the ratios within each round: what slows a whole round down
/// cancels out there.
pub(crate) fn medians(rounds: &[(f64, f64)]) -> (f64, f64, f64) {
    let over = |pick: fn(&(f64, f64)) -> f64| median(rounds.iter().map(pick).collect());
    (over(|round| round.0), over(|round| round.1), over(|(value, floor)| value / floor))
}

/// Microseconds.
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
