//! What was acknowledged outlives any power cut: at every point of short workloads, and at chance
//! in long ones.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tests::simulator;

/// Fixed seeds of each run, and others that are new each time.
const SEEDS: u64 = 600;
const FRESH: u64 = 150;

/// Runs so many seeds on two threads; says how often the power was cut.
fn hunt(from: u64, count: u64) -> u64 {
    let (next, crashes) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let seed = from.wrapping_add(number);
                    let report = simulator::run(seed).unwrap_or_else(|wrong| {
                        let trace = simulator::shrunk(seed).join("\n  ");
                        panic!("seed {seed} fails: {wrong}\nshrunk:\n  {trace}")
                    });
                    crashes.fetch_add(report.crashes, Ordering::Relaxed);
                }
            });
        }
    });
    crashes.into_inner()
}

fn every_point(workload: &str) {
    let cuts = simulator::every_point(workload).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{workload}: {cuts} crashes");
    assert!(cuts > 100, "{cuts}");
}

#[test]
fn a_store_is_created_whole_or_not_at_all() {
    every_point("first creation");
}

#[test]
fn a_power_cut_at_any_point_of_publishing_and_of_recovery_loses_nothing() {
    every_point("publish");
}

#[test]
fn a_power_cut_at_any_point_of_saving_and_of_recovery_loses_nothing() {
    every_point("save and transact");
}

#[test]
fn a_power_cut_at_any_point_of_a_checkpoint_and_of_recovery_loses_nothing() {
    every_point("checkpoint");
}

#[test]
fn a_power_cut_at_any_point_of_recycling_segments_and_of_recovery_loses_nothing() {
    every_point("segment recycle");
}

#[test]
fn a_power_cut_at_any_point_of_overflow_and_of_recovery_loses_nothing() {
    every_point("overflow");
}

#[test]
fn a_power_cut_at_any_point_of_expiry_and_of_recovery_loses_nothing() {
    every_point("expiry");
}

#[test]
fn a_power_cut_at_any_point_of_setting_damage_aside_loses_nothing_else() {
    every_point("damage set aside");
}

#[test]
fn lives_with_crashes_full_disks_and_jumping_clocks_match_the_model() {
    let crashes = hunt(0, SEEDS);
    println!("{SEEDS} seeds from 0: {crashes} crashes");
    assert!(crashes > 10 * SEEDS, "{crashes}");
}

#[test]
fn lives_that_were_never_tried_match_the_model_too() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let from = now.as_secs() << 20;
    println!("{FRESH} seeds from {from}");
    let crashes = hunt(from, FRESH);
    println!("{FRESH} seeds from {from}: {crashes} crashes");
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    for seed in 0..5 {
        assert_eq!(simulator::trace(seed), simulator::trace(seed));
    }
}
