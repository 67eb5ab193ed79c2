//! Reads a segment frame by frame, and finds the next frame after bytes that are none.

use std::sync::Arc;

use crate::disk::DiskFile;

use super::JournalError;
use super::error::io as failed;
use super::frame::{Frame, HEADER_BYTES};

/// Bytes read at once: with the largest frame, all the memory that reading takes.
const WINDOW_BYTES: usize = 256 << 10;

/// A window over a segment's file.
#[derive(Debug)]
pub(super) struct Scanner {
    name: String,
    file: Arc<dyn DiskFile>,
    end: u64,
    start: u64,
    window: Vec<u8>,
}

/// A frame and where it is.
pub(super) type Placed = (u64, Frame);

impl Scanner {
    /// Reads `file` up to `end`.
    pub(super) fn new(name: &str, file: &Arc<dyn DiskFile>, end: u64) -> Self {
        let (name, file) = (name.to_owned(), Arc::clone(file));
        Self { name, file, end, start: 0, window: Vec::new() }
    }

    /// The segment's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `len` bytes at `at`, which must lie before the end.
    pub(super) fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], JournalError> {
        let held = at >= self.start
            && at + len as u64 <= self.start + self.window.len() as u64
            && !self.window.is_empty();
        if !held {
            self.window.resize(len.max(WINDOW_BYTES.min(self.left(at))), 0);
            self.start = at;
            if let Err(error) = self.file.read_at(at, &mut self.window) {
                self.window.clear();
                return Err(failed(&self.name, "read")(error));
            }
        }
        let from = index(at - self.start);
        Ok(&self.window[from..from + len])
    }

    /// The frame at `at`, if one is there whole.
    pub(super) fn frame_at(&mut self, at: u64) -> Result<Option<Frame>, JournalError> {
        if self.left(at) < HEADER_BYTES {
            return Ok(None);
        }
        let Some(header) = self.bytes(at, HEADER_BYTES)?.first_chunk() else { return Ok(None) };
        let frame = Frame::parse(header);
        if frame.bytes() > self.end - at {
            return Ok(None);
        }
        let whole = self.bytes(at, index(frame.bytes()))?;
        Ok(frame.checks(whole).then_some(frame))
    }

    /// What the frame at `at` carries.
    pub(super) fn payload(&mut self, (at, frame): Placed) -> Result<&[u8], JournalError> {
        self.bytes(at + HEADER_BYTES as u64, frame.len as usize)
    }

    /// The first frame from `from` on whose place and header are `plausible`: only of those the
    /// checksum is computed.
    pub(super) fn find(
        &mut self,
        from: u64,
        plausible: impl Fn(u64, &Frame) -> bool,
    ) -> Result<Option<Placed>, JournalError> {
        let (mut at, end) = (from, self.end);
        while self.left(at) >= HEADER_BYTES {
            let len = WINDOW_BYTES.min(self.left(at));
            let candidate = self.bytes(at, len)?.windows(HEADER_BYTES).zip(at..).find(|it| {
                let (bytes, at) = *it;
                bytes
                    .first_chunk()
                    .map(Frame::parse)
                    .is_some_and(|frame| plausible(at, &frame) && frame.bytes() <= end - at)
            });
            let candidate = candidate.map(|(_, at)| at);
            match candidate {
                Some(place) => {
                    if let Some(frame) = self.frame_at(place)? {
                        return Ok(Some((place, frame)));
                    }
                    at = place + 1;
                }
                None => at += (len - HEADER_BYTES + 1) as u64,
            }
        }
        Ok(None)
    }

    /// Whether there is nothing but zeros where the next header would be.
    pub(super) fn is_blank(&mut self, at: u64) -> Result<bool, JournalError> {
        let len = HEADER_BYTES.min(self.left(at));
        Ok(len == 0 || self.bytes(at, len)?.iter().all(|byte| *byte == 0))
    }

    /// Where the zeros begin that reach up to the end; `from` when there are only zeros.
    pub(super) fn zeros_from(&mut self, from: u64) -> Result<u64, JournalError> {
        let (mut at, mut zeros) = (from, from);
        while at < self.end {
            let len = WINDOW_BYTES.min(self.left(at));
            let bytes = self.bytes(at, len)?;
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                zeros = at + last as u64 + 1;
            }
            at += len as u64;
        }
        Ok(zeros)
    }

    fn left(&self, at: u64) -> usize {
        index(self.end.saturating_sub(at))
    }
}

/// A distance within a segment, which is never larger than memory can be.
fn index(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}
