#![allow(clippy::unwrap_used)]

use super::*;

fn disk_with(synced: &[u8]) -> (SimulatedDisk, Arc<dyn DiskFile>) {
    let disk = SimulatedDisk::new(1);
    let file = disk.open("a").unwrap();
    file.write_at(0, synced).unwrap();
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    (disk, file)
}

fn content(disk: &SimulatedDisk) -> Vec<u8> {
    let file = disk.open("a").unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_cut_keeps_what_was_synced_and_some_sectors_of_the_rest() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let (disk, file) = disk_with(&[1; 1024]);
        disk.reseed(seed);
        file.write_at(0, &[2; 1024]).unwrap();
        file.write_at(512, &[3; 512]).unwrap();
        disk.cut(Cut::Mixed);
        let bytes = content(&disk);
        assert!(bytes[..512].iter().all(|byte| *byte == bytes[0]), "a sector is whole");
        seen.insert((bytes[0], bytes[512]));
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

#[test]
fn a_prefix_has_no_holes() {
    for seed in 0..200 {
        let (disk, file) = disk_with(&[1; 2048]);
        disk.reseed(seed);
        for sector in 0..4 {
            file.write_at(sector * 512, &[2; 512]).unwrap();
        }
        disk.cut(Cut::Prefix);
        let bytes = content(&disk);
        assert!(bytes.is_sorted_by(|a, b| a >= b));
    }
}

#[test]
fn a_sector_holds_all_that_was_written_to_it_before() {
    let (disk, file) = disk_with(&[1; 512]);
    file.write_at(0, &[2; 100]).unwrap();
    file.write_at(100, &[3; 100]).unwrap();
    let mut writes = [false, true].into_iter();
    disk.cut_where(|| writes.next().unwrap());
    assert_eq!(content(&disk)[..200], [[2; 100], [3; 100]].concat());
}

#[test]
fn directory_changes_that_were_not_synced_may_vanish_each_on_its_own() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let (disk, _) = disk_with(&[1]);
        disk.reseed(seed);
        disk.open("b").unwrap();
        disk.remove("a").unwrap();
        disk.rename("b", "c").unwrap();
        disk.cut(Cut::Mixed);
        seen.insert(disk.list().unwrap());
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

#[test]
fn what_a_failed_sync_lost_is_read_until_the_power_goes_and_a_later_sync_does_not_save_it() {
    let mut lost = 0;
    for seed in 0..40 {
        let (disk, file) = disk_with(&[1; 512]);
        disk.reseed(seed);
        file.write_at(0, &[2; 512]).unwrap();
        disk.fail_a_sync_after(0);
        assert!(file.sync().is_err());
        assert_eq!(content(&disk), [2; 512]);
        file.sync().unwrap();
        disk.cut(Cut::KeepAll);
        lost += usize::from(content(&disk) == [1; 512]);
    }
    assert!((1..40).contains(&lost), "{lost}");
}

#[test]
fn blocks_are_counted_where_they_are_taken_and_given_back() {
    let disk = SimulatedDisk::new(1);
    disk.set_capacity(3 * 4096);
    let file = disk.open("a").unwrap();
    file.set_len(1 << 20).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 3 * 4096);
    file.write_at(8192, &[1; 4096]).unwrap();
    file.write_at(8192, &[2; 4096]).unwrap();
    disk.open("b").unwrap().allocate(0, 8192).unwrap();
    assert_eq!((disk.free_bytes().unwrap(), disk.used()), (0, 3 * 4096));
    let full = file.write_at(0, &[1]).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    disk.remove("b").unwrap();
    file.write_at(0, &[1]).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 4096);
}

#[test]
fn a_fork_goes_its_own_way() {
    let (disk, file) = disk_with(&[1; 512]);
    file.write_at(0, &[2; 512]).unwrap();
    let fork = disk.fork();
    fork.cut(Cut::DropAll);
    assert_eq!((content(&fork), content(&disk)), (vec![1; 512], vec![2; 512]));
}
