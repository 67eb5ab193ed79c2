//! A journal whose frames are whole, and whose records are anything.

use std::sync::Arc;

use store_forward::clock::{ManualClock, Reading};
use store_forward::disk::MemoryDisk;
use store_forward::engine::{Engine, OpenError, Options, Request};
use store_forward::ids::Lsn;
use store_forward::journal::{Journal, JournalOptions};
use store_forward::limits::Limits;
use store_forward::record::{NewMessage, Op, Topic};

use super::input::Input;
use super::journal::segments;

const SEGMENT_BYTES: u64 = 64 << 10;

/// Payloads, each after its length. The store opens and works, or refuses and leaves the journal
/// as it is.
pub(super) fn run(data: &[u8]) {
    let disk = Arc::new(MemoryDisk::new());
    write(&disk, data);
    let before = segments(&disk);
    match open(&disk) {
        Ok(engine) => work(engine),
        Err(_) => assert_eq!(segments(&disk), before, "a store that is refused was changed"),
    }
}

fn write(disk: &Arc<MemoryDisk>, data: &[u8]) {
    let options = JournalOptions { segment_bytes: SEGMENT_BYTES };
    let (mut journal, _) =
        Journal::open(disk.clone(), options, Lsn(0), &mut |_, _| Ok(())).expect("it is empty");
    let mut input = Input(data);
    while let Some(len) = input.byte() {
        journal.append(input.bytes(usize::from(len))).expect("it fits");
    }
    journal.sync().expect("memory doesn't fail");
}

fn open(disk: &Arc<MemoryDisk>) -> Result<Engine, OpenError> {
    let limits = Limits {
        segment_bytes: SEGMENT_BYTES,
        reserve_bytes: 0,
        cache_bytes: 64 << 10,
        ..Limits::default()
    };
    let reading = Reading { wall_ms: 1_767_225_600_000, up_ms: 1000, believed: true };
    let clock = Arc::new(ManualClock::new(reading, "boot"));
    Engine::open(Options { node: None, limits, volatile: false }, disk.clone(), clock)
}

/// Whatever was replayed, the engine takes what is asked of it, or says why not.
fn work(mut engine: Engine) {
    engine.maintain();
    let message = NewMessage { data: b"data".to_vec(), ..NewMessage::default() };
    let ops = vec![Op::Publish { topic: Topic::new("pubsub", "topic"), message }];
    for answer in engine.commit(&[Request { ops, durable: true }]) {
        assert!(answer.is_ok() || engine.poisoned().is_none(), "{answer:?}");
    }
}
