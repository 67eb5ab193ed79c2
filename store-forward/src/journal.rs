//! The write-ahead journal: what it has synced survives a power cut, in order and whole.
//!
//! Frames (`frame`) are packed into segments (`segment`): files of a fixed size, reserved on
//! disk before they are needed and recycled once the tables hold what is in them. Opening reads
//! them back (`recovery`). What a frame carries is opaque here.
//!
//! Invariants:
//! - A segment belongs to one opening: each opening starts in another one, under a higher
//!   generation, so bytes of an older life can't pass for new ones.
//! - A segment's header is written only once everything before its base is durable. Whatever is
//!   missing below a later segment's base was therefore lost by the disk, not by a power cut.
//! - Only the last segment can end in a torn batch.
//! - Nothing is overwritten before [`Journal::checkpointed`] covers it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::disk::Disk;
use crate::ids::Lsn;

mod error;
mod frame;
mod growth;
mod recovery;
mod scan;
mod segment;
mod set_aside;
#[cfg(test)]
mod tests;

pub use error::{JournalError, ReplayError};
pub use recovery::{Damage, Recovery, Replay, TornTail};

use growth::Growth;
use segment::Segment;

/// The smallest and the largest size of a segment in bytes: a header with some frames; what a
/// 32-bit machine can still address with ease.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 8 << 10..=1 << 30;

/// Segments that are kept for reuse in any case: one to go on in, and one in reserve.
const SPARE: usize = 2;

/// Bytes of write buffer that are kept between batches.
const BUFFER_BYTES: usize = 256 << 10;

/// How a journal is laid out.
#[derive(Clone, Copy, Debug)]
pub struct JournalOptions {
    /// Bytes of a segment, 8 KiB to 1 GiB. Segments of another size are read, but not reused.
    pub segment_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { segment_bytes: 8 << 20 }
    }
}

/// The journal. It writes only when it is told to, on the thread that tells it.
pub struct Journal {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    generation: u32,
    next_slot: u32,
    /// Where frames go; none before the first one, so that opening alone takes no space.
    current: Option<Active>,
    /// Segments that hold frames which the tables may lack, oldest first.
    sealed: VecDeque<Segment>,
    /// Segments that can be overwritten, oldest first.
    free: VecDeque<Segment>,
    /// Encoded frames that are not written yet.
    buffer: Vec<u8>,
    next: Lsn,
    written: Lsn,
    durable: Lsn,
    growth: Growth,
    /// Segments begun since the last checkpoint: as many are worth keeping for the next one.
    begun: usize,
    poisoned: Option<String>,
}

#[derive(Debug)]
struct Active {
    segment: Segment,
    at: u64,
}

/// Bytes of a payload at most, for segments of that many bytes.
pub(crate) fn max_payload(segment_bytes: u64) -> u64 {
    segment_bytes.saturating_sub(segment::HEADER_BYTES + frame::HEADER_BYTES as u64)
}

impl Journal {
    /// Opens the journal and hands every frame after `applied` to `replay`, in order. What was
    /// replayed is durable when this returns.
    ///
    /// # Errors
    /// When the disk or `replay` fails, or a segment was written by a version that this one
    /// doesn't know. Nothing is lost by opening again.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        applied: Lsn,
        replay: Replay<'_>,
    ) -> Result<(Self, Recovery), JournalError> {
        let JournalOptions { segment_bytes } = options;
        if !SEGMENT_BYTES.contains(&segment_bytes) {
            let (least, most) = SEGMENT_BYTES.into_inner();
            return Err(JournalError::SegmentSize { bytes: segment_bytes, least, most });
        }
        let recovered = recovery::recover(disk.as_ref(), applied, replay)?;
        let last = recovered.report.last;
        let mut growth = Growth::default();
        growth.add(last, recovered.bytes);
        // Those of another size go with the next checkpoint: until then nothing is removed that
        // the next opening would judge by.
        let (free, strange): (VecDeque<_>, VecDeque<_>) =
            recovered.free.into_iter().partition(|segment| segment.bytes == segment_bytes);
        let journal = Self {
            disk,
            segment_bytes,
            generation: recovered.generation.saturating_add(1),
            next_slot: recovered.next_slot,
            current: None,
            sealed: recovered.kept.into_iter().chain(strange).collect(),
            free,
            buffer: Vec::new(),
            next: last.next(),
            written: last,
            durable: last,
            growth,
            begun: 0,
            poisoned: None,
        };
        Ok((journal, recovered.report))
    }

    /// The number that the next frame gets.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// Buffers a frame and returns its number. It is neither written nor durable yet.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`] when it doesn't fit in a segment, [`JournalError::DiskFull`] when
    /// it needs one that can't be had: it is not buffered then, and the journal stays usable.
    pub fn append(&mut self, payload: &[u8]) -> Result<Lsn, JournalError> {
        self.usable()?;
        let limit = max_payload(self.segment_bytes);
        let Some(len) = u32::try_from(payload.len()).ok().filter(|len| u64::from(*len) <= limit)
        else {
            return Err(JournalError::TooLarge { bytes: payload.len(), limit });
        };
        let (lsn, before) = (self.next, self.buffer.len());
        let behind = u32::try_from(lsn.0 - self.durable.0).unwrap_or(u32::MAX);
        frame::encode(&mut self.buffer, len, lsn, self.generation, behind, payload);
        if let Err(error) = self.prepare() {
            self.buffer.truncate(before);
            return Err(error);
        }
        self.next = lsn.next();
        Ok(lsn)
    }

    /// Writes what is buffered without syncing it.
    ///
    /// # Errors
    /// When the disk fails: it is unknown what it holds, and the journal refuses everything from
    /// then on. It can't be full, as the segments stand ready.
    pub fn flush(&mut self) -> Result<(), JournalError> {
        self.usable()?;
        let written = self.write_buffer();
        self.judge(written)
    }

    /// Writes what is buffered and syncs: everything appended so far is durable. A sync that
    /// failed is never tried again.
    ///
    /// # Errors
    /// As [`Journal::flush`].
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.flush()?;
        let synced = self.sync_current();
        self.judge(synced)
    }

    /// Whether anything was appended that is not durable yet.
    #[must_use]
    pub fn unsynced(&self) -> bool {
        self.durable.next() < self.next
    }

    /// Bytes of frames that no checkpoint covers, replayed ones included. Exact after a checkpoint
    /// of all that was appended, otherwise up to 64 KiB too many.
    #[must_use]
    pub fn bytes_since_checkpoint(&self) -> u64 {
        self.growth.bytes()
    }

    /// Tells that the tables hold everything up to `lsn` durably: segments wholly at or below it
    /// can be overwritten.
    ///
    /// # Errors
    /// When a segment that is not needed any more can't be removed.
    pub fn checkpointed(&mut self, lsn: Lsn) -> Result<(), JournalError> {
        self.growth.forget(lsn);
        let (covered, sealed): (VecDeque<_>, _) =
            self.sealed.drain(..).partition(|segment| segment.last <= lsn);
        self.sealed = sealed;
        self.release(covered)?;
        let keep = SPARE.max(self.begun + 1);
        self.begun = 0;
        while self.free.len() > keep {
            // The oldest first: what is left then never looks newer than what was removed.
            if let Some(segment) = self.free.pop_front() {
                segment.remove(self.disk.as_ref())?;
            }
        }
        Ok(())
    }

    /// Bytes on disk, segments in reserve included.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let current = self.current.iter().map(|active| &active.segment);
        current.chain(&self.sealed).chain(&self.free).map(|segment| segment.bytes).sum()
    }

    /// Makes sure that another segment stands ready after the current one, so that
    /// acknowledgements and deletions can be written on a full disk: a checkpoint then frees one of
    /// the two for the other.
    ///
    /// # Errors
    /// [`JournalError::DiskFull`] when there is no room for it; the journal stays usable.
    pub fn reserve(&mut self) -> Result<(), JournalError> {
        self.usable()?;
        let has_one = self.current.is_some() || !self.sealed.is_empty();
        self.stand_ready(if has_one { 1 } else { 2 })
    }

    fn usable(&self) -> Result<(), JournalError> {
        match &self.poisoned {
            Some(cause) => Err(JournalError::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    /// Remembers an error after which it is unknown what the disk holds.
    fn judge<T>(&mut self, result: Result<T, JournalError>) -> Result<T, JournalError> {
        if let Err(error) = &result
            && !error.is_temporary()
        {
            self.poisoned = Some(error.to_string());
        }
        result
    }

    /// Bytes of frames that a segment takes.
    fn capacity(&self) -> u64 {
        self.segment_bytes - segment::HEADER_BYTES
    }

    /// Bytes of frames that the current segment still takes.
    fn room(&self) -> u64 {
        self.current.as_ref().map_or(0, |active| active.segment.bytes - active.at)
    }

    /// Sees to it that what is buffered can be written without needing space.
    fn prepare(&mut self) -> Result<(), JournalError> {
        if self.buffer.len() as u64 <= self.room() {
            return Ok(());
        }
        self.stand_ready(frame::segments_needed(&self.buffer, self.room(), self.capacity()))
    }

    /// Sees to it that so many segments can be begun without needing space.
    fn stand_ready(&mut self, count: usize) -> Result<(), JournalError> {
        while self.free.len() < count {
            let created = Segment::create(self.disk.as_ref(), self.next_slot, self.segment_bytes);
            let segment = self.judge(created)?;
            self.next_slot += 1;
            self.free.push_back(segment);
        }
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<(), JournalError> {
        while let Some(first) = frame::first_lsn(&self.buffer) {
            let fitting = frame::prefix(&self.buffer, self.room());
            match (&mut self.current, fitting) {
                (Some(active), Some((len, last))) => {
                    let rest = self.buffer.split_off(len);
                    active.segment.write(active.at, &mut self.buffer)?;
                    active.segment.last = last;
                    active.at += len as u64;
                    self.growth.add(last, len as u64);
                    self.written = last;
                    if rest.is_empty() {
                        self.buffer.clear();
                        self.buffer.shrink_to(BUFFER_BYTES);
                    } else {
                        self.buffer = rest;
                    }
                }
                _ => self.begin_segment(first)?,
            }
        }
        Ok(())
    }

    /// Goes on in another segment, after everything before it is durable.
    fn begin_segment(&mut self, base: Lsn) -> Result<(), JournalError> {
        self.sync_current()?;
        self.stand_ready(1)?;
        if self.current.is_none() {
            // The last life may have removed the segment with the highest generation, which this
            // life then has again: were that removal undone, the old one would void the new.
            self.disk.sync_dir().map_err(error::io("the journal", "sync"))?;
        }
        self.sealed.extend(self.current.take().map(|active| active.segment));
        if let Some(mut segment) = self.free.pop_front() {
            segment.begin(self.generation, base)?;
            self.current = Some(Active { segment, at: segment::HEADER_BYTES });
            self.begun += 1;
        }
        Ok(())
    }

    fn sync_current(&mut self) -> Result<(), JournalError> {
        if self.durable < self.written {
            if let Some(active) = &self.current {
                active.segment.sync()?;
            }
            self.durable = self.written;
        }
        Ok(())
    }

    /// Takes segments back that hold nothing of use any more.
    fn release(&mut self, segments: impl IntoIterator<Item = Segment>) -> Result<(), JournalError> {
        for segment in segments {
            if segment.bytes == self.segment_bytes {
                self.free.push_back(segment);
            } else {
                segment.remove(self.disk.as_ref())?;
            }
        }
        Ok(())
    }
}
