//! Opening a journal that a power cut, a disk, or anyone else has been at.

use std::collections::BTreeMap;
use std::sync::Arc;

use store_forward::disk::{Disk, MemoryDisk};
use store_forward::ids::Lsn;
use store_forward::journal::{Journal, JournalError, JournalOptions, Recovery};

use super::input::Input;

const SEGMENT_BYTES: u64 = 8 << 10;
/// Where a segment's header keeps the checksum of what is before.
const HEADER_CRC: usize = 30;

type Records = BTreeMap<u64, Vec<u8>>;

/// Writes a journal as the input says, damages it as the input says, and opens it.
pub(super) fn run(data: &[u8]) {
    let disk = Arc::new(MemoryDisk::new());
    let mut input = Input(data);
    let mut written = Records::new();
    let mut forged = false;
    for _ in 0..input.byte().unwrap_or(0) % 4 {
        write(&disk, &mut input, &mut written);
    }
    while let Some(kind) = input.byte() {
        forged |= damage(&disk, kind, &mut input);
    }
    let applied = Lsn(0);
    let before = segments(&disk);
    let Ok((first, _)) = open(&disk, applied) else { return };
    for (lsn, payload) in &first {
        let known = written.get(lsn).is_some_and(|written| written == payload);
        assert!(known || forged, "record {lsn} was never written so");
    }
    assert_eq!(segments(&disk), before, "opening changed a segment");
    go_on(&disk, &first, forged);
}

/// What could be read once can be read again, with what is written after. Behind a forged header
/// that voids what we wrote, that may come back too, once the forged one is used again.
fn go_on(disk: &Arc<MemoryDisk>, first: &Records, forged: bool) {
    let options = JournalOptions { segment_bytes: SEGMENT_BYTES };
    let mut again = Records::new();
    let opened = Journal::open(disk.clone(), options, Lsn(0), &mut |lsn, payload| {
        again.insert(lsn.0, payload.to_vec());
        Ok(())
    });
    let (mut journal, _) = opened.expect("what was opened can be opened again");
    assert_eq!(&again, first, "the second opening read something else");
    let lsn = journal.append(b"after").expect("it fits");
    assert!(again.keys().all(|old| *old < lsn.0), "record {lsn} is given twice");
    match journal.sync() {
        Ok(()) => {}
        // A forged header or frame had the last number there is.
        Err(JournalError::Exhausted { .. }) => return,
        Err(error) => panic!("memory doesn't fail: {error}"),
    }
    drop(journal);
    let (third, _) = open(disk, Lsn(0)).expect("what was written can be opened");
    again.insert(lsn.0, b"after".to_vec());
    assert!(again.iter().all(|(lsn, it)| third.get(lsn) == Some(it)), "what was durable is gone");
    assert!(forged || third.len() == again.len(), "what was never there has come");
}

/// One life: records in batches, and a checkpoint now and then.
fn write(disk: &Arc<MemoryDisk>, input: &mut Input<'_>, written: &mut Records) {
    let options = JournalOptions { segment_bytes: SEGMENT_BYTES };
    let opened = Journal::open(disk.clone(), options, Lsn(0), &mut |_, _| Ok(()));
    let (mut journal, _) = opened.expect("a sound journal can be opened");
    for _ in 0..input.byte().unwrap_or(0) % 16 {
        let shape = input.byte().unwrap_or(0);
        let payload = vec![shape; usize::from(shape) * 15];
        let lsn = journal.append(&payload).expect("it fits");
        written.insert(lsn.0, payload);
        if shape.is_multiple_of(2) {
            journal.sync().expect("memory doesn't fail");
        }
    }
    journal.flush().expect("memory doesn't fail");
}

/// Says whether bytes were made up that a checksum may vouch for.
fn damage(disk: &MemoryDisk, kind: u8, input: &mut Input<'_>) -> bool {
    let names: Vec<String> = segments(disk).into_keys().collect();
    let name = match names.get(usize::from(input.byte().unwrap_or(0)) % names.len().max(1)) {
        Some(name) if kind % 8 < 6 => name.clone(),
        _ => format!("journal-{:08}.seg", u64::from(input.number()) * 65_537),
    };
    let file = disk.open(&name).expect("memory doesn't fail");
    let at = u64::from(input.number()) % SEGMENT_BYTES;
    match kind % 8 {
        0 | 1 => flip(disk, &name, at, input.byte().unwrap_or(1)),
        2 => file.set_len(at).expect("memory doesn't fail"),
        3 => disk.remove(&name).expect("it is there"),
        4 => {
            let len = usize::from(input.byte().unwrap_or(0));
            file.write_at(at, input.bytes(len)).expect("memory doesn't fail");
        }
        5 => {
            let fields = input.bytes(HEADER_CRC - 10).to_vec();
            file.write_at(10, &fields).expect("memory doesn't fail");
            vouch(disk, &name);
            return true;
        }
        6 => {
            file.set_len(SEGMENT_BYTES).expect("memory doesn't fail");
            let mut bytes = b"PANNJRNL\x01\0".to_vec();
            bytes.extend(input.bytes(HEADER_CRC - 10));
            file.write_at(0, &bytes).expect("memory doesn't fail");
            vouch(disk, &name);
            frame(disk, &name, at, input);
            return true;
        }
        _ => {
            file.write_at(0, input.bytes(usize::from(input.0.len() > 64) * 64))
                .expect("memory doesn't fail");
            frame(disk, &name, at, input);
            return true;
        }
    }
    false
}

fn flip(disk: &MemoryDisk, name: &str, at: u64, bits: u8) {
    let mut bytes = contents(disk, name);
    let at = usize::try_from(at).expect("a place in a segment");
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= bits;
        disk.open(name).and_then(|file| file.write_at(0, &bytes)).expect("memory doesn't fail");
    }
}

/// Puts the right checksum into a segment's header.
fn vouch(disk: &MemoryDisk, name: &str) {
    let bytes = contents(disk, name);
    if let Some(fields) = bytes.get(..HEADER_CRC) {
        let crc = crc32c::crc32c(fields).to_le_bytes();
        let file = disk.open(name).expect("memory doesn't fail");
        file.write_at(HEADER_CRC as u64, &crc).expect("memory doesn't fail");
    }
}

/// Writes a frame whose numbers come from the input, with the right checksum.
fn frame(disk: &MemoryDisk, name: &str, at: u64, input: &mut Input<'_>) {
    let mut header = [0; 16];
    let given = input.bytes(16);
    header[..given.len()].copy_from_slice(given);
    let payload = input.part();
    let len = u32::try_from(payload.len()).expect("an input is small");
    let mut rest = len.to_le_bytes().to_vec();
    rest.extend(header);
    rest.extend(payload);
    let mut bytes = crc32c::crc32c(&rest).to_le_bytes().to_vec();
    bytes.extend(rest);
    let file = disk.open(name).expect("memory doesn't fail");
    file.write_at(at.max(4096), &bytes).expect("memory doesn't fail");
}

fn open(disk: &Arc<MemoryDisk>, applied: Lsn) -> Result<(Records, Recovery), JournalError> {
    let options = JournalOptions { segment_bytes: SEGMENT_BYTES };
    let mut records = Records::new();
    let mut last = applied;
    let opened = Journal::open(disk.clone(), options, applied, &mut |lsn, payload| {
        assert!(lsn > last, "record {lsn} comes after {last}");
        last = lsn;
        records.insert(lsn.0, payload.to_vec());
        Ok(())
    });
    opened.map(|(_, recovery)| (records, recovery))
}

/// All segments.
pub(super) fn segments(disk: &MemoryDisk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.list().expect("memory doesn't fail");
    let segments = names.into_iter().filter(|name| name.starts_with("journal-"));
    segments
        .map(|name| {
            let bytes = contents(disk, &name);
            (name, bytes)
        })
        .collect()
}

fn contents(disk: &MemoryDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name).expect("memory doesn't fail");
    let len = usize::try_from(file.len().expect("memory doesn't fail")).expect("files are small");
    let mut bytes = vec![0; len];
    file.read_at(0, &mut bytes).expect("memory doesn't fail");
    bytes
}
