//! Runs the simulator: `simulate --seeds N [--from SEED] [--jobs N] [--failures N]`,
//! or `simulate --seed S` for the
//! trace of one.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tests::simulator;

const USAGE: &str =
    "usage: simulate --seeds N [--from SEED] [--jobs N] [--failures N] | --seed SEED";

struct Hunt {
    seeds: u64,
    from: u64,
    jobs: u64,
    /// How many seeds may fail before it ends.
    failures: usize,
}

fn main() -> ExitCode {
    let mut hunt = Hunt { seeds: 1000, from: 0, jobs: cores(), failures: 10 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let Some(number) = words.next().and_then(|number| number.parse().ok()) else {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        };
        match word.as_str() {
            "--seeds" => hunt.seeds = number,
            "--from" => hunt.from = number,
            "--jobs" => hunt.jobs = number,
            "--failures" => hunt.failures = usize::try_from(number).unwrap_or(usize::MAX),
            "--seed" => return one(number),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    run(&hunt)
}

fn one(seed: u64) -> ExitCode {
    simulator::trace(seed).iter().for_each(|line| println!("{line}"));
    if simulator::run(seed).is_ok() {
        return ExitCode::SUCCESS;
    }
    tell_shrunk(seed);
    ExitCode::FAILURE
}

fn tell_shrunk(seed: u64) {
    println!("seed {seed}, shrunk:");
    simulator::shrunk(seed).iter().for_each(|line| println!("  {line}"));
}

fn run(hunt: &Hunt) -> ExitCode {
    let started = Instant::now();
    let (next, crashes) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    let failures = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..hunt.jobs.max(1) {
            scope.spawn(|| {
                while failures().len() < hunt.failures.max(1) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= hunt.seeds {
                        return;
                    }
                    let seed = hunt.from.wrapping_add(number);
                    match simulator::run(seed) {
                        Ok(report) => drop(crashes.fetch_add(report.crashes, Ordering::Relaxed)),
                        Err(wrong) => {
                            println!("seed {seed} fails: {wrong}");
                            failures().push(seed);
                        }
                    }
                }
            });
        }
    });
    let (crashes, seconds) = (crashes.into_inner(), started.elapsed().as_secs_f64());
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(first) = failed.iter().min() {
        tell_shrunk(*first);
    }
    let (from, seeds) = (hunt.from, hunt.seeds.min(next.into_inner()));
    println!(
        "{seeds} seeds from {from}, {crashes} crashes in {seconds:.1} s, {} failed",
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}
