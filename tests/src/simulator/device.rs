//! A device: a disk, a clock and, while it runs, an engine; beside it the ledger of what must hold.

use std::sync::Arc;

use store_forward::Error;
use store_forward::clock::{Clock, ManualClock, Reading};
use store_forward::disk::{Cut, SimulatedDisk};
use store_forward::engine::{Committed, Engine, OpenError, Options, Request};
use store_forward::ids::{Epoch, NodeId};
use store_forward::limits::Limits;
use store_forward::record::{Op, Record, Retention, Timestamp};

use super::check::{Verdict, compare};
use super::ledger::{Candidate, Ledger};
use super::model::{Effect, Model, Refusal, grows, refusal};

/// The longest time off that one boot adds to device time.
const MAX_OFF_MS: i64 = 7 * 24 * 3600 * 1000;
/// 2026-01-01: a wall clock that shows less is not believed.
const FLOOR_MS: i64 = 1_767_225_600_000;

/// The machine.
pub(crate) struct Device {
    pub(crate) disk: Arc<SimulatedDisk>,
    pub(crate) clock: ManualClock,
    pub(crate) limits: Limits,
    pub(crate) ledger: Ledger,
    engine: Option<Engine>,
    epoch: Option<Epoch>,
    boots: u32,
    /// How often the power was cut.
    pub(crate) cuts: u64,
    /// Damage was done to the journal: it is to be reported.
    pub(crate) is_damaged: bool,
}

/// How a step of the device ended.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The disk failed as it was told to, or has no room for a start: the store is of no use until it is opened again.
    Interrupted,
    /// The store is wrong.
    Wrong(String),
}

impl From<String> for Stop {
    fn from(wrong: String) -> Self {
        Self::Wrong(wrong)
    }
}

pub(crate) type Step<T> = Result<T, Stop>;

impl Device {
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        let reading = Reading { wall_ms: FLOOR_MS, up_ms: 5_000, believed: true };
        Self {
            disk: Arc::new(SimulatedDisk::new(seed)),
            clock: ManualClock::new(reading, "boot-0"),
            limits,
            ledger: Ledger::default(),
            engine: None,
            epoch: None,
            boots: 0,
            cuts: 0,
            is_damaged: false,
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("the device runs")
    }

    /// Whether a process has the store open.
    pub(crate) fn is_on(&self) -> bool {
        self.engine.is_some()
    }

    /// Whether the store stands and takes writes.
    pub(crate) fn runs(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.poisoned().is_none())
    }

    /// Commits requests in one go, and holds the answers against the model.
    pub(crate) fn commit(&mut self, requests: &[Request]) -> Step<Vec<Result<Committed, Refusal>>> {
        let at = self.timestamp();
        let engine = self.engine.as_mut().expect("the device runs");
        let refusals = self.disk.refusals();
        let answers = engine.commit(requests);
        let is_full = self.disk.refusals() > refusals;
        if engine.poisoned().is_some() {
            self.ledger.interrupted(under_way(&self.ledger.now, &self.limits, at, requests));
            return Err(self.failed(answers.iter().any(Result::is_ok)));
        }
        let mut durable = false;
        let mut told = Vec::new();
        for (request, answer) in requests.iter().zip(answers) {
            // A message may be delivered from now on: it must not be lost either.
            let publishes = answer.as_ref().is_ok_and(|done| !done.published.is_empty());
            durable |= publishes || (request.durable && answer.is_ok());
            told.push(self.answered(at, request, answer, is_full)?);
        }
        if durable {
            self.ledger.is_durable();
        }
        Ok(told)
    }

    /// Sweeps and checkpoints where that is due.
    pub(crate) fn maintain(&mut self) -> Step<Vec<(u32, u64)>> {
        let at = self.timestamp();
        let engine = self.engine.as_mut().expect("the device runs");
        let before = engine.last_lsn();
        let letters = engine.maintain();
        let (swept, failed) = (engine.last_lsn() > before, engine.poisoned().is_some());
        let retention = self.limits.retention();
        let record = Record { at, ops: vec![Op::Expire { limit: 1000, retention }] };
        if failed {
            self.ledger.interrupted(vec![vec![record]]);
            return Err(self.failed(false));
        }
        if !swept {
            return Ok(Vec::new());
        }
        let effect = self.ledger.push(record);
        let letters: Vec<_> = letters.iter().map(|p| (p.stream.0, p.sequence.0)).collect();
        if effect.published != letters {
            let expected = effect.published;
            return Err(Stop::Wrong(format!("sweep sent {letters:?} instead of {expected:?}")));
        }
        if !letters.is_empty() {
            self.ledger.is_durable();
        }
        Ok(letters)
    }

    /// Makes everything durable.
    pub(crate) fn checkpoint(&mut self) -> Step<()> {
        let engine = self.engine.as_mut().expect("the device runs");
        engine.checkpoint();
        if engine.poisoned().is_some() {
            return Err(self.failed(false));
        }
        self.ledger.is_durable();
        Ok(())
    }

    /// Everything in the store is as it should be.
    pub(crate) fn check(&self) -> Verdict {
        compare(self.engine(), &self.ledger.now)
    }

    /// Ends the process at once. What it wrote stays in the cache.
    pub(crate) fn kill(&mut self) {
        self.disk.fail_after(0);
        self.engine = None;
        self.disk.restart();
    }

    /// Ends the process in good order.
    pub(crate) fn stop(&mut self) {
        self.engine = None;
        self.disk.restart();
    }

    /// Cuts the power; the next boot's wall clock shows `wall_ms`.
    pub(crate) fn cut(&mut self, cut: Cut, wall_ms: i64) {
        self.disk.fail_after(0);
        self.engine = None;
        self.disk.cut(cut);
        self.boots += 1;
        self.cuts += 1;
        self.clock.reboot(&format!("boot-{}", self.boots), wall_ms, wall_ms >= FLOOR_MS);
    }

    /// Opens the store and checks all of it.
    pub(crate) fn open(&mut self) -> Step<()> {
        let before = (self.disk.capacity() != u64::MAX).then(|| self.disk.fork());
        let recovered = self.recover(&self.disk);
        if let (Some(before), Err(Stop::Interrupted)) = (before, &recovered) {
            return self.is_refused(before);
        }
        let (engine, found, introduction) = recovered?;
        self.ledger.settle(found);
        if let Some(record) = introduction {
            self.ledger.push(record);
        }
        self.ledger.is_durable();
        self.epoch = Some(engine.identity().1);
        self.engine = Some(engine);
        Ok(())
    }

    /// Opens the store on a disk that is gone after so many changes. A look at what there is, on a
    /// copy, has shown what a whole recovery finds; one that was cut off must find the same again.
    pub(crate) fn open_and_fail(&mut self, after: u64) -> Step<()> {
        let looked = self.recover(&Arc::new(self.disk.fork()));
        if let Err(Stop::Interrupted) = looked {
            return self.is_refused(self.disk.fork());
        }
        let (copy, found, introduction) = looked?;
        drop(copy);
        self.ledger.settle(found);
        self.disk.fail_after(after);
        let opened = self.try_open(Arc::clone(&self.disk));
        let whole = opened.as_ref().is_ok_and(|engine| engine.poisoned().is_none());
        let struck = self.disk.has_failed();
        drop(opened);
        if !whole && !struck {
            return Err(Stop::Wrong("the store opens on a copy and not itself".into()));
        }
        match (introduction, whole) {
            (Some(record), true) => drop(self.ledger.push(record)),
            (Some(record), false) => self.ledger.interrupted(vec![vec![record]]),
            (None, _) => {}
        }
        if whole {
            self.ledger.is_durable();
        }
        Err(Stop::Interrupted)
    }

    /// Another process took all the room. The store may be refused for that reason alone, until
    /// there is some, and without harm: with room it would have opened as it was.
    fn is_refused(&mut self, before: SimulatedDisk) -> Step<()> {
        before.set_capacity(u64::MAX);
        let (opened, found, introduction) = self.recover(&Arc::new(before))?;
        drop(opened);
        self.ledger.settle(found);
        self.ledger.interrupted(introduction.into_iter().map(|record| vec![record]).collect());
        self.disk.set_capacity(u64::MAX);
        Err(Stop::Interrupted)
    }

    /// Another device in the same state, switched off.
    pub(crate) fn fork(&self) -> Self {
        let clock = ManualClock::new(self.clock.read(), &self.clock.boot_id());
        Self {
            disk: Arc::new(self.disk.fork()),
            clock,
            limits: self.limits.clone(),
            ledger: self.ledger.clone(),
            engine: None,
            ..*self
        }
    }

    /// How many changes opening makes to the disk.
    pub(crate) fn changes_to_open(&self) -> u64 {
        let copy = Arc::new(self.disk.fork());
        let before = copy.changes();
        drop(self.try_open(Arc::clone(&copy)));
        copy.changes() - before
    }

    pub(crate) fn retention(&self) -> Retention {
        self.limits.retention()
    }

    fn recover(&self, disk: &Arc<SimulatedDisk>) -> Step<(Engine, Candidate, Option<Record>)> {
        let refusals = disk.refusals();
        let engine = match self.try_open(Arc::clone(disk)) {
            Ok(engine) if engine.poisoned().is_none() => engine,
            Ok(_) | Err(_) if disk.has_failed() => return Err(Stop::Interrupted),
            Err(OpenError::DiskFull { .. }) if disk.refusals() > refusals => {
                return Err(Stop::Interrupted);
            }
            Ok(engine) => {
                let cause = engine.poisoned().unwrap_or_default().to_owned();
                return Err(Stop::Wrong(format!("the store is read-only once opened: {cause}")));
            }
            Err(error) => return Err(Stop::Wrong(format!("the store doesn't open: {error}"))),
        };
        let recovery = engine.recovery();
        if !recovery.damage.is_empty() && !self.is_damaged {
            let damage = &recovery.damage;
            return Err(Stop::Wrong(format!("damage is reported where there is none: {damage:?}")));
        }
        // Where records are lost the store takes a new one.
        let same = self.epoch.is_none_or(|epoch| epoch == engine.identity().1);
        if !same && !self.is_damaged {
            return Err(Stop::Wrong("the store has another epoch".into()));
        }
        let mut wrong = String::new();
        for candidate in self.ledger.candidates(recovery.last.0)? {
            let mut model = candidate.model.clone();
            let introduction = self.introduction(&model, recovery.is_lossy());
            if let Some(record) = &introduction {
                model.apply(record);
            }
            match compare(&engine, &model) {
                Ok(()) => return Ok((engine, candidate, introduction)),
                Err(other) => wrong = other,
            }
        }
        Err(Stop::Wrong(format!("after recovery: {wrong}")))
    }

    fn try_open(&self, disk: Arc<SimulatedDisk>) -> Result<Engine, OpenError> {
        let node = Some(NodeId("device".into()));
        let options = Options { node, limits: self.limits.clone(), volatile: false };
        Engine::open(options, disk, Arc::new(self.clock.clone()))
    }

    /// What opening writes down about the store and the boot.
    fn introduction(&self, model: &Model, lost: bool) -> Option<Record> {
        let at = self.timestamp_in(model);
        let mut ops = Vec::new();
        if !model.created || lost {
            ops.push(Op::Create { node: NodeId("device".into()), epoch: Epoch(1) });
        }
        let id = self.clock.boot_id();
        if model.boot_id != id {
            ops.push(Op::Boot { id, base_ms: self.base_of_new_boot(model) });
        }
        if model.consumers.values().any(|reader| reader.idle.is_some()) {
            ops.push(Op::Resume);
        }
        (!ops.is_empty()).then_some(Record { at, ops })
    }

    /// Device time goes on where the last record left it; time off counts if both clocks were
    /// right, up to a week.
    fn base_of_new_boot(&self, model: &Model) -> u64 {
        if model.boot == 0 {
            return 0;
        }
        let now = self.clock.read();
        let up = i64::try_from(now.up_ms).expect("a boot is short");
        let off = (now.wall_ms - up - model.last.wall_ms).clamp(0, MAX_OFF_MS);
        let counts = now.believed && model.last.believed;
        let off = if counts { u64::try_from(off).expect("it is not negative") } else { 0 };
        model.base_ms + model.last.up_ms + off
    }

    /// What a record that is written now is marked with.
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.timestamp_in(&self.ledger.now)
    }

    fn timestamp_in(&self, model: &Model) -> Timestamp {
        let Reading { wall_ms, up_ms, believed } = self.clock.read();
        Timestamp { wall_ms, boot: model.boot, up_ms, believed }
    }

    /// The engine takes no more: that must be the disk's doing, and final.
    fn failed(&mut self, answered: bool) -> Stop {
        let engine = self.engine.as_mut().expect("the device runs");
        let cause = engine.poisoned().unwrap_or_default().to_owned();
        if answered {
            return Stop::Wrong(format!("something was answered though the store failed: {cause}"));
        }
        if !self.disk.has_failed() {
            return Stop::Wrong(format!("the store refuses writes though its disk works: {cause}"));
        }
        let more = engine.commit(&[Request { ops: Vec::new(), durable: true }]).remove(0);
        if !more.is_err_and(|error| refusal(&error) == Refusal::Poisoned) {
            return Stop::Wrong(format!("the store goes on after its disk failed: {cause}"));
        }
        Stop::Interrupted
    }

    fn answered(
        &mut self,
        at: Timestamp,
        request: &Request,
        answer: Result<Committed, Error>,
        is_full: bool,
    ) -> Step<Result<Committed, Refusal>> {
        let now_ms = self.ledger.now.device_ms(at.up_ms);
        let expected = self.ledger.now.admit(&request.ops, now_ms);
        let expected = expected.and_then(|()| fits(&self.limits, at, &request.ops));
        match (answer.as_ref().map_err(refusal), expected) {
            (Err(Refusal::NoSpace), _) if request.ops.iter().any(grows) && is_full => {
                Ok(Err(Refusal::NoSpace))
            }
            (Err(found), Err(expected)) if found == expected => Ok(Err(found)),
            (Ok(done), Ok(())) => {
                let effect = self.ledger.push(Record { at, ops: request.ops.clone() });
                let found = Effect {
                    published: done.published.iter().map(|p| (p.stream.0, p.sequence.0)).collect(),
                    registered: done.registered.map(|id| id.0),
                    forgotten: done.forgotten.map(|f| (f.deleted, f.kept)),
                };
                let lsn = self.ledger.now.lsn;
                if (done.lsn.0, &found) != (lsn, &effect) {
                    let wrong = format!("record {lsn} did {found:?} instead of {effect:?}");
                    return Err(Stop::Wrong(wrong));
                }
                Ok(Ok(answer.expect("it was just matched")))
            }
            (found, expected) => {
                let found = answer.as_ref().map(|_| ()).map_err(|_| found.err());
                let ops = &request.ops;
                Err(Stop::Wrong(format!(
                    "{ops:?} got {found:?} ({answer:?}) instead of {expected:?}"
                )))
            }
        }
    }
}

/// What a batch may have written when it failed: all that may be admitted, or without what the disk
/// had no room for.
fn under_way(
    model: &Model,
    limits: &Limits,
    at: Timestamp,
    requests: &[Request],
) -> Vec<Vec<Record>> {
    let admitted = |all: bool| {
        let mut model = model.clone();
        let mut records = Vec::new();
        for request in requests.iter().filter(|request| all || !request.ops.iter().any(grows)) {
            let admitted = model.admit(&request.ops, model.device_ms(at.up_ms));
            if admitted.and_then(|()| fits(limits, at, &request.ops)).is_ok() {
                let record = Record { at, ops: request.ops.clone() };
                model.apply(&record);
                records.push(record);
            }
        }
        records
    };
    vec![admitted(true), admitted(false)]
}

/// Whether a record fits in a segment: its header page takes 4096 bytes, a frame's header 24.
fn fits(limits: &Limits, at: Timestamp, ops: &[Op]) -> Result<(), Refusal> {
    let bytes = postcard::to_stdvec(&(at, ops)).expect("a record can be encoded").len() as u64;
    if bytes + 4096 + 24 <= limits.segment_bytes { Ok(()) } else { Err(Refusal::TooLarge) }
}
