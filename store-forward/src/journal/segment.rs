//! One file of the journal: a header page, then frames.
//!
//! Little-endian, in a page of 4096 bytes whose rest is zeros:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `PANNJRNL` |
//! | 8 | 2 | format version; the fields of this table stay where they are in every version |
//! | 10 | 4 | generation |
//! | 14 | 8 | base: the lsn of the first frame |
//! | 22 | 8 | bytes of the segment, this page included |
//! | 30 | 4 | CRC32C of the 30 bytes before |
//!
//! Versions: 1, the first.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, is_full};
use crate::ids::Lsn;

use super::JournalError;
use super::error::{io as failed, is_out_of_files};
use super::frame::END;

/// Bytes of the page before the frames: the unit that a disk writes.
pub(super) const HEADER_BYTES: u64 = 4096;

/// The format that this version writes, and the only one that it reads.
pub(super) const VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"PANNJRNL";

/// The highest base, generation and slot that a segment may have, read or written: half of what
/// fits, so that counting on from there can't overflow. No journal of ours reaches them.
const BASE_MAX: u64 = u64::MAX / 2;
pub(super) const GENERATION_MAX: u32 = u32::MAX / 2;
const SLOT_MAX: u32 = u32::MAX / 2;

/// Bytes of the header that are not zeros.
pub(super) const FIELDS: usize = 34;

/// A segment is filled with zeros so many bytes ahead of its frames on its first pass, so that a
/// sync need not make the file system turn reserved blocks into written ones each time.
const FILL_BYTES: u64 = 256 << 10;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u16,
    pub(super) generation: u32,
    pub(super) base: Lsn,
    pub(super) bytes: u64,
}

impl Header {
    /// Reads a header; `None` when it is none, or damaged.
    pub(super) fn parse(bytes: &[u8; FIELDS]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (base, rest) = rest.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (crc, _) = rest.split_first_chunk()?;
        let sound = *magic == MAGIC && u32::from_le_bytes(*crc) == crc32c::crc32c(&bytes[..30]);
        let header = sound.then(|| Self {
            version: u16::from_le_bytes(*version),
            generation: u32::from_le_bytes(*generation),
            base: Lsn(u64::from_le_bytes(*base)),
            bytes: u64::from_le_bytes(*size),
        });
        header.filter(|header| header.version != VERSION || header.is_possible())
    }

    fn is_possible(&self) -> bool {
        (1..=BASE_MAX).contains(&self.base.0) && (1..=GENERATION_MAX).contains(&self.generation)
    }

    /// The fields as they are in the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIELDS);
        out.extend(MAGIC);
        out.extend(self.version.to_le_bytes());
        out.extend(self.generation.to_le_bytes());
        out.extend(self.base.0.to_le_bytes());
        out.extend(self.bytes.to_le_bytes());
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out
    }
}

/// A segment's file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) file: Arc<dyn DiskFile>,
    /// The file's length.
    pub(super) bytes: u64,
    /// Up to where every block is known to have been written once.
    pub(super) filled: u64,
    /// The highest number in it.
    pub(super) last: Lsn,
}

impl Segment {
    /// Reserves the whole file on disk, durably.
    pub(super) fn create(disk: &dyn Disk, slot: u32, bytes: u64) -> Result<Self, JournalError> {
        let name = format!("journal-{slot:08}.seg");
        if slot > SLOT_MAX {
            return Err(JournalError::Exhausted { file: name });
        }
        let reserve = || -> io::Result<Arc<dyn DiskFile>> {
            let file = disk.open(&name)?;
            file.allocate(0, bytes)?;
            file.sync()?;
            disk.sync_dir()?;
            Ok(file)
        };
        match reserve() {
            Ok(file) => Ok(Self { name, file, bytes, filled: 0, last: Lsn(0) }),
            Err(error) => {
                // Best effort: opening takes what is left of it for free space.
                let _ = disk.remove(&name);
                if is_full(&error) {
                    let free = disk.free_bytes().unwrap_or(0);
                    return Err(JournalError::DiskFull { file: name, needed: bytes, free });
                }
                if is_out_of_files(&error) {
                    return Err(JournalError::TooManyFiles { file: name });
                }
                Err(failed(&name, "reserve")(error))
            }
        }
    }

    /// Starts a life of this segment: frames from `base` on. What was in it becomes invalid.
    pub(super) fn begin(&mut self, generation: u32, base: Lsn) -> Result<(), JournalError> {
        let header = Header { version: VERSION, generation, base, bytes: self.bytes };
        if !header.is_possible() {
            return Err(JournalError::Exhausted { file: self.name.clone() });
        }
        let mut page = header.encode();
        page.extend(&ZEROS[FIELDS..4096]);
        self.file.write_at(0, &page).map_err(failed(&self.name, "write"))?;
        self.filled = self.filled.max(HEADER_BYTES);
        self.last = Lsn(base.0.saturating_sub(1));
        self.sync()
    }

    /// Writes whole frames, and the mark after them, in one go.
    pub(super) fn write(&mut self, at: u64, frames: &mut Vec<u8>) -> Result<(), JournalError> {
        let end = (at + frames.len() as u64 + END.len() as u64).min(self.bytes);
        frames.extend(END);
        let len = usize::try_from(end - at).map_or(frames.len(), |len| len.min(frames.len()));
        self.fill(end)
            .and_then(|()| self.file.write_at(at, &frames[..len]))
            .map_err(failed(&self.name, "write"))
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        self.file.sync().map_err(failed(&self.name, "sync"))
    }

    /// Gives its space back.
    pub(super) fn remove(self, disk: &dyn Disk) -> Result<(), JournalError> {
        disk.remove(&self.name).map_err(failed(&self.name, "remove"))
    }

    /// Writes zeros ahead until `end` lies in blocks that were written before.
    fn fill(&mut self, end: u64) -> io::Result<()> {
        if self.filled < end {
            let until = end.next_multiple_of(FILL_BYTES).min(self.bytes);
            while self.filled < until {
                let piece = (until - self.filled).min(ZEROS.len() as u64);
                self.file.write_at(self.filled, &ZEROS[..usize::try_from(piece).unwrap_or(0)])?;
                self.filled += piece;
            }
        }
        Ok(())
    }
}

/// The slot in a segment's name, if it is one.
pub(super) fn slot(name: &str) -> Option<u32> {
    let slot = name.strip_prefix("journal-")?.strip_suffix(".seg")?.parse().ok()?;
    (slot <= SLOT_MAX).then_some(slot)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HEADER: Header =
        Header { version: 1, generation: 7, base: Lsn(0x0102_0304), bytes: 8 << 20 };

    #[test]
    fn a_header_has_these_bytes() {
        let golden = [
            b'P', b'A', b'N', b'N', b'J', b'R', b'N', b'L', // magic
            1, 0, // version
            7, 0, 0, 0, // generation
            4, 3, 2, 1, 0, 0, 0, 0, // base
            0, 0, 0x80, 0, 0, 0, 0, 0, // bytes
            0xdf, 0xd2, 0xe9, 0x49, // crc
        ];
        let bytes = HEADER.encode();
        assert_eq!(bytes, golden);
        assert_eq!(Header::parse(&golden), Some(HEADER));
    }

    #[test]
    fn a_header_with_any_bit_flipped_is_none() {
        let bytes: [u8; FIELDS] = HEADER.encode().try_into().unwrap();
        for bit in 0..FIELDS * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&bytes), None);
        }
    }

    #[test]
    fn a_header_with_numbers_that_no_journal_reaches_is_none() {
        for (base, generation) in [(0, 1), (u64::MAX, 1), (1, 0), (1, u32::MAX)] {
            let header = Header { base: Lsn(base), generation, ..HEADER };
            let bytes: [u8; FIELDS] = header.encode().try_into().unwrap();
            assert_eq!(Header::parse(&bytes), None, "{header:?}");
        }
    }

    #[test]
    fn only_segments_have_a_slot() {
        assert_eq!(slot("journal-00000012.seg"), Some(12));
        assert_eq!(slot("journal-123456789.seg"), Some(123_456_789));
        assert_eq!(slot("damaged-5-journal-00000012.seg"), None);
        assert_eq!(slot("tables.redb"), None);
        assert_eq!(slot("journal-4294967295.seg"), None);
    }
}
