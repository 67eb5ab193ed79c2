//! A device and its world, simulated: what was acknowledged is there after any crash.
//!
//! A run is a function of its seed: one thread, no clock, no sleep. It drives the store's engine
//! and the consumers' dispatchers over a disk that tears, reorders and forgets what was not synced,
//! and holds everything against a naive model.

mod check;
mod clients;
mod courier;
mod device;
mod ledger;
mod model;
mod points;
mod script;
mod shrink;
mod world;

pub use points::{every_point, workloads};
pub use script::{Kind, Step, script};

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Power cuts that the store was opened after.
    pub crashes: u64,
}

/// Runs one seed.
///
/// # Errors
/// What is wrong with the store.
pub fn run(seed: u64) -> Result<Report, String> {
    let (world, result) = play(seed, &script(seed), false);
    result.map(|()| Report { crashes: world.device.cuts })
}

/// The shortest script found of a seed that fails, as it goes: its last line says what is wrong.
#[must_use]
pub fn shrunk(seed: u64) -> Vec<String> {
    let short = shrink::shrink(script(seed), |steps| play(seed, steps, false).1.is_err());
    told(play(seed, &short, true))
}

/// Runs one seed and says what happened.
#[must_use]
pub fn trace(seed: u64) -> Vec<String> {
    told(play(seed, &script(seed), true))
}

fn told((world, result): (World, Result<(), String>)) -> Vec<String> {
    let mut trace = world.trace;
    trace.push(result.err().unwrap_or_else(|| "all is well".to_owned()));
    trace
}

fn play(seed: u64, steps: &[Step], traced: bool) -> (World, Result<(), String>) {
    let mut world = World::new(seed);
    world.traced = traced;
    let live = AssertUnwindSafe(|| {
        steps.iter().try_for_each(|step| world.run(*step))?;
        world.finish()
    });
    let result = catch_unwind(live).unwrap_or_else(|_| Err("it panics".to_owned()));
    (world, result)
}
