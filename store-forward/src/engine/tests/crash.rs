//! The disk fails or the power goes: what was acknowledged is there, what was refused is not.

use super::*;
use crate::disk::{Cut, SimulatedDisk};

/// What a workload was told.
#[derive(Default)]
struct Told {
    saved: Vec<String>,
    published: u64,
}

fn work(engine: &mut Engine, told: &mut Told) {
    for n in 0..12 {
        let key = format!("k{n}");
        if one(engine, vec![set(&key, None), publish()]).is_ok() {
            told.saved.push(key);
            told.published += 1;
        }
        if n % 5 == 4 {
            engine.checkpoint();
        }
    }
}

fn holds(engine: &Engine, told: &Told) -> Result<(), String> {
    for key in &told.saved {
        if engine.reader().state("s", key, 0).unwrap().is_none() {
            return Err(format!("{key} was acknowledged and is gone"));
        }
    }
    let last = engine.index().streams.values().next().map_or(0, |s| s.row.next.0 - 1);
    let kept = engine.index().streams.values().next().map_or(0, |s| s.row.messages);
    // One more may be there that was written and not answered.
    if last < told.published || kept != last || last > told.published + 1 {
        return Err(format!("{} were acknowledged, {last} given, {kept} kept", told.published));
    }
    Ok(())
}

#[test]
fn a_power_cut_at_any_write_or_sync_loses_nothing_that_was_acknowledged() {
    let changes = {
        let (disk, clock) = (Arc::new(SimulatedDisk::new(0)), clock());
        let mut engine = engine(&disk, &clock);
        let before = disk.changes();
        work(&mut engine, &mut Told::default());
        disk.changes() - before
    };
    assert!(changes > 30, "{changes}");
    for at in 0..changes {
        for seed in 0..4 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (disk, clock) = (Arc::new(SimulatedDisk::new(0)), clock());
            let mut first = engine(&disk, &clock);
            disk.fail_after(at);
            let mut told = Told::default();
            work(&mut first, &mut told);
            drop(first);
            disk.cut_where(|| random.bool());
            disk.mend();
            let second = engine(&disk, &clock);
            if let Err(lost) = holds(&second, &told) {
                panic!("crash at change {at}, seed {seed}: {lost}");
            }
        }
    }
}

#[test]
fn a_power_cut_while_the_store_is_created_leaves_one_that_can_be() {
    let created = {
        let (disk, clock) = (Arc::new(SimulatedDisk::new(0)), clock());
        drop(engine(&disk, &clock));
        disk.changes()
    };
    for at in 0..created {
        for seed in 0..8 {
            let (disk, clock) = (Arc::new(SimulatedDisk::new(seed)), clock());
            disk.fail_after(at);
            drop(try_engine(&disk, &clock));
            disk.cut(Cut::Mixed);
            engine(&disk, &clock);
        }
    }
}

#[test]
fn a_dead_letter_that_can_be_seen_outlives_a_power_cut() {
    let (disk, clock) = (Arc::new(SimulatedDisk::new(0)), clock());
    let mut first = engine(&disk, &clock);
    let consumer = register(&mut first, "c", Some(Topic::new("pubsub", "letters")));
    let stream = one(&mut first, vec![publish()]).unwrap().published[0].stream;
    let reject = Op::Reject { consumer, stream, sequence: Sequence(1), reason: "no".into() };
    first.commit(&[Request { ops: vec![reject], durable: false }]).remove(0).unwrap();
    disk.fail_after(0);
    drop(first);
    disk.cut(Cut::DropAll);
    let second = engine(&disk, &clock);
    assert_eq!(second.index().streams[&StreamId(2)].row.next, Sequence(2));
}

#[test]
fn after_a_failed_write_nothing_is_taken_until_a_restart_and_reading_goes_on() {
    let (disk, clock) = (Arc::new(SimulatedDisk::new(0)), clock());
    let mut first = engine(&disk, &clock);
    one(&mut first, vec![set("before", None)]).unwrap();
    disk.fail_after(0);
    assert!(matches!(one(&mut first, vec![set("k", None)]), Err(Error::Poisoned { .. })));
    disk.mend();
    assert!(matches!(one(&mut first, vec![set("k", None)]), Err(Error::Poisoned { .. })));
    assert!(first.reader().state("s", "before", 0).unwrap().is_some());
    assert!(first.reader().state("s", "k", 0).unwrap().is_none());
    drop(first);
    let mut second = engine(&disk, &clock);
    one(&mut second, vec![set("k", None)]).unwrap();
}

#[test]
fn a_full_disk_refuses_what_needs_room_and_takes_what_gives_some_back() {
    let (disk, clock) = (Arc::new(SimulatedDisk::new(0)), clock());
    let mut first = engine(&disk, &clock);
    let mut taken = 0;
    disk.set_capacity(disk.used());
    let refused = loop {
        match one(&mut first, vec![publish(), set(&taken.to_string(), None)]) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100_000, "the disk is full and it never says so");
    };
    assert!(matches!(refused, Error::DiskFull { .. }), "{refused}");
    drop(first);
    let mut second = engine(&disk, &clock);
    let consumer = one(&mut second, vec![Op::Register(spec())]).unwrap().registered.unwrap();
    let stream = StreamId(1);
    let ranges = vec![(Sequence(1), Sequence(taken))];
    one(&mut second, vec![Op::Ack { consumer, stream, ranges }]).unwrap();
    assert_eq!(second.index().live_bytes(), second.index().meta.state_bytes());
    disk.set_capacity(u64::MAX);
    one(&mut second, vec![publish()]).unwrap();
}

#[test]
fn a_disk_that_fails_is_not_told_as_a_full_one() {
    let (disk, clock) = (Arc::new(SimulatedDisk::new(0)), clock());
    let mut first = engine(&disk, &clock);
    one(&mut first, vec![set("k", None)]).unwrap();
    disk.set_capacity(disk.used());
    while first.disk.open("reserve").unwrap().len().unwrap() == 1 << 20 {
        one(&mut first, vec![Op::Register(spec())]).unwrap();
        first.checkpoint();
    }
    disk.fail_after(0);
    let refused = one(&mut first, vec![set("k", None)]).unwrap_err();
    assert!(matches!(refused, Error::Poisoned { .. }), "{refused}");
}

#[test]
fn whoever_else_fills_the_disk_does_not_get_what_is_held_back() {
    let (disk, clock) = (Arc::new(SimulatedDisk::new(0)), clock());
    let mut first = engine(&disk, &clock);
    for number in 0..40 {
        disk.set_capacity(disk.used());
        one(&mut first, vec![Op::Register(ConsumerSpec { name: number.to_string(), ..spec() })])
            .unwrap();
        first.checkpoint();
    }
    assert_eq!(first.poisoned(), None);
    assert!(first.disk.open("reserve").unwrap().len().unwrap() < 1 << 20);
}

#[test]
fn a_store_without_room_to_be_opened_says_so_and_is_whole() {
    let (disk, clock) = (Arc::new(SimulatedDisk::new(0)), clock());
    let mut first = engine(&disk, &clock);
    one(&mut first, vec![set("k", None)]).unwrap();
    drop(first);
    disk.open("reserve").unwrap().set_len(0).unwrap();
    disk.set_capacity(disk.used());
    let refused = try_engine(&disk, &clock).err().unwrap();
    assert!(matches!(refused, OpenError::DiskFull { .. }), "{refused}");
    disk.set_capacity(u64::MAX);
    assert!(engine(&disk, &clock).reader().state("s", "k", 0).unwrap().is_some());
}

fn spec() -> ConsumerSpec {
    ConsumerSpec {
        name: "c".into(),
        kind: ConsumerKind::App,
        filters: vec![Filter { component: "pubsub".into(), topic: "t".into() }],
        dead_letter: None,
    }
}
