//! Medians and the printed table.

use std::time::Duration;

/// A figure, its floor and their ratio.
pub(crate) struct Row {
    figure: &'static str,
    value: String,
    floor: String,
    ratio: String,
    target: String,
    is_met: bool,
}

/// A figure and its floor, as they are printed.
pub(crate) struct Measured {
    pub(crate) value: String,
    pub(crate) floor: String,
    /// The figure over its floor.
    pub(crate) ratio: f64,
}

/// A figure and its floor, measured one after the other.
pub(crate) struct Round {
    pub(crate) value: f64,
    pub(crate) floor: f64,
}

/// The medians of several rounds.
pub(crate) struct Medians {
    pub(crate) value: f64,
    pub(crate) floor: f64,
    /// The median of the ratios within each round, in which whatever slows a whole round down cancels
    /// out.
    pub(crate) ratio: f64,
}

impl Row {
    /// Creates the row of a figure that may be `most` times its floor at most.
    pub(crate) fn at_most(figure: &'static str, measured: Measured, most: f64) -> Self {
        let target = format!("<= {most} x");
        let is_met = measured.ratio <= most;
        Self::compared(figure, measured, target, is_met)
    }

    /// Creates the row of a figure that must be `least` times its floor at least.
    pub(crate) fn at_least(figure: &'static str, measured: Measured, least: f64) -> Self {
        let target = format!(">= {least} x");
        let is_met = measured.ratio >= least;
        Self::compared(figure, measured, target, is_met)
    }

    fn compared(figure: &'static str, measured: Measured, target: String, is_met: bool) -> Self {
        let Measured { value, floor, ratio } = measured;
        Self { figure, value, floor, ratio: format!("{ratio:.2}"), target, is_met }
    }

    /// Creates the row of a figure that has a bound of its own and no floor.
    pub(crate) fn bound(figure: &'static str, value: f64, most: f64, unit: &str) -> Self {
        let digits = if value < 10.0 && value > 0.0 { 3 } else { 1 };
        Self {
            figure,
            value: format!("{value:.digits$} {unit}"),
            floor: String::new(),
            ratio: String::new(),
            target: format!("<= {most} {unit}"),
            is_met: value <= most,
        }
    }

    /// Puts a remark in the floor's place.
    pub(crate) fn beside(mut self, remark: String) -> Self {
        self.floor = remark;
        self
    }
}

/// Prints the rows as a table that reads well as text and as Markdown.
pub(crate) fn print(rows: &[Row]) {
    println!("| figure | value | floor or remark | ratio | target | |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for Row { figure, value, floor, ratio, target, is_met } in rows {
        let verdict = if *is_met { "ok" } else { "SHORT" };
        println!("| {figure} | {value} | {floor} | {ratio} | {target} | {verdict} |");
    }
}

/// Returns the value in the middle; zero if there is none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn medians(rounds: &[Round]) -> Medians {
    let over = |pick: fn(&Round) -> f64| median(rounds.iter().map(pick).collect());
    Medians {
        value: over(|round| round.value),
        floor: over(|round| round.floor),
        ratio: over(|round| round.value / round.floor),
    }
}

/// Returns microseconds.
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
