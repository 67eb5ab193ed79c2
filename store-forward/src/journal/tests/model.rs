//! Random lives of a journal against a plain vector, with power cuts and failing writes.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Flush,
    Sync,
    Reserve,
    /// Checkpoints so many hundredths of what is synced and not yet checkpointed.
    Checkpoint(usize),
    Reopen,
    /// The power goes; each sector survives by a coin that starts from this seed.
    Crash(u64),
    /// The disk fails after so many more changes.
    Fail(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..1500_usize).prop_map(Step::Append),
        2 => Just(Step::Append(4072)),
        4 => Just(Step::Flush),
        5 => Just(Step::Sync),
        1 => Just(Step::Reserve),
        2 => (0..=100_usize).prop_map(Step::Checkpoint),
        1 => Just(Step::Reopen),
        2 => any::<u64>().prop_map(Step::Crash),
        1 => (0..12_u64).prop_map(Step::Fail),
    ]
}

/// What must be true: everything synced is there, nothing that was never appended is.
struct Model {
    disk: Arc<SimulatedDisk>,
    journal: Option<Journal>,
    records: Vec<Vec<u8>>,
    written: usize,
    synced: usize,
    applied: usize,
    drawn: u64,
}

impl Model {
    fn new() -> Self {
        let disk = Arc::new(SimulatedDisk::new(0));
        let journal = Some(open(&disk, 0).0);
        Self { disk, journal, records: vec![], written: 0, synced: 0, applied: 0, drawn: 0 }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Crash(seed) => self.crash(*seed),
            Step::Reopen => {
                self.journal = None;
                if self.reopen(self.written).is_err() {
                    self.crash(0);
                }
            }
            Step::Fail(after) => self.disk.fail_after(*after),
            _ => {
                if self.write(step).is_err() {
                    self.crash(self.drawn);
                }
            }
        }
    }

    fn write(&mut self, step: &Step) -> Result<(), JournalError> {
        let journal = self.journal.as_mut().unwrap();
        match step {
            Step::Append(len) => {
                self.drawn += 1;
                let mut payload = self.drawn.to_le_bytes().to_vec();
                payload.resize(*len, 0x5a);
                self.records.push(payload.clone());
                assert_eq!(journal.append(&payload)?, Lsn(self.records.len() as u64));
            }
            Step::Flush => {
                journal.flush()?;
                self.written = self.records.len();
            }
            Step::Sync => {
                journal.sync()?;
                self.written = self.records.len();
                self.synced = self.written;
                assert!(!journal.unsynced());
            }
            Step::Reserve => journal.reserve()?,
            Step::Checkpoint(percent) => {
                self.applied += (self.synced - self.applied) * percent / 100;
                journal.checkpointed(Lsn(self.applied as u64))?;
            }
            Step::Reopen | Step::Crash(_) | Step::Fail(_) => {}
        }
        Ok(())
    }

    fn crash(&mut self, seed: u64) {
        self.journal = None;
        self.disk.mend();
        let mut coin = fastrand::Rng::with_seed(seed);
        self.disk.cut_where(|| coin.bool());
        self.reopen(self.synced).unwrap();
    }

    fn reopen(&mut self, at_least: usize) -> Result<(), JournalError> {
        let (journal, recovery, replayed) = try_open(&self.disk, self.applied as u64)?;
        assert_eq!(recovery.damage, []);
        let count = self.applied + replayed.len();
        assert!((at_least..=self.records.len()).contains(&count), "{count} {at_least}");
        for (index, (lsn, payload)) in (self.applied..).zip(&replayed) {
            assert_eq!(*lsn, index as u64 + 1);
            assert_eq!(payload, &self.records[index]);
        }
        assert_eq!(journal.next_lsn(), Lsn(count as u64 + 1));
        self.records.truncate(count);
        (self.written, self.synced) = (count, count);
        self.journal = Some(journal);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn any_life_keeps_what_was_synced_and_invents_nothing(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.run(step);
        }
        model.crash(1);
    }
}

#[test]
fn a_removal_that_is_undone_voids_nothing_that_was_written_since() {
    use Step::{Append, Checkpoint, Fail, Flush, Reopen, Sync};
    let three_segments = [Append(0), Flush, Fail(6), Append(4072), Append(0), Append(0), Flush];
    let one_removed = [Append(0), Fail(1), Flush, Checkpoint(0)];
    let mut model = Model::new();
    for step in three_segments.iter().chain(&one_removed).chain(&[Reopen, Append(0), Sync]) {
        model.run(step);
    }
    model.crash(1);
}
