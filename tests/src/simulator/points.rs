//! Crash at every point: short workloads, cut at each change to the disk, and again at each change
//! of the recovery that follows.

use std::time::Duration;
use store_forward::disk::{Cut, Disk};
use store_forward::engine::Request;
use store_forward::ids::{ConsumerId, Sequence, StreamId};
use store_forward::limits::{Limits, Overflow, StreamLimits};
use store_forward::record::{Condition, NewMessage, Op, Record, Topic};

use super::clients;
use super::device::{Device, Step, Stop};

type Work = fn(&mut Device) -> Step<()>;

/// The workloads, and whether they begin with an empty disk.
const WORKLOADS: [(&str, Work, bool); 8] = [
    ("first creation", |_| Ok(()), true),
    ("publish", publish, false),
    ("save and transact", save, false),
    ("checkpoint", checkpoint, false),
    ("segment recycle", recycle, false),
    ("overflow", overflow, false),
    ("expiry", expiry, false),
    ("damage set aside", damage, false),
];

/// The names of the workloads.
pub fn workloads() -> impl Iterator<Item = &'static str> {
    WORKLOADS.iter().map(|(name, ..)| *name)
}

/// Cuts the power at every change of a workload, and after each of these at every change of the
/// recovery; says how many power cuts that were.
///
/// # Errors
/// Where it was cut, and what was wrong then.
pub fn every_point(workload: &str) -> Result<u64, String> {
    let found = WORKLOADS.iter().find(|(name, ..)| *name == workload);
    let (_, work, fresh) = found.ok_or_else(|| format!("no workload {workload}"))?;
    let started = start(*fresh)?;
    let mut whole = started.fork();
    let before = whole.disk.changes();
    wrong(live(&mut whole, *work, None))?;
    let changes = whole.disk.changes() - before;
    let mut cuts = 0;
    for at in 0..=changes {
        for cut in [Cut::KeepAll, Cut::DropAll, Cut::Prefix, Cut::Mixed] {
            let place = |stop| format!("{workload}, {cut:?} at change {at} of {changes}: {stop}");
            cuts += point(&started, *work, at, cut).map_err(place)?;
        }
    }
    Ok(cuts)
}

/// One cut in a workload, then one at each change of the recovery, each followed by a whole one.
fn point(started: &Device, work: Work, at: u64, cut: Cut) -> Result<u64, String> {
    let mut device = started.fork();
    device.disk.reseed(at);
    wrong(live(&mut device, work, Some(at)))?;
    device.cut(cut, WALL_MS);
    let changes = device.changes_to_open();
    for again in 0..changes {
        let mut device = device.fork();
        device.disk.reseed(again);
        let place =
            |wrong: String| format!("then at change {again} of {changes} of recovery: {wrong}");
        wrong(device.open_and_fail(again)).map_err(place)?;
        device.cut(Cut::Mixed, WALL_MS);
        wrong(device.open()).map_err(place)?;
    }
    wrong(device.open())?;
    Ok(1 + changes)
}

const WALL_MS: i64 = 1_800_000_000_000;

fn wrong(done: Step<()>) -> Result<(), String> {
    match done {
        Err(Stop::Wrong(wrong)) => Err(wrong),
        Ok(()) | Err(Stop::Interrupted) => Ok(()),
    }
}

/// Lives until so many changes to the disk were made.
fn live(device: &mut Device, work: Work, until: Option<u64>) -> Step<()> {
    match until {
        Some(until) if device.ledger.now.lsn == 0 => return device.open_and_fail(until),
        Some(until) => device.disk.fail_after(until),
        None => {}
    }
    device.open()?;
    work(device)
}

/// A device that has been used a little and is switched off, or a new one.
fn start(fresh: bool) -> Result<Device, String> {
    let limits = Limits {
        segment_bytes: 8192,
        checkpoint_bytes: 4000,
        reserve_bytes: 64 << 10,
        cache_bytes: 64 << 10,
        ..Limits::default()
    };
    fastrand::seed(1);
    let mut device = Device::new(limits, 1);
    if !fresh {
        let used = device.open().and_then(|()| {
            let limits = StreamLimits { max_messages: 3, ..StreamLimits::default() };
            let limits = StreamLimits { overflow: Overflow::DropOldest, ..limits };
            let configure = Op::Configure { component: "oldest".into(), limits };
            let register = Op::Register(clients::consumer(0));
            commit(&mut device, vec![configure, register])?;
            commit(&mut device, vec![message(1, None)])
        });
        wrong(used)?;
        device.stop();
    }
    Ok(device)
}

fn publish(device: &mut Device) -> Step<()> {
    for number in 10..14 {
        commit(device, vec![message(number, None), message(number + 10, None)])?;
    }
    let ranges = vec![(Sequence(1), Sequence(3))];
    let ack = Op::Ack { consumer: ConsumerId(1), stream: StreamId(1), ranges };
    device.commit(&[Request { ops: vec![ack], durable: false }]).map(drop)
}

fn save(device: &mut Device) -> Step<()> {
    for number in 10..13 {
        commit(device, vec![set(number, 100)])?;
        commit(device, vec![set(number, 900), set(number + 10, 20), message(number, None)])?;
    }
    Ok(())
}

fn checkpoint(device: &mut Device) -> Step<()> {
    for number in 10..13 {
        commit(device, vec![set(number, 700)])?;
        device.checkpoint()?;
    }
    Ok(())
}

fn recycle(device: &mut Device) -> Step<()> {
    for number in 10..17 {
        commit(device, vec![set(number, 1500)])?;
        device.maintain()?;
    }
    Ok(())
}

fn overflow(device: &mut Device) -> Step<()> {
    for number in 10..15 {
        commit(device, vec![message(number, None)])?;
    }
    Ok(())
}

fn expiry(device: &mut Device) -> Step<()> {
    commit(device, vec![message(10, Some(500)), message(11, None), set(10, 20)])?;
    device.clock.advance(Duration::from_secs(3));
    device.maintain()?;
    commit(device, vec![message(12, Some(500))])?;
    device.clock.advance(Duration::from_secs(3));
    device.maintain().map(drop)
}

/// A record that was synced is damaged while the device is off: it is set aside, the rest stands.
fn damage(device: &mut Device) -> Step<()> {
    commit(device, vec![set(10, 40)])?;
    let before = device.ledger.clone();
    let at = device.timestamp();
    commit(device, vec![set(11, 900)])?;
    let (next, after) = (device.timestamp(), vec![set(12, 40)]);
    commit(device, after.clone())?;
    device.kill();
    if !flip(device, 11) {
        return Err(Stop::Wrong("the record to damage is not there".into()));
    }
    device.ledger = before;
    device.ledger.push(Record { at, ops: Vec::new() });
    device.ledger.push(Record { at: next, ops: after });
    device.ledger.is_durable();
    device.is_damaged = true;
    device.open()
}

/// Damages the value that [`set`] made of a number, durably, even where the disk is to fail.
fn flip(device: &Device, number: u8) -> bool {
    let names = device.disk.list().unwrap_or_default();
    for name in names.iter().filter(|name| name.starts_with("journal-")) {
        let Ok(file) = device.disk.open(name) else { continue };
        let len = usize::try_from(file.len().unwrap_or(0)).expect("a segment is small");
        let mut bytes = vec![0; len];
        let read = file.read_at(0, &mut bytes);
        let place = bytes.windows(64).position(|window| window.iter().all(|byte| *byte == number));
        if let (Ok(()), Some(place)) = (read, place) {
            return file.write_at(place as u64, &[0]).and_then(|()| file.sync()).is_ok();
        }
    }
    false
}

fn commit(device: &mut Device, ops: Vec<Op>) -> Step<()> {
    device.commit(&[Request { ops, durable: true }]).map(drop)
}

fn message(number: u8, ttl_ms: Option<u64>) -> Op {
    let data = vec![number; 30 + usize::from(number) * 20];
    Op::Publish {
        topic: Topic::new("oldest", "b"),
        message: NewMessage { ttl_ms, data, ..NewMessage::default() },
    }
}

fn set(number: u8, bytes: usize) -> Op {
    let (component, key) = ("state".into(), format!("k{number}"));
    Op::Set { component, key, value: vec![number; bytes], when: Condition::Any, ttl_ms: None }
}
