#![allow(clippy::unwrap_used)]

use crate::disk::{Cut, DiskFile, MemoryDisk, SimulatedDisk};

use super::*;

mod model;

const SEGMENT: u64 = 8 << 10;
const HEADER: u64 = segment::HEADER_BYTES;
/// Four of these fill a segment.
const QUARTER: usize = 1000;

type Replayed = Vec<(u64, Vec<u8>)>;

fn try_open<D: Disk>(
    disk: &Arc<D>,
    applied: u64,
) -> Result<(Journal, Recovery, Replayed), JournalError> {
    let disk: Arc<dyn Disk> = Arc::<D>::clone(disk);
    let mut replayed = Vec::new();
    let options = JournalOptions { segment_bytes: SEGMENT };
    let (journal, recovery) = Journal::open(disk, options, Lsn(applied), &mut |lsn, payload| {
        replayed.push((lsn.0, payload.to_vec()));
        Ok(())
    })?;
    Ok((journal, recovery, replayed))
}

fn open<D: Disk>(disk: &Arc<D>, applied: u64) -> (Journal, Recovery, Replayed) {
    try_open(disk, applied).unwrap()
}

fn numbers(replayed: &Replayed) -> Vec<u64> {
    replayed.iter().map(|(lsn, _)| *lsn).collect()
}

/// Appends and syncs, each record on its own.
fn write(journal: &mut Journal, count: usize, len: usize) {
    for _ in 0..count {
        let lsn = journal.next_lsn().0;
        journal.append(&vec![lsn.to_le_bytes()[0]; len]).unwrap();
        journal.sync().unwrap();
    }
}

fn file<D: Disk>(disk: &Arc<D>, slot: u32) -> Arc<dyn DiskFile> {
    disk.open(&format!("journal-{slot:08}.seg")).unwrap()
}

fn flip(file: &dyn DiskFile, at: u64) {
    let mut byte = [0];
    file.read_at(at, &mut byte).unwrap();
    file.write_at(at, &[byte[0] ^ 0x10]).unwrap();
}

fn segments<D: Disk>(disk: &Arc<D>) -> usize {
    disk.list().unwrap().iter().filter(|name| segment::slot(name).is_some()).count()
}

#[test]
fn what_was_synced_is_replayed_in_order() {
    let disk = Arc::new(MemoryDisk::new());
    let (mut journal, recovery, _) = open(&disk, 0);
    assert_eq!(recovery, Recovery::default());
    assert_eq!(journal.append(b"one").unwrap(), Lsn(1));
    assert_eq!(journal.append(b"").unwrap(), Lsn(2));
    assert!(journal.unsynced());
    journal.sync().unwrap();
    assert!(!journal.unsynced());
    assert_eq!(journal.append(b"three").unwrap(), Lsn(3));
    journal.sync().unwrap();
    assert_eq!(journal.bytes_since_checkpoint(), 3 * 24 + 8);
    drop(journal);
    let (journal, recovery, replayed) = open(&disk, 0);
    assert_eq!(replayed, [(1, b"one".to_vec()), (2, vec![]), (3, b"three".to_vec())]);
    assert_eq!(recovery, Recovery { replayed: 3, last: Lsn(3), ..Recovery::default() });
    assert_eq!(journal.next_lsn(), Lsn(4));
    assert_eq!(journal.bytes_since_checkpoint(), 3 * 24 + 8);
}

#[test]
fn what_a_failed_sync_lost_is_not_read_back_from_the_cache() {
    for seed in 0..50 {
        let disk = Arc::new(SimulatedDisk::new(seed));
        let (mut journal, ..) = open(&disk, 0);
        write(&mut journal, 2, QUARTER);
        disk.fail_a_sync_after(0);
        journal.append(&[3; QUARTER]).unwrap();
        journal.sync().unwrap_err();
        drop(journal);
        disk.mend();
        let (mut journal, recovery, replayed) = open(&disk, 0);
        assert_eq!(recovery.damage, []);
        write(&mut journal, 1, QUARTER);
        drop(journal);
        disk.cut(Cut::DropAll);
        let (_, recovery, again) = open(&disk, 0);
        assert_eq!(recovery.damage, [], "seed {seed}");
        assert_eq!(numbers(&again), (1..=replayed.len() as u64 + 1).collect::<Vec<_>>());
    }
}

#[test]
fn a_header_that_could_not_be_read_back_is_not_written() {
    let last = u32::MAX / 2;
    for (generation, slot) in [(last, 1), (1, last)] {
        let disk = Arc::new(MemoryDisk::new());
        let forged = disk.open(&format!("journal-{slot:08}.seg")).unwrap();
        forged.set_len(SEGMENT / 2).unwrap();
        let (version, base) = (segment::VERSION, Lsn(1));
        let header = segment::Header { version, generation, base, bytes: SEGMENT / 2 };
        forged.write_at(0, &header.encode()).unwrap();
        let (mut journal, ..) = open(&disk, 0);
        let refused = journal.append(b"one").and_then(|_| journal.sync()).unwrap_err();
        assert!(matches!(refused, JournalError::Exhausted { .. }), "{refused}");
        drop(journal);
        assert!(open(&disk, 0).2.is_empty());
    }
}

#[test]
fn only_what_the_tables_lack_is_replayed() {
    let disk = Arc::new(MemoryDisk::new());
    write(&mut open(&disk, 0).0, 3, 10);
    assert_eq!(numbers(&open(&disk, 2).2), [3]);
    let (journal, recovery, replayed) = open(&disk, 9);
    assert!(replayed.is_empty());
    assert_eq!((journal.next_lsn(), recovery.last), (Lsn(10), Lsn(9)));
}

#[test]
fn a_frame_torn_at_any_byte_costs_no_synced_frame() {
    let size = 24 + 40;
    for cut in 0..size {
        for garble in [false, true] {
            let disk = Arc::new(MemoryDisk::new());
            write(&mut open(&disk, 0).0, 4, 40);
            let (last, file) = (HEADER + 3 * size, file(&disk, 1));
            if garble {
                flip(file.as_ref(), last + cut);
            } else {
                let rest = vec![0; usize::try_from(size - cut).unwrap()];
                file.write_at(last + cut, &rest).unwrap();
            }
            let (mut journal, recovery, replayed) = open(&disk, 0);
            assert_eq!(numbers(&replayed), [1, 2, 3], "{cut}");
            assert_eq!(recovery.damage, []);
            let torn = recovery.torn_tail.map(|torn| (torn.offset, torn.bytes));
            let bytes = if garble { size } else { cut };
            // Its last bytes before the cut may be zeros themselves: those of the header are.
            assert_eq!(torn.is_some(), bytes > 0, "{cut}");
            assert!(torn.is_none_or(|(at, len)| at == last && len <= bytes), "{cut} {torn:?}");
            write(&mut journal, 1, 40);
            drop(journal);
            let (_, recovery, replayed) = open(&disk, 0);
            assert_eq!(numbers(&replayed), [1, 2, 3, 4]);
            assert_eq!((recovery.torn_tail, recovery.damage), (None, vec![]));
        }
    }
}

#[test]
fn unsynced_frames_of_an_older_life_never_come_back() {
    let disk = Arc::new(SimulatedDisk::new(0));
    let (mut journal, ..) = open(&disk, 0);
    write(&mut journal, 2, 488);
    for payload in [b'a', b'b', b'c'] {
        journal.append(&[payload; 488]).unwrap();
        journal.flush().unwrap();
    }
    // Each frame is a sector; the mark after it lies in the next one.
    let mut sectors = [true, false, false, false, true, false].into_iter();
    disk.cut_where(|| sectors.next().unwrap());
    let (mut journal, recovery, replayed) = open(&disk, 0);
    assert_eq!(numbers(&replayed), [1, 2, 3]);
    assert_eq!(recovery.torn_tail.map(|torn| torn.offset), Some(HEADER + 3 * 512));
    assert_eq!(journal.append(&[b'x'; 488]).unwrap(), Lsn(4));
    journal.sync().unwrap();
    for _ in 0..2 {
        let (_, recovery, replayed) = open(&disk, 0);
        assert_eq!(numbers(&replayed), [1, 2, 3, 4]);
        assert_eq!(replayed[3].1, [b'x'; 488]);
        assert_eq!((recovery.torn_tail, recovery.damage), (None, vec![]));
    }
}

#[test]
fn a_stale_frame_with_the_next_number_is_told_by_its_generation() {
    let disk = Arc::new(SimulatedDisk::new(0));
    let two_frames = |payload: u8, survivors: &[usize]| {
        let (mut journal, ..) = open(&disk, 0);
        journal.append(&[payload; 488]).unwrap();
        journal.append(&[payload; 488]).unwrap();
        journal.flush().unwrap();
        // Eight sectors of zeros are written ahead, then two frames of a sector, then the mark.
        let mut sectors = 0..;
        disk.cut_where(|| survivors.contains(&sectors.next().unwrap()));
    };
    two_frames(b'a', &[9]);
    two_frames(b'b', &[8]);
    let replayed = open(&disk, 0).2;
    assert_eq!(replayed, [(1, vec![b'b'; 488])]);
    assert_eq!(segments(&disk), 1, "both were written to the same place");
}

#[test]
fn frames_that_were_replayed_are_durable_though_they_had_not_been_synced() {
    let disk = Arc::new(SimulatedDisk::new(0));
    let (mut journal, ..) = open(&disk, 0);
    journal.append(b"flushed").unwrap();
    journal.flush().unwrap();
    drop(journal);
    assert_eq!(numbers(&open(&disk, 0).2), [1]);
    disk.cut_where(|| false);
    assert_eq!(numbers(&open(&disk, 0).2), [1]);
}

#[test]
fn segments_are_recycled_once_the_tables_hold_them() {
    let disk = Arc::new(MemoryDisk::new());
    let (mut journal, ..) = open(&disk, 0);
    for round in 1..=20 {
        write(&mut journal, 3, QUARTER);
        journal.checkpointed(Lsn(round * 3)).unwrap();
        assert_eq!(journal.bytes_since_checkpoint(), 0);
        assert!(segments(&disk) <= 3);
    }
    assert_eq!(journal.disk_bytes(), segments(&disk) as u64 * SEGMENT);
    write(&mut journal, 6, QUARTER);
    drop(journal);
    let (mut journal, recovery, replayed) = open(&disk, 60);
    assert_eq!(numbers(&replayed), [61, 62, 63, 64, 65, 66]);
    assert_eq!((recovery.torn_tail, recovery.damage), (None, vec![]));
    write(&mut journal, 1, QUARTER);
    assert!(segments(&disk) <= 4);
}

#[test]
fn a_batch_may_span_segments() {
    let disk = Arc::new(MemoryDisk::new());
    let (mut journal, ..) = open(&disk, 0);
    for i in 0..15_u8 {
        journal.append(&[i; QUARTER]).unwrap();
    }
    journal.sync().unwrap();
    assert_eq!(segments(&disk), 4);
    assert_eq!(numbers(&open(&disk, 0).2), (1..=15).collect::<Vec<_>>());
}

#[test]
fn the_largest_record_fills_a_segment_and_a_larger_one_is_refused() {
    let disk = Arc::new(MemoryDisk::new());
    let (mut journal, ..) = open(&disk, 0);
    let message = journal.append(&[1; 4073]).unwrap_err().to_string();
    assert!(message.contains("4073 bytes") && message.contains("takes 4072"), "{message}");
    write(&mut journal, 2, 4072);
    assert_eq!(numbers(&open(&disk, 0).2), [1, 2]);
}

#[test]
fn a_flipped_bit_among_synced_frames_is_set_aside_and_the_rest_replayed() {
    let disk = Arc::new(MemoryDisk::new());
    write(&mut open(&disk, 0).0, 5, 40);
    flip(file(&disk, 1).as_ref(), HEADER + 64 + 30);
    for _ in 0..3 {
        let (_, recovery, replayed) = open(&disk, 0);
        assert_eq!(numbers(&replayed), [1, 3, 4, 5]);
        let name = "damaged-2-journal-00000001.seg";
        let damage = Damage {
            file: "journal-00000001.seg".to_owned(),
            offset: HEADER + 64,
            bytes: 64,
            from_lsn: Lsn(2),
            to_lsn: Some(Lsn(2)),
            set_aside: Some(name.to_owned()),
        };
        assert_eq!(recovery.damage, [damage]);
        assert_eq!(recovery.torn_tail, None);
        let mut bytes = [0; 64];
        disk.open(name).unwrap().read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes[8..10], [2, 0]);
        assert_eq!(disk.list().unwrap().len(), 2, "the same bytes are set aside once");
    }
    flip(file(&disk, 1).as_ref(), HEADER + 64 + 31);
    let aside = open(&disk, 0).1.damage.remove(0).set_aside.unwrap();
    assert_eq!(aside, "damaged-2-journal-00000001.seg.1");
}

#[test]
fn damage_that_a_later_segment_proves_is_no_torn_tail() {
    let disk = Arc::new(MemoryDisk::new());
    write(&mut open(&disk, 0).0, 3, 40);
    write(&mut open(&disk, 0).0, 1, 40);
    flip(file(&disk, 1).as_ref(), HEADER + 2 * 64 + 30);
    let (_, recovery, replayed) = open(&disk, 0);
    assert_eq!(numbers(&replayed), [1, 2, 4]);
    assert_eq!(recovery.torn_tail, None);
    let damage = &recovery.damage[0];
    assert_eq!((damage.from_lsn, damage.to_lsn), (Lsn(3), Some(Lsn(3))));
    assert_eq!((damage.offset, damage.bytes), (HEADER + 2 * 64, 64));
}

#[test]
fn damage_that_a_checkpoint_proves_is_no_torn_tail() {
    let disk = Arc::new(MemoryDisk::new());
    let (mut journal, ..) = open(&disk, 0);
    for _ in 0..4 {
        journal.append(&[7; 40]).unwrap();
    }
    journal.sync().unwrap();
    flip(file(&disk, 1).as_ref(), HEADER + 64 + 30);
    let (_, recovery, replayed) = open(&disk, 2);
    assert_eq!(numbers(&replayed), [3, 4]);
    assert_eq!(recovery.damage[0].to_lsn, Some(Lsn(2)));
}

#[test]
fn a_lost_segment_is_reported_with_its_numbers() {
    let disk = Arc::new(MemoryDisk::new());
    write(&mut open(&disk, 0).0, 10, QUARTER);
    disk.remove("journal-00000002.seg").unwrap();
    let (journal, recovery, replayed) = open(&disk, 0);
    assert_eq!(numbers(&replayed), [1, 2, 3, 4, 9, 10]);
    assert_eq!(journal.next_lsn(), Lsn(11));
    let damage = &recovery.damage[0];
    assert_eq!((damage.from_lsn, damage.to_lsn), (Lsn(5), Some(Lsn(8))));
    assert_eq!((damage.bytes, &damage.set_aside), (0, &None));
}

#[test]
fn a_segment_with_a_damaged_header_is_still_read() {
    let disk = Arc::new(MemoryDisk::new());
    write(&mut open(&disk, 0).0, 4, QUARTER);
    flip(file(&disk, 1).as_ref(), 20);
    let (_, recovery, replayed) = open(&disk, 0);
    assert_eq!(numbers(&replayed), [1, 2, 3, 4]);
    let damage = &recovery.damage[0];
    assert_eq!((damage.offset, damage.bytes, damage.to_lsn), (0, HEADER, None));
    assert!(open(&disk, 4).1.damage.is_empty(), "what the tables hold costs nothing");
}

#[test]
fn frames_are_read_when_no_segment_has_a_header_any_more() {
    let disk = Arc::new(MemoryDisk::new());
    for _ in 0..3 {
        write(&mut open(&disk, 0).0, 1, QUARTER);
    }
    (1..=3).for_each(|slot| flip(file(&disk, slot).as_ref(), 20));
    disk.remove("journal-00000001.seg").unwrap();
    disk.remove("journal-00000002.seg").unwrap();
    assert_eq!(numbers(&open(&disk, 2).2), [3]);
}

#[test]
fn opening_again_finds_the_same_whatever_is_cut_and_damaged() {
    let disk = Arc::new(MemoryDisk::new());
    for _ in 0..3 {
        write(&mut open(&disk, 0).0, 1, QUARTER);
    }
    file(&disk, 1).set_len(HEADER / 2).unwrap();
    flip(file(&disk, 3).as_ref(), 20);
    let (_, first, replayed) = open(&disk, 0);
    assert_eq!(numbers(&replayed), [2, 3]);
    let (mut journal, second, again) = open(&disk, 0);
    assert_eq!((again, &second), (replayed, &first));
    journal.checkpointed(second.last).unwrap();
    assert!(!disk.list().unwrap().contains(&"journal-00000001.seg".to_owned()));
}

#[test]
fn a_segment_without_a_whole_frame_is_not_silently_reused() {
    let disk = Arc::new(MemoryDisk::new());
    write(&mut open(&disk, 0).0, 1, 40);
    file(&disk, 1).write_at(0, &[0xa5; 8192]).unwrap();
    let (mut journal, recovery, _) = open(&disk, 0);
    assert_eq!(recovery.damage[0].bytes, 8192);
    write(&mut journal, 1, 40);
    let aside = disk.open(recovery.damage[0].set_aside.as_ref().unwrap()).unwrap();
    assert_eq!(aside.len().unwrap(), 8192);
}

#[test]
fn another_format_is_refused_by_its_version() {
    let disk = Arc::new(MemoryDisk::new());
    let header =
        segment::Header { version: 7, generation: 1, base: Lsn(1), bytes: SEGMENT }.encode();
    let file = file(&disk, 1);
    file.allocate(0, SEGMENT).unwrap();
    file.write_at(0, &header).unwrap();
    let message = try_open(&disk, 0).err().unwrap().to_string();
    assert!(message.contains("journal-00000001.seg has journal format 7"), "{message}");
}

#[test]
fn a_segment_size_that_cannot_work_is_refused() {
    let options = JournalOptions { segment_bytes: 4096 };
    let opened = Journal::open(Arc::new(MemoryDisk::new()), options, Lsn(0), &mut |_, _| Ok(()));
    assert!(matches!(opened.err(), Some(JournalError::SegmentSize { bytes: 4096, .. })));
}

#[test]
fn segments_of_another_size_are_read_and_then_removed() {
    let disk = Arc::new(MemoryDisk::new());
    let options = JournalOptions { segment_bytes: 2 * SEGMENT };
    let shared: Arc<dyn Disk> = Arc::<MemoryDisk>::clone(&disk);
    write(&mut Journal::open(shared, options, Lsn(0), &mut |_, _| Ok(())).unwrap().0, 3, 40);
    let (mut journal, _, replayed) = open(&disk, 0);
    assert_eq!(numbers(&replayed), [1, 2, 3]);
    assert_eq!(journal.disk_bytes(), 2 * SEGMENT);
    journal.checkpointed(Lsn(3)).unwrap();
    assert_eq!((journal.disk_bytes(), segments(&disk)), (0, 0));
}

#[test]
fn what_a_replay_refuses_is_named() {
    let disk = Arc::new(MemoryDisk::new());
    write(&mut open(&disk, 0).0, 2, 40);
    let opened = Journal::open(disk, JournalOptions::default(), Lsn(1), &mut |_, _| {
        Err(ReplayError::new("not ours"))
    });
    let message = opened.err().unwrap().to_string();
    assert_eq!(message, "record 2 of the journal can't be applied: not ours");
}

#[test]
fn a_failed_sync_is_final() {
    let disk = Arc::new(SimulatedDisk::new(0));
    let (mut journal, ..) = open(&disk, 0);
    write(&mut journal, 1, 40);
    journal.append(b"lost").unwrap();
    journal.flush().unwrap();
    disk.fail_after(0);
    assert!(matches!(journal.sync(), Err(JournalError::Io { op: "sync", .. })));
    disk.mend();
    let changes = disk.changes();
    for refused in [journal.append(b"x").map(drop), journal.sync(), journal.reserve()] {
        assert!(matches!(refused, Err(JournalError::Poisoned { .. })));
    }
    assert_eq!(disk.changes(), changes);
}

#[test]
fn a_full_disk_refuses_the_frame_that_needs_a_segment_and_is_survived() {
    let disk = Arc::new(SimulatedDisk::new(0));
    let (mut journal, ..) = open(&disk, 0);
    write(&mut journal, 2, QUARTER);
    journal.reserve().unwrap();
    disk.set_capacity(disk.used());
    for _ in 3..=7 {
        journal.append(&[1; QUARTER]).unwrap();
    }
    let refused = journal.append(&[1; QUARTER * 2]);
    assert!(matches!(refused, Err(JournalError::DiskFull { needed: SEGMENT, .. })));
    assert_eq!(journal.append(&[1; 40]).unwrap(), Lsn(8));
    journal.sync().unwrap();
    assert!(matches!(journal.reserve(), Err(JournalError::DiskFull { .. })));
    journal.checkpointed(Lsn(4)).unwrap();
    journal.reserve().unwrap();
    disk.set_capacity(u64::MAX);
    assert_eq!(numbers(&open(&disk, 4).2), [5, 6, 7, 8]);
}

#[test]
fn what_is_reserved_before_the_first_frame_outlasts_a_disk_that_fills_up() {
    let disk = Arc::new(SimulatedDisk::new(0));
    let (mut journal, ..) = open(&disk, 0);
    journal.reserve().unwrap();
    disk.set_capacity(disk.used());
    for _ in 0..9 {
        write(&mut journal, 1, QUARTER);
        if journal.reserve().is_err() {
            journal.checkpointed(Lsn(journal.next_lsn().0 - 1)).unwrap();
        }
    }
}

#[test]
fn a_journal_that_nothing_is_written_to_changes_nothing() {
    let disk = Arc::new(SimulatedDisk::new(0));
    write(&mut open(&disk, 0).0, 2, 40);
    let (mut journal, ..) = open(&disk, 2);
    let changes = disk.changes();
    journal.sync().unwrap();
    journal.flush().unwrap();
    assert_eq!(disk.changes(), changes);
    assert_eq!(journal.disk_bytes(), SEGMENT);
}
