//! The way out: a consumer's dispatcher between the store and an unreliable remote.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use store_forward::consumer::dispatch::{Batch, Dispatcher, Settled, Step};
use store_forward::consumer::{Message, Outcome, Policy};
use store_forward::engine::Engine;
use store_forward::ids::{ConsumerId, Sequence, StreamId};
use store_forward::record::Op;

use super::check::Verdict;
use super::model::Model;

type Place = (u32, u64);

/// One incarnation of a consumer: it lives no longer than its process.
pub(crate) struct Courier {
    pub(crate) id: u32,
    policy: Policy,
    dispatcher: Dispatcher,
    news: BTreeSet<u32>,
    /// The lives of the remote so far.
    generation: u64,
    /// Handed over, oldest first.
    flights: Vec<(u32, Vec<Message>)>,
    /// Handed over in this life of the remote, and without an outcome.
    flying: BTreeSet<Place>,
    /// Done with, as this incarnation knows.
    settled: BTreeSet<Place>,
    /// Passed by the others, until it is tried again.
    held: BTreeSet<Place>,
    dead_letters: bool,
    /// When what was read is over its time: then it is for the store, which counts it.
    expiries: BTreeMap<Place, Duration>,
    /// Acknowledged or refused for good by the remote.
    answered: BTreeSet<Place>,
}

/// How the remote takes what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It acknowledges everything.
    Good,
    /// It acknowledges most, refuses some.
    Bad,
    /// The link ends, with everything that is on it.
    Gone,
}

impl Courier {
    /// Starts where the store says.
    pub(crate) fn new(id: u32, policy: Policy, engine: &Engine, dead_letters: bool) -> Self {
        let news = engine.backlog_of(ConsumerId(id)).into_iter().map(|stream| stream.0);
        Self {
            id,
            dispatcher: Dispatcher::new(ConsumerId(id), policy.clone()),
            policy,
            news: news.collect(),
            generation: 1,
            flights: Vec::new(),
            flying: BTreeSet::new(),
            settled: BTreeSet::new(),
            held: BTreeSet::new(),
            dead_letters,
            expiries: BTreeMap::new(),
            answered: BTreeSet::new(),
        }
    }

    /// A stream has grown.
    pub(crate) fn tell(&mut self, stream: u32) {
        self.news.insert(stream);
    }

    /// Reads and hands over what may be sent now, with a slot for each batch; returns it.
    pub(crate) fn hand_over(
        &mut self,
        engine: &Engine,
        model: &Model,
        now: Duration,
        most: usize,
    ) -> Result<Vec<(Place, Message)>, String> {
        self.follow(engine, model, now)?;
        let mut sent = Vec::new();
        for _ in 0..most {
            if !self.dispatcher.admit(self.generation) {
                break;
            }
            let Some(Batch { stream, messages }) = self.next(engine, now)? else { break };
            let messages: Vec<Message> = messages.into_iter().map(|(_, message)| message).collect();
            for message in &messages {
                let place = (stream.0, message.sequence.0);
                self.is_no_needless_repeat(model, place)?;
                self.keeps_order(model, now, stream.0, message)?;
                self.flying.insert(place);
                self.held.remove(&place);
                sent.push((place, message.clone()));
            }
            self.flights.push((stream.0, messages));
        }
        Ok(sent)
    }

    /// The remote answers one of the batches, or its life ends; returns what is to be written down.
    pub(crate) fn land(
        &mut self,
        now: Duration,
        mood: Mood,
        random: &mut fastrand::Rng,
    ) -> Result<Vec<Op>, String> {
        if random.u8(0..4) == 0 {
            self.dispatcher.give_back();
        }
        if mood == Mood::Gone {
            self.generation += 1;
            self.flying.clear();
        }
        let mut ops = Vec::new();
        let count = match (mood, self.flights.len()) {
            (_, 0) => 0,
            // Some may land later, answered before the life ended.
            (Mood::Gone, all) if random.bool() => random.usize(0..=all),
            (Mood::Gone, all) => all,
            _ => 1,
        };
        for _ in 0..count {
            let (stream, messages) = self.flights.remove(random.usize(0..self.flights.len()));
            let outcomes: Vec<(Sequence, Outcome)> = messages
                .iter()
                .map(|message| (message.sequence, outcome(mood, random, self.dead_letters)))
                .collect();
            self.take_note(stream, &outcomes);
            let Settled { ops: settled, .. } =
                self.dispatcher.settle(now, StreamId(stream), outcomes, random.f64());
            ops.extend(settled);
        }
        self.justifies(&ops)?;
        Ok(ops)
    }

    /// The remote's limits have grown.
    pub(crate) fn retry_held(&mut self) {
        self.dispatcher.retry_held();
    }

    /// Nothing is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    fn take_note(&mut self, stream: u32, outcomes: &[(Sequence, Outcome)]) {
        for (sequence, outcome) in outcomes {
            let place = (stream, sequence.0);
            self.flying.remove(&place);
            match outcome {
                Outcome::Ack | Outcome::Reject(_) => {
                    self.settled.insert(place);
                    self.answered.insert(place);
                }
                Outcome::Retry(_) if self.policy.max_attempts.is_some() => {
                    // It may be given up after this attempt.
                    self.answered.insert(place);
                }
                Outcome::Hold(_) => {
                    self.held.insert(place);
                }
                _ => {}
            }
        }
    }

    /// No cursor moves past a message that the remote did not answer.
    fn justifies(&mut self, ops: &[Op]) -> Verdict {
        for op in ops {
            let mut places = Vec::new();
            match op {
                Op::Ack { stream, ranges, .. } => {
                    let all = ranges.iter().flat_map(|(from, to)| from.0..=to.0);
                    places.extend(all.map(|sequence| (stream.0, sequence)));
                }
                Op::Reject { stream, sequence, .. } => places.push((stream.0, sequence.0)),
                _ => {}
            }
            for place in places {
                if !self.answered.contains(&place) {
                    return Err(format!("{place:?} is acknowledged and was not answered"));
                }
                self.settled.insert(place);
            }
        }
        Ok(())
    }

    /// What a consumer is known to have never comes again, neither to this incarnation nor, where
    /// its acknowledgement outlived a crash, to a later one.
    fn is_no_needless_repeat(&self, model: &Model, place: Place) -> Verdict {
        let has = model.consumers.get(&self.id).is_some_and(|reader| reader.has.contains(&place));
        if has || self.settled.contains(&place) || self.flying.contains(&place) {
            return Err(format!("{place:?} is sent again without need"));
        }
        Ok(())
    }

    /// Everything before a message, or everything of its key, was sent before it, and is on its way
    /// or done with.
    fn keeps_order(&self, model: &Model, now: Duration, stream: u32, message: &Message) -> Verdict {
        let (Some(known), Some(reader)) =
            (model.streams.get(&stream), model.consumers.get(&self.id))
        else {
            return Ok(());
        };
        for (sequence, kept) in known.kept.range(..message.sequence.0) {
            let place = (stream, *sequence);
            let bound =
                !self.policy.by_key || (message.key.is_some() && kept.body.key == message.key);
            let sent = self.settled.contains(&place) || self.flying.contains(&place);
            let over = self.expiries.get(&place).is_some_and(|at| *at <= now);
            let sent = sent || self.held.contains(&place);
            if bound && !sent && !over && !reader.has.contains(&place) {
                return Err(format!(
                    "{} overtakes {sequence} in stream {stream}",
                    message.sequence
                ));
            }
        }
        Ok(())
    }

    fn follow(&mut self, engine: &Engine, model: &Model, now: Duration) -> Verdict {
        for stream in std::mem::take(&mut self.news) {
            let id = StreamId(stream);
            if !model.streams.contains_key(&stream) {
                continue;
            }
            if self.dispatcher.follows(id) {
                self.dispatcher.grown(now, id);
            } else {
                let cursor = engine.cursor(ConsumerId(self.id), id);
                self.dispatcher.follow(now, id, cursor.map_err(|error| error.to_string())?);
            }
        }
        Ok(())
    }

    /// Reads until there is a batch. Without one a slot must be of no use now: a consumer would ask
    /// for it for ever.
    fn next(&mut self, engine: &Engine, now: Duration) -> Result<Option<Batch>, String> {
        loop {
            match self.dispatcher.step(now) {
                Step::Read(want) => {
                    let page = engine.page(want.stream, want.after, want.count, want.bytes);
                    let (messages, more) = page.map_err(|error| error.to_string())?;
                    for message in &messages {
                        let left = message.expires_in_ms.map(Duration::from_millis);
                        let place = (want.stream.0, message.sequence.0);
                        self.expiries.extend(left.map(|left| (place, now + left)));
                    }
                    self.dispatcher.read(now, want, messages, more);
                }
                Step::Send(batch) => return Ok(Some(batch)),
                Step::Rest => break,
            }
        }
        match self.dispatcher.wake_at() {
            Some(at) if at <= now => Err("a slot is asked for, and of no use".to_owned()),
            _ => Ok(None),
        }
    }
}

fn outcome(mood: Mood, random: &mut fastrand::Rng, dead_letters: bool) -> Outcome {
    match (mood, random.u8(0..16)) {
        (Mood::Gone, _) => Outcome::Unreachable("the link ended".into()),
        (Mood::Bad, 0..4) => Outcome::Retry("not now".into()),
        (Mood::Bad, 4) => Outcome::Reject("never".into()),
        // With a dead letter topic nothing is held.
        (Mood::Bad, 5..7) if !dead_letters => Outcome::Hold("not of this size".into()),
        _ => Outcome::Ack,
    }
}

/// The messages that remotes have been sent, by place: no place is ever used for two messages.
#[derive(Default)]
pub(crate) struct Delivered(BTreeMap<Place, Message>);

impl Delivered {
    /// Takes note of a delivery.
    pub(crate) fn add(&mut self, place: Place, message: Message) -> Verdict {
        let message = Message { expires_in_ms: None, ..message };
        match self.0.get(&place) {
            Some(before) if *before != message => {
                Err(format!("{place:?} was {before:?} and is {message:?}"))
            }
            Some(_) => Ok(()),
            None => {
                self.0.insert(place, message);
                Ok(())
            }
        }
    }

    /// After a recovery: what was delivered still has its place.
    pub(crate) fn outlives(&self, model: &Model) -> Verdict {
        for (stream, sequence) in self.0.keys() {
            if model.streams.get(stream).is_none_or(|known| *sequence >= known.next) {
                return Err(format!(
                    "message {sequence} of stream {stream} was delivered, and its number is free again"
                ));
            }
        }
        Ok(())
    }
}
