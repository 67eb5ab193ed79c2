//! Which records the store must hold, and which it may hold after a crash.

use store_forward::record::Record;

use super::model::{Effect, Model};

/// The records so far: those that must outlive a crash, and those that may.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// What is durable for sure.
    sure: Model,
    /// Written since then: a crash keeps the first so many of them.
    tail: Vec<Record>,
    /// Both together: what the store shows now.
    pub(crate) now: Model,
    /// What was under way when the store failed: one of these, or the first so many of one.
    open: Vec<Vec<Record>>,
}

impl Ledger {
    /// A record took effect.
    pub(crate) fn push(&mut self, record: Record) -> Effect {
        let effect = self.now.apply(&record);
        self.tail.push(record);
        effect
    }

    /// Everything so far is durable.
    pub(crate) fn is_durable(&mut self) {
        self.sure = self.now.clone();
        self.tail.clear();
    }

    /// These records were under way when the store failed, or those.
    pub(crate) fn interrupted(&mut self, open: Vec<Vec<Record>>) {
        self.open = open;
    }

    /// The states that a store may be in whose last record is `last`.
    pub(crate) fn candidates(&self, last: u64) -> Result<Vec<Candidate>, String> {
        if last < self.sure.lsn {
            let sure = self.sure.lsn;
            return Err(format!("records up to {sure} were durable, {last} is the last one there"));
        }
        let count = usize::try_from(last - self.sure.lsn).expect("a log is short");
        let mut candidates: Vec<Candidate> = Vec::new();
        let none = Vec::new();
        for open in self.open.iter().chain(self.open.is_empty().then_some(&none)) {
            let records: Vec<&Record> = self.tail.iter().chain(open).take(count).collect();
            if records.len() < count
                || candidates.iter().any(|c| c.tail.iter().eq(records.iter().copied()))
            {
                continue;
            }
            let mut model = self.sure.clone();
            records.iter().for_each(|record| drop(model.apply(record)));
            candidates.push(Candidate { model, tail: records.into_iter().cloned().collect() });
        }
        if candidates.is_empty() {
            return Err(format!("record {last} is there and was never written"));
        }
        Ok(candidates)
    }

    /// The store turned out to be in this state; it may still lose what is in its tail.
    pub(crate) fn settle(&mut self, found: Candidate) {
        self.now = found.model;
        self.tail = found.tail;
        self.open.clear();
    }
}

/// A state that the store may be in after a crash.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) model: Model,
    tail: Vec<Record>,
}
