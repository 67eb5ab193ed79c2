//! Reads the journal back: what is whole, what a power cut tore, what the disk damaged.
//!
//! Segments are read in the order of their bases. Where the next frame should be and is not:
//!
//! | what else is there | so it is |
//! | --- | --- |
//! | a later segment: its header was written after all before it was durable | damage |
//! | a later frame that knew the missing one to be durable | damage |
//! | a checkpoint that covers the missing one, and a later frame | damage |
//! | later frames without such knowledge, or bytes that are no frame | a torn tail, never acknowledged |
//! | zeros | the end |
//!
//! Damaged bytes are copied to a file and reading goes on at the next frame; a torn tail is
//! dropped, and the next opening's first segment starts at its number. Opening changes nothing
//! else, so a crash meanwhile is harmless. What is read is durable: the last life may have died
//! before it synced, or because a sync failed, so each file is synced and read from the disk itself.

use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::ids::Lsn;

use super::error::io as failed;
use super::frame::Frame;
use super::scan::{Placed, Scanner};
use super::segment::{self, Header, Segment};
use super::set_aside::set_aside;
use super::{JournalError, ReplayError};

/// How far past the checkpoint a frame's number may be where no header says what to expect:
/// more records than any journal holds, and few enough that random bytes don't pass.
const NUMBERS_AHEAD: u64 = 1 << 32;

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The checkpoint that it began from.
    pub applied: Lsn,
    /// How many frames were replayed.
    pub replayed: u64,
    /// The highest number that is taken, by a frame or by the checkpoint.
    pub last: Lsn,
    /// What a power cut left of a batch that was never acknowledged.
    pub torn_tail: Option<TornTail>,
    /// What the disk lost or garbled.
    pub damage: Vec<Damage>,
}

impl Recovery {
    /// Whether acknowledged records are gone that no checkpoint covers, or may be.
    #[must_use]
    pub fn is_lossy(&self) -> bool {
        self.damage.iter().any(|damage| damage.to_lsn.is_none_or(|to| to > self.applied))
    }
}

/// The rest of a batch that was never acknowledged, dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// Bytes from there on that are not zero; in a segment used before, old ones are among them.
    pub bytes: u64,
}

/// Acknowledged records that can't be read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment; where a whole segment is missing, the one after it.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How many bytes; zero when the records are gone without a trace.
    pub bytes: u64,
    /// The first record concerned. Those up to the checkpoint are in the tables all the same.
    pub from_lsn: Lsn,
    /// The last record lost; `None` when that can't be told, or none was (a segment's header).
    pub to_lsn: Option<Lsn>,
    /// The file that holds the bytes now; `None` when there are none.
    pub set_aside: Option<String>,
}

/// Takes the frames that opening reads back, in order.
pub type Replay<'a> = &'a mut dyn FnMut(Lsn, &[u8]) -> Result<(), ReplayError>;

/// What is left to work with.
pub(super) struct Recovered {
    pub(super) report: Recovery,
    /// The highest generation seen.
    pub(super) generation: u32,
    pub(super) next_slot: u32,
    /// Segments with frames after the checkpoint.
    pub(super) kept: Vec<Segment>,
    pub(super) free: Vec<Segment>,
    /// Bytes of the frames replayed.
    pub(super) bytes: u64,
}

/// Reads all segments and replays what is after `applied`.
pub(super) fn recover(
    disk: &dyn Disk,
    applied: Lsn,
    replay: Replay<'_>,
) -> Result<Recovered, JournalError> {
    let report = Recovery { applied, ..Recovery::default() };
    let mut pass = Pass { disk, applied, next: applied.next(), report, bytes: 0, replay };
    let files = list(disk)?;
    let next_slot = files.iter().map(|file| file.slot + 1).max().unwrap_or(1);
    let (sources, blank) = pass.identify(files)?;
    let generation = sources.iter().map(|source| source.generation).max().unwrap_or(0);
    let (mut kept, mut free) = (Vec::new(), Vec::new());
    let mut sources = in_order(sources, &mut free).into_iter().peekable();
    while let Some(source) = sources.next() {
        let limit = sources.peek().map(|later| later.base);
        let segment = pass.read(source, limit)?;
        if segment.last > applied { kept.push(segment) } else { free.push(segment) }
    }
    free.extend(blank);
    pass.report.last = Lsn(pass.next.0 - 1);
    Ok(Recovered { report: pass.report, generation, next_slot, kept, free, bytes: pass.bytes })
}

/// A segment's file before it was looked at.
struct Found {
    slot: u32,
    name: String,
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

impl Found {
    fn header(&self) -> Result<Option<Header>, JournalError> {
        let mut fields = [0; segment::FIELDS];
        if self.bytes < segment::HEADER_BYTES {
            return Ok(None);
        }
        self.file.read_at(0, &mut fields).map_err(failed(&self.name, "read"))?;
        match Header::parse(&fields) {
            Some(header) if header.version != segment::VERSION => Err(JournalError::Format {
                file: self.name.clone(),
                found: header.version,
                known: segment::VERSION,
            }),
            header => Ok(header),
        }
    }

    fn into_segment(self, filled: u64, last: Lsn) -> Segment {
        Segment { name: self.name, file: self.file, bytes: self.bytes, filled, last }
    }
}

/// A segment that holds frames.
struct Source {
    found: Found,
    generation: u32,
    base: Lsn,
    /// Where the first frame is: past the header page, unless that page had to be guessed.
    start: u64,
    end: u64,
    guessed: bool,
}

fn list(disk: &dyn Disk) -> Result<Vec<Found>, JournalError> {
    let mut files = Vec::new();
    for name in disk.list().map_err(failed("the journal", "list"))? {
        if let Some(slot) = segment::slot(&name) {
            let file = disk.open(&name).map_err(failed(&name, "open"))?;
            file.reload().map_err(failed(&name, "sync"))?;
            let bytes = file.len().map_err(failed(&name, "read"))?;
            files.push(Found { slot, name, file, bytes });
        }
    }
    files.sort_by_key(|file| file.slot);
    Ok(files)
}

/// Sorts by base. A segment that begins where or after one of a later opening begins is void:
/// what is in it had been given up when that opening started.
fn in_order(mut sources: Vec<Source>, free: &mut Vec<Segment>) -> Vec<Source> {
    sources.sort_by_key(|source| (source.base, source.generation));
    let (mut ordered, mut newest) = (Vec::new(), 0);
    for source in sources {
        if source.generation < newest {
            free.push(source.found.into_segment(0, Lsn(0)));
        } else {
            newest = source.generation;
            ordered.push(source);
        }
    }
    ordered
}

struct Pass<'a> {
    disk: &'a dyn Disk,
    applied: Lsn,
    /// The number that is to be replayed next.
    next: Lsn,
    report: Recovery,
    bytes: u64,
    replay: Replay<'a>,
}

impl Pass<'_> {
    /// Tells segments that hold frames from free ones.
    fn identify(&mut self, files: Vec<Found>) -> Result<(Vec<Source>, Vec<Segment>), JournalError> {
        let (mut sources, mut unknown, mut blank) = (Vec::new(), Vec::new(), Vec::new());
        for found in files {
            match found.header()? {
                Some(Header { generation, base, bytes, .. }) => sources.push(Source {
                    generation,
                    base,
                    start: segment::HEADER_BYTES,
                    end: found.bytes.min(bytes),
                    guessed: false,
                    found,
                }),
                None => unknown.push(found),
            }
        }
        for found in unknown {
            match self.guess(&found)? {
                Some((start, Frame { generation, lsn: base, .. })) => {
                    let end = found.bytes;
                    sources.push(Source { generation, base, start, end, guessed: true, found });
                }
                None => blank.push(found.into_segment(0, Lsn(0))),
            }
        }
        Ok((sources, blank))
    }

    /// The first frame of a segment without a header. A segment that was reserved and never used
    /// has none, and is all zeros; anything else without a frame is damage.
    fn guess(&mut self, found: &Found) -> Result<Option<Placed>, JournalError> {
        let mut scanner = Scanner::new(&found.name, &found.file, found.bytes);
        let highest = self.applied.0.saturating_add(NUMBERS_AHEAD);
        let first = scanner.find(segment::HEADER_BYTES, |_, frame| {
            (1..=segment::GENERATION_MAX).contains(&frame.generation)
                && (1..=highest).contains(&frame.lsn.0)
        })?;
        if first.is_none() {
            let end = scanner.zeros_from(0)?;
            if end > 0 {
                self.damaged(&mut scanner, (0, end), self.applied.next(), None)?;
            }
        }
        Ok(first)
    }

    /// Reads one segment, whose numbers end before `limit`, the base of the one after it.
    fn read(&mut self, source: Source, limit: Option<Lsn>) -> Result<Segment, JournalError> {
        let Source { found, generation, base, start, end, guessed } = source;
        if limit.is_some_and(|limit| limit <= self.applied.next() || limit == base) {
            return Ok(found.into_segment(0, Lsn(0)));
        }
        let mut scanner = Scanner::new(&found.name, &found.file, end);
        if base > self.next {
            self.damaged(&mut scanner, (0, 0), self.next, Some(Lsn(base.0 - 1)))?;
            self.next = base;
        }
        let (mut at, mut expected) = (start, base);
        while limit.is_none_or(|limit| expected < limit) {
            let whole = scanner
                .frame_at(at)?
                .filter(|frame| (frame.lsn, frame.generation) == (expected, generation));
            if let Some(frame) = whole {
                self.deliver(&mut scanner, (at, frame))?;
                (at, expected) = (at + frame.bytes(), expected.next());
            } else {
                let gap = Gap { at, expected, generation, limit };
                match self.bridge(&mut scanner, &gap)? {
                    Some((place, frame)) => (at, expected) = (place, frame.lsn),
                    None => break,
                }
            }
        }
        let last = Lsn(expected.0 - 1);
        if guessed && last > self.applied {
            self.damaged(&mut scanner, (0, start), base, None)?;
        }
        Ok(found.into_segment(at, last))
    }

    fn deliver(&mut self, scanner: &mut Scanner, placed: Placed) -> Result<(), JournalError> {
        let (_, frame) = placed;
        if frame.lsn >= self.next {
            (self.replay)(frame.lsn, scanner.payload(placed)?)
                .map_err(|source| JournalError::Replay { lsn: frame.lsn, source })?;
            self.next = frame.lsn.next();
            self.report.replayed += 1;
            self.bytes += frame.bytes();
        }
        Ok(())
    }

    /// Judges a place without the frame that should be there; returns the frame to go on with.
    fn bridge(&mut self, scanner: &mut Scanner, gap: &Gap) -> Result<Option<Placed>, JournalError> {
        let (later, known) = gap.later(scanner)?;
        let covered = later.is_some() && gap.expected <= self.applied;
        if gap.limit.is_none() && !known && !covered {
            if later.is_some() || !scanner.is_blank(gap.at)? {
                let bytes = scanner.zeros_from(gap.at)? - gap.at;
                let file = scanner.name().to_owned();
                self.report.torn_tail = Some(TornTail { file, offset: gap.at, bytes });
            }
            return Ok(None);
        }
        let (end, until) = match later {
            Some((place, frame)) => (place, Some(frame.lsn)),
            None => (scanner.zeros_from(gap.at)?, gap.limit),
        };
        let last = until.map(|until| Lsn(until.0 - 1));
        self.damaged(scanner, (gap.at, end), gap.expected, last)?;
        self.next = self.next.max(until.unwrap_or_default());
        Ok(later)
    }

    /// Sets damaged bytes aside and reports them.
    fn damaged(
        &mut self,
        scanner: &mut Scanner,
        (start, end): (u64, u64),
        from_lsn: Lsn,
        to_lsn: Option<Lsn>,
    ) -> Result<(), JournalError> {
        let set_aside = match end - start {
            0 => None,
            _ => Some(set_aside(self.disk, scanner, (start, end), from_lsn)?),
        };
        let (file, bytes) = (scanner.name().to_owned(), end - start);
        let damage = Damage { file, offset: start, bytes, from_lsn, to_lsn, set_aside };
        self.report.damage.push(damage);
        Ok(())
    }
}

/// A place in a segment without the frame that should be there.
struct Gap {
    at: u64,
    expected: Lsn,
    generation: u32,
    limit: Option<Lsn>,
}

impl Gap {
    /// The first frame after the gap, and whether it or a later one knew the missing one to be
    /// durable.
    fn later(&self, scanner: &mut Scanner) -> Result<(Option<Placed>, bool), JournalError> {
        let mut first = None;
        let mut from = self.at + 1;
        while let Some((place, frame)) = scanner.find(from, |at, frame| self.explains(at, frame))? {
            first.get_or_insert((place, frame));
            if frame.watermark() >= self.expected {
                return Ok((first, true));
            }
            if self.limit.is_some() {
                break;
            }
            from = place + frame.bytes();
        }
        Ok((first, false))
    }

    /// Whether a frame at `at` could have been written after the missing one in this segment:
    /// there must be room between them for all the numbers between them.
    fn explains(&self, at: u64, frame: &Frame) -> bool {
        let most = (at - self.at) / super::frame::HEADER_BYTES as u64;
        frame.generation == self.generation
            && frame.lsn > self.expected
            && frame.lsn.0 - self.expected.0 <= most
            && self.limit.is_none_or(|limit| frame.lsn < limit)
    }
}
