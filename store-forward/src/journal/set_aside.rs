//! Keeps damaged bytes in a file of their own before their segment is reused.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, is_full};
use crate::ids::Lsn;

use super::JournalError;
use super::error::io as failed;
use super::scan::Scanner;

/// Bytes copied at once.
const PIECE_BYTES: u64 = 64 << 10;

/// Copies `start..end` of a segment to a file and returns its name. A file that is there already
/// is never changed: it is taken when it holds the same, else the copy gets another name.
pub(super) fn set_aside(
    disk: &dyn Disk,
    scanner: &mut Scanner,
    (start, end): (u64, u64),
    from: Lsn,
) -> Result<String, JournalError> {
    let plain = format!("damaged-{from}-{}", scanner.name());
    let taken = disk.list().map_err(failed(&plain, "look for"))?;
    let mut name = plain.clone();
    for copy in 1_u32.. {
        if !taken.contains(&name) {
            break;
        }
        let file = disk.open(&name).map_err(failed(&name, "open"))?;
        if same(scanner, &file, &name, start, end)? {
            return Ok(name);
        }
        name = format!("{plain}.{copy}");
    }
    let file = disk.open(&name).map_err(failed(&name, "create"))?;
    let written = |error: io::Error| match is_full(&error) {
        true => JournalError::DiskFull {
            file: name.clone(),
            needed: end - start,
            free: disk.free_bytes().unwrap_or(0),
        },
        false => failed(&name, "write")(error),
    };
    for (at, len) in pieces(start, end) {
        file.write_at(at - start, scanner.bytes(at, len)?).map_err(written)?;
    }
    file.sync().and_then(|()| disk.sync_dir()).map_err(written)?;
    Ok(name)
}

fn same(
    scanner: &mut Scanner,
    file: &Arc<dyn DiskFile>,
    name: &str,
    start: u64,
    end: u64,
) -> Result<bool, JournalError> {
    if file.len().map_err(failed(name, "read"))? != end - start {
        return Ok(false);
    }
    let mut there = Vec::new();
    for (at, len) in pieces(start, end) {
        there.resize(len, 0);
        file.read_at(at - start, &mut there).map_err(failed(name, "read"))?;
        if scanner.bytes(at, len)? != there {
            return Ok(false);
        }
    }
    Ok(true)
}

fn pieces(start: u64, end: u64) -> impl Iterator<Item = (u64, usize)> {
    let mut at = start;
    std::iter::from_fn(move || {
        let len = usize::try_from((end - at).min(PIECE_BYTES)).ok().filter(|len| *len > 0)?;
        let piece = (at, len);
        at += len as u64;
        Some(piece)
    })
}
