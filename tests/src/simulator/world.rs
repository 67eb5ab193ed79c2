//! The world of a run: a device, its clients, the far sides of its consumers, and what goes wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use store_forward::backoff::Backoff;
use store_forward::clock::Clock;
use store_forward::consumer::{Policy, ReadAhead};
use store_forward::disk::Cut;
use store_forward::engine::{Committed, Request};
use store_forward::record::{ConsumerSpec, InactiveReason, Op};

use super::clients::{self, Clients};
use super::courier::{Courier, Delivered, Mood};
use super::device::{Device, Step as Done, Stop};
use super::model::Refusal;
use super::script::{Kind, Step};

/// How often a consumer is served before its queue must be empty.
const ROUNDS: usize = 400;
/// Requests in one commit.
const BATCH: usize = 5;
const YEAR_MS: i64 = 365 * 24 * 3600 * 1000;

/// Everything there is.
pub(crate) struct World {
    pub(crate) device: Device,
    clients: Clients,
    couriers: BTreeMap<String, Courier>,
    /// Acknowledgements that wait to be written.
    waiting: Vec<Request>,
    delivered: Delivered,
    configuration: Vec<Op>,
    random: Rng,
    wall_ms: i64,
    /// What happened, for whoever reads a failure.
    pub(crate) trace: Vec<String>,
    pub(crate) traced: bool,
}

impl World {
    /// A device that was never switched on.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        fastrand::seed(seed);
        let limits = clients::limits(&mut random);
        Self {
            device: Device::new(limits, random.u64(..)),
            clients: Clients::default(),
            couriers: BTreeMap::new(),
            waiting: Vec::new(),
            delivered: Delivered::default(),
            configuration: clients::configuration(&mut random),
            random,
            wall_ms: 1_800_000_000_000,
            trace: Vec::new(),
            traced: false,
        }
    }

    /// Does one step, and whatever recovery it calls for.
    pub(crate) fn run(&mut self, step: Step) -> Result<(), String> {
        self.random = Rng::with_seed(step.seed);
        self.device.disk.reseed(self.random.u64(..));
        self.note(|| format!("{:?}", step.kind));
        let done = match self.device.runs() {
            true => self.act(step.kind),
            false => Err(Stop::Interrupted),
        };
        match done {
            Ok(()) => Ok(()),
            Err(Stop::Wrong(wrong)) => Err(wrong),
            Err(Stop::Interrupted) => self.recover(),
        }
    }

    /// The faults stop: the queues drain, and the store comes to rest.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        self.device.disk.mend();
        self.device.disk.set_capacity(u64::MAX);
        if !self.device.runs() {
            self.recover()?;
        }
        self.device.disk.mend();
        self.drain().map_err(|stop| match stop {
            Stop::Wrong(wrong) => format!("after the faults: {wrong}"),
            Stop::Interrupted => "the store failed after the faults".to_owned(),
        })?;
        self.device.check()?;
        self.note(|| "the last power cut".to_owned());
        self.device.cut(Cut::Mixed, self.wall_ms);
        self.recover()
    }

    fn act(&mut self, kind: Kind) -> Done<()> {
        match kind {
            Kind::Publish => {
                let request = self.clients.publish(&mut self.random);
                self.commit(vec![request])
            }
            Kind::Save => {
                let request = self.clients.save(&mut self.random, &self.device.ledger.now);
                self.commit(vec![request])
            }
            Kind::Transact => {
                let request = self.clients.transact(&mut self.random, &self.device.ledger.now);
                self.commit(vec![request])
            }
            Kind::Batch => self.batch(),
            Kind::Deliver => self.deliver(),
            Kind::Land => self.land(),
            Kind::Settle => self.commit(Vec::new()),
            Kind::Wait => self.wait(),
            Kind::Jump => {
                self.jump();
                Ok(())
            }
            Kind::Maintain => self.maintain(),
            Kind::Checkpoint => self.device.checkpoint(),
            Kind::Register => self.register(),
            Kind::Read => self.read(),
            Kind::Cut => Err(Stop::Interrupted),
            Kind::CutSoon => {
                let after = self.random.u64(0..12);
                self.device.disk.fail_after(after);
                Ok(())
            }
            Kind::FailWrite => {
                self.device.disk.fail_a_write_after(self.random.u64(0..12));
                Ok(())
            }
            Kind::FailSync => {
                self.device.disk.fail_a_sync_after(self.random.u64(0..4));
                Ok(())
            }
            Kind::Kill => {
                self.device.kill();
                Err(Stop::Interrupted)
            }
            Kind::Restart => {
                self.device.stop();
                Err(Stop::Interrupted)
            }
            Kind::Fill => {
                self.fill();
                Ok(())
            }
        }
    }

    fn commit(&mut self, requests: Vec<Request>) -> Done<()> {
        self.ask(requests).map(drop)
    }

    /// Commits what waits and `requests`; says how the last of these fared.
    fn ask(&mut self, requests: Vec<Request>) -> Done<Option<Result<Committed, Refusal>>> {
        let mut last = None;
        let mut all = std::mem::take(&mut self.waiting);
        all.extend(requests);
        let most = self.device.engine().commit_bytes();
        while !all.is_empty() {
            let mut bytes = 0;
            let fits = |request: &&Request| {
                bytes += size(request);
                bytes <= most
            };
            let count = all.iter().take(BATCH).take_while(fits).count().max(1);
            let batch: Vec<Request> = all.drain(..count).collect();
            self.note(|| format!("  commit {batch:?}"));
            for answer in self.device.commit(&batch)? {
                let published = answer.iter().flat_map(|done| &done.published);
                let streams: Vec<u32> = published.map(|published| published.stream.0).collect();
                self.note(|| format!("  -> {:?}", answer.as_ref().map(|done| done.lsn)));
                self.announce(streams);
                last = Some(answer);
            }
        }
        Ok(last)
    }

    fn announce(&mut self, streams: impl IntoIterator<Item = u32>) {
        for stream in streams {
            let readers = self.device.ledger.now.readers(stream);
            for courier in self.couriers.values_mut().filter(|c| readers.contains(&c.id)) {
                courier.tell(stream);
            }
        }
    }

    fn batch(&mut self) -> Done<()> {
        let count = self.random.usize(2..=BATCH);
        let requests = (0..count)
            .map(|_| self.clients.any(&mut self.random, &self.device.ledger.now))
            .collect();
        self.commit(requests)
    }

    fn deliver(&mut self) -> Done<()> {
        let most = self.random.usize(1..6);
        let now = self.uptime();
        let names: Vec<String> = self.couriers.keys().cloned().collect();
        let Some(name) = self.random.choice(&names) else { return Ok(()) };
        self.hand_over(name, now, most)
    }

    fn hand_over(&mut self, name: &str, now: Duration, most: usize) -> Done<()> {
        let Some(courier) = self.couriers.get_mut(name) else { return Ok(()) };
        let (engine, model) = (self.device.engine(), &self.device.ledger.now);
        let sent = courier.hand_over(engine, model, now, most)?;
        for (place, message) in sent {
            self.note(|| format!("  {name} is sent {place:?}"));
            self.delivered.add(place, message)?;
        }
        Ok(())
    }

    fn land(&mut self) -> Done<()> {
        let mood = match self.random.u8(0..10) {
            0 => Mood::Gone,
            1..6 => Mood::Bad,
            _ => Mood::Good,
        };
        let roomier = self.random.u8(0..8) == 0;
        let names: Vec<String> = self.couriers.keys().cloned().collect();
        let Some(name) = self.random.choice(&names) else { return Ok(()) };
        self.answer(name, mood)?;
        if roomier && let Some(courier) = self.couriers.get_mut(name) {
            courier.retry_held();
        }
        if self.random.bool() { self.commit(Vec::new()) } else { Ok(()) }
    }

    fn answer(&mut self, name: &str, mood: Mood) -> Done<()> {
        let now = self.uptime();
        let Some(courier) = self.couriers.get_mut(name) else { return Ok(()) };
        let ops = courier.land(now, mood, &mut self.random)?;
        self.note(|| format!("  {name} answers, {mood:?}: {ops:?}"));
        if !ops.is_empty() {
            self.waiting.push(Request { ops, durable: false });
        }
        Ok(())
    }

    fn wait(&mut self) -> Done<()> {
        let by = match self.random.u8(0..8) {
            0 => Duration::from_secs(self.random.u64(60..7200)),
            1..4 => Duration::from_secs(self.random.u64(1..60)),
            _ => Duration::from_millis(self.random.u64(1..1000)),
        };
        self.note(|| format!("  {by:?}"));
        self.device.clock.advance(by);
        if self.random.bool() { self.maintain() } else { Ok(()) }
    }

    fn maintain(&mut self) -> Done<()> {
        let letters = self.device.maintain()?;
        self.announce(letters.into_iter().map(|(stream, _)| stream));
        Ok(())
    }

    /// What is over its time goes within a second or so.
    fn sweep(&mut self) -> Done<()> {
        for _ in 0..10 {
            self.device.clock.advance(Duration::from_millis(1100));
            self.maintain()?;
        }
        let (engine, model) = (self.device.engine(), &self.device.ledger.now);
        if model.is_overdue(engine.now_ms(), &self.device.retention()) {
            return Err(Stop::Wrong("something is over its time and is not swept".into()));
        }
        Ok(())
    }

    fn jump(&mut self) {
        let by = self.random.i64(-20..=20) * YEAR_MS / 4;
        let wall_ms = (self.device.clock.read().wall_ms + by).max(0);
        self.device.clock.set_wall(wall_ms, wall_ms > 1_767_225_600_000);
    }

    fn register(&mut self) -> Done<()> {
        let spec = clients::consumer(self.random.usize(0..4));
        let name = spec.name.clone();
        let is_known =
            self.device.ledger.now.consumers.values().any(|reader| reader.spec.name == name);
        if !is_known || self.random.bool() {
            return self.enlist(&spec);
        }
        let op = match self.random.u8(0..6) {
            0 => Op::Unregister { name },
            1 => Op::Skip { name },
            2 => Op::Deactivate { name, reason: InactiveReason::NotConfigured },
            3 => Op::Deactivate { name, reason: InactiveReason::NotSubscribed },
            _ => Op::Register(clients::mistyped(&mut self.random, spec.clone())),
        };
        let stale = self.couriers.remove(&spec.name);
        if !matches!(op, Op::Skip { .. } | Op::Register(_)) {
            self.commit(vec![Request { ops: vec![op], durable: true }])?;
            return self.answer_stale(stale);
        }
        // Who goes on has no answers under way.
        if let Some(mut courier) = stale {
            let ops = courier.land(self.uptime(), Mood::Gone, &mut self.random)?;
            self.waiting.extend((!ops.is_empty()).then_some(Request { ops, durable: false }));
        }
        self.commit(vec![Request { ops: vec![op], durable: true }])?;
        let known = self.device.ledger.now.consumers.iter();
        let mut known = known.filter(|(_, r)| r.spec.name == spec.name && r.idle.is_none());
        if let Some((id, reader)) = known.next() {
            let (id, spec) = (*id, reader.spec.clone());
            self.send_courier(id, &spec);
        }
        Ok(())
    }

    fn send_courier(&mut self, id: u32, spec: &ConsumerSpec) {
        let (policy, letters) = (policy(&spec.name), spec.dead_letter.is_some());
        let courier = Courier::new(id, policy, self.device.engine(), letters);
        self.couriers.insert(spec.name.clone(), courier);
    }

    fn enlist(&mut self, spec: &ConsumerSpec) -> Done<()> {
        let ops = vec![Op::Register(spec.clone())];
        let answer = self.ask(vec![Request { ops, durable: true }])?;
        if let Some(Ok(Committed { registered: Some(id), .. })) = answer {
            // A consumer that reads more than before has news at once.
            let backlog = self.device.engine().backlog_of(id);
            match self.couriers.get_mut(&spec.name).filter(|courier| courier.id == id.0) {
                Some(courier) => backlog.into_iter().for_each(|stream| courier.tell(stream.0)),
                None => self.send_courier(id.0, spec),
            }
        }
        Ok(())
    }

    /// A far side answers a consumer that is forgotten, after another one came.
    fn answer_stale(&mut self, stale: Option<Courier>) -> Done<()> {
        let Some(mut courier) = stale else { return Ok(()) };
        let ops = courier.land(self.uptime(), Mood::Good, &mut self.random)?;
        if self.random.bool() {
            let next = clients::consumer(self.random.usize(0..4));
            self.enlist(&next)?;
        }
        if ops.is_empty() {
            return Ok(());
        }
        self.commit(vec![Request { ops, durable: false }])
    }

    fn read(&mut self) -> Done<()> {
        let (component, key) = clients::key(&mut self.random);
        let engine = self.device.engine();
        let row = engine.get(&component, &key).map_err(|error| error.to_string())?;
        let now_ms = engine.now_ms();
        let known = self.device.ledger.now.state.get(&(component, key.clone()));
        let known = known.filter(|value| value.expires_ms == 0 || now_ms < value.expires_ms);
        let found = row.map(|row| (row.etag, row.value));
        let expected = known.map(|value| (value.etag, value.value.clone()));
        if found != expected {
            return Err(Stop::Wrong(format!("{key} reads {found:?} instead of {expected:?}")));
        }
        self.device.check()?;
        Ok(())
    }

    fn fill(&mut self) {
        let disk = &self.device.disk;
        if disk.capacity() == u64::MAX || self.random.bool() {
            disk.set_capacity(disk.used() + self.random.u64(0..40) * 1024);
        } else {
            disk.set_capacity(u64::MAX);
        }
        let capacity = disk.capacity();
        self.note(|| format!("  room for {capacity} bytes"));
    }

    /// The store is gone: the process comes up again, or the machine does, with more power cuts on
    /// the way.
    fn recover(&mut self) -> Result<(), String> {
        self.couriers.clear();
        self.waiting.clear();
        if self.device.is_on() && self.random.u8(0..8) == 0 {
            self.note(|| "  killed".to_owned());
            self.device.kill();
        }
        if self.device.is_on() {
            self.cut();
        }
        let mut left = self.random.usize(0..4).saturating_sub(1);
        loop {
            let opened = if left > 0 {
                left -= 1;
                let after = self.random.u64(0..24);
                self.note(|| format!("  opens and fails after {after}"));
                self.device.open_and_fail(after)
            } else {
                self.note(|| "  opens".to_owned());
                self.device.open()
            };
            match opened {
                Ok(()) => break,
                Err(Stop::Wrong(wrong)) => return Err(wrong),
                Err(Stop::Interrupted) => self.cut(),
            }
        }
        self.delivered.outlives(&self.device.ledger.now)?;
        self.come_up()
    }

    fn cut(&mut self) {
        let all = [Cut::KeepAll, Cut::DropAll, Cut::Prefix, Cut::Mixed, Cut::Mixed, Cut::Mixed];
        let cut = *self.random.choice(&all).unwrap_or(&Cut::Mixed);
        let wall_ms = match self.random.u8(0..4) {
            0 => 0,
            1 => self.wall_ms + self.random.i64(-20..=20) * YEAR_MS / 4,
            _ => self.device.clock.read().wall_ms + self.random.i64(0..100_000),
        };
        self.note(|| format!("  power cut, {cut:?}, the clock shows {wall_ms}"));
        self.device.cut(cut, wall_ms);
    }

    /// What a process does once its store is open.
    fn come_up(&mut self) -> Result<(), String> {
        let done = self.configure().and_then(|()| {
            let known = self.device.ledger.now.consumers.values().cloned().collect::<Vec<_>>();
            for reader in known {
                if reader.idle.is_none() || self.random.bool() {
                    self.enlist(&reader.spec)?;
                }
            }
            Ok(())
        });
        match done {
            Err(Stop::Wrong(wrong)) => Err(wrong),
            Ok(()) | Err(Stop::Interrupted) => Ok(()),
        }
    }

    fn configure(&mut self) -> Done<()> {
        let known = &self.device.ledger.now.limits;
        let news = |op: &&Op| match op {
            Op::Configure { component, limits } => known.get(component) != Some(limits),
            _ => true,
        };
        let ops: Vec<Op> = self.configuration.iter().filter(news).cloned().collect();
        if ops.is_empty() {
            return Ok(());
        }
        self.commit(vec![Request { ops, durable: true }])
    }

    /// With far sides that take everything, all that has a reader goes out; the rest is swept.
    fn drain(&mut self) -> Done<()> {
        self.note(|| "drain".to_owned());
        for spec in (0..4).map(clients::consumer) {
            let consumers = &self.device.ledger.now.consumers;
            if consumers.values().any(|reader| reader.spec.name == spec.name) {
                self.enlist(&spec)?;
            }
        }
        let names: Vec<String> = self.couriers.keys().cloned().collect();
        self.couriers.values_mut().for_each(Courier::retry_held);
        for _ in 0..ROUNDS {
            self.device.clock.advance(Duration::from_secs(61));
            for name in &names {
                let now = self.uptime();
                self.hand_over(name, now, 1000)?;
                while !self.couriers[name].is_idle() {
                    self.answer(name, Mood::Good)?;
                }
                self.answer(name, Mood::Good)?;
            }
            self.commit(Vec::new())?;
            self.maintain()?;
            if self.device.ledger.now.streams.values().all(|stream| stream.kept.is_empty()) {
                return self.rest();
            }
        }
        Err(Stop::Wrong("the queues don't drain".into()))
    }

    /// With nothing to do it does nothing.
    fn rest(&mut self) -> Done<()> {
        self.device.clock.advance(Duration::from_secs(200));
        self.sweep()?;
        self.device.clock.advance(Duration::from_secs(200));
        self.maintain()?;
        self.device.check()?;
        let changes = self.device.disk.changes();
        self.device.clock.advance(Duration::from_secs(200));
        self.maintain()?;
        if self.device.disk.changes() != changes {
            return Err(Stop::Wrong("an idle store writes".into()));
        }
        Ok(())
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(self.device.clock.read().up_ms)
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.traced {
            let line = line();
            self.trace.push(line);
        }
    }
}

/// How a consumer delivers, by its name.
fn policy(name: &str) -> Policy {
    let policy = |window, per_stream, batch, read_ahead| Policy {
        window,
        per_stream,
        batch,
        batch_wait: Duration::ZERO,
        by_key: false,
        backoff: Backoff::default(),
        max_attempts: None,
        read_ahead: Arc::new(ReadAhead::new(read_ahead)),
    };
    match name {
        "uplink/hub" => policy(16, 4, 2, 4096),
        "app/one" => Policy { max_attempts: Some(3), ..policy(8, 1, 1, ReadAhead::DEFAULT_BYTES) },
        "app/two" => Policy { by_key: true, ..policy(8, 4, 1, 2048) },
        _ => Policy { max_attempts: Some(2), ..policy(8, 2, 3, 0) },
    }
}

/// About how many bytes a request brings.
fn size(request: &Request) -> usize {
    let bytes = |op: &Op| match op {
        Op::Set { value, .. } => value.len(),
        Op::Publish { message, .. } => message.data.len(),
        _ => 0,
    };
    request.ops.iter().map(bytes).sum()
}
