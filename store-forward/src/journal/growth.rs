//! How much the journal has grown since a checkpoint, in bounded memory.

use std::collections::VecDeque;

use crate::ids::Lsn;

/// Bytes that one step covers at least: what an answer may be too high by.
const STEP_BYTES: u64 = 64 << 10;

/// Bytes by the number that they reach up to, in steps, oldest first.
#[derive(Debug, Default)]
pub(super) struct Growth(VecDeque<(Lsn, u64)>);

impl Growth {
    /// Counts `bytes` that reach up to `last`.
    pub(super) fn add(&mut self, last: Lsn, bytes: u64) {
        match self.0.back_mut() {
            Some((reached, step)) if *step < STEP_BYTES => {
                *reached = last;
                *step += bytes;
            }
            _ => self.0.push_back((last, bytes)),
        }
    }

    /// Takes off what reaches up to `lsn`.
    pub(super) fn forget(&mut self, lsn: Lsn) {
        while self.0.front().is_some_and(|(reached, _)| *reached <= lsn) {
            self.0.pop_front();
        }
    }

    /// Bytes that are left.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }
}
