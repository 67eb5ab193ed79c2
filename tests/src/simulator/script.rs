//! What happens in a run: drawn from its seed at once, so that a script can be shortened.

/// One thing that happens. What it leaves open is drawn from its own seed.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What happens.
    pub kind: Kind,
    /// Draws the rest.
    pub seed: u64,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A client publishes one or several messages in one record.
    Publish,
    /// A client saves or deletes, with or without a condition.
    Save,
    /// State and messages in one record.
    Transact,
    /// Several clients are served by one sync.
    Batch,
    /// A consumer hands over what it may.
    Deliver,
    /// A far side answers.
    Land,
    /// Acknowledgements that nobody waits for are written.
    Settle,
    /// Time passes.
    Wait,
    /// The wall clock jumps.
    Jump,
    /// The store sweeps and checkpoints where that is due.
    Maintain,
    /// The store checkpoints.
    Checkpoint,
    /// A consumer comes or goes.
    Register,
    /// A client reads.
    Read,
    /// The power goes now.
    Cut,
    /// The power goes in the middle of what comes next.
    CutSoon,
    /// A write fails soon.
    FailWrite,
    /// A sync fails soon.
    FailSync,
    /// The process is killed, the machine stays up.
    Kill,
    /// The process ends and starts.
    Restart,
    /// Something else fills the disk, or leaves it.
    Fill,
}

const WEIGHTS: [(Kind, u32); 20] = [
    (Kind::Publish, 20),
    (Kind::Save, 10),
    (Kind::Transact, 8),
    (Kind::Batch, 10),
    (Kind::Deliver, 20),
    (Kind::Land, 20),
    (Kind::Settle, 8),
    (Kind::Wait, 8),
    (Kind::Jump, 2),
    (Kind::Maintain, 8),
    (Kind::Checkpoint, 2),
    (Kind::Register, 3),
    (Kind::Read, 4),
    (Kind::Cut, 5),
    (Kind::CutSoon, 14),
    (Kind::FailWrite, 1),
    (Kind::FailSync, 2),
    (Kind::Kill, 2),
    (Kind::Restart, 1),
    (Kind::Fill, 4),
];

/// The script of a seed.
#[must_use]
pub fn script(seed: u64) -> Vec<Step> {
    let mut random = fastrand::Rng::with_seed(seed);
    let total: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    let count = random.usize(40..160);
    (0..count)
        .map(|_| {
            let mut drawn = random.u32(0..total);
            let kind = WEIGHTS.iter().find(|(_, weight)| {
                let here = drawn < *weight;
                drawn = drawn.saturating_sub(*weight);
                here
            });
            Step { kind: kind.map_or(Kind::Wait, |(kind, _)| *kind), seed: random.u64(..) }
        })
        .collect()
}
