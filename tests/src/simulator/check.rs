//! Compares a store with what it ought to be.

use std::collections::{BTreeMap, BTreeSet};

use store_forward::Error;
use store_forward::consumer::Message;
use store_forward::engine::{Engine, StreamFacts};
use store_forward::ids::{ConsumerId, Sequence, StreamId};
use store_forward::record::{ConsumerKind, NewMessage};
use store_forward::store::Losses;

use super::model::{Kept, Model, Stream};

/// What is wrong, in words.
pub(crate) type Verdict = Result<(), String>;

/// Whether the store holds what the model does, and nothing else.
pub(crate) fn compare(engine: &Engine, model: &Model) -> Verdict {
    state(engine, model)?;
    let streams = engine.stream_facts().map_err(|error| unreadable(&error))?;
    same("streams", &streams.len(), &model.streams.len())?;
    for facts in &streams {
        let known = model.streams.get(&facts.id.0);
        let known = known.ok_or_else(|| format!("stream {} is unknown", facts.topic))?;
        stream(facts, known).map_err(|wrong| format!("stream {}: {wrong}", facts.topic))?;
    }
    limits(model)?;
    consumers(engine, model, &streams)
}

fn state(engine: &Engine, model: &Model) -> Verdict {
    let rows = engine.all_state().map_err(|error| unreadable(&error))?;
    let found: BTreeMap<_, _> = rows
        .into_iter()
        .map(|(component, key, etag, value)| ((component, key), (etag, value)))
        .collect();
    for (key, value) in &model.state {
        let expected = (value.etag, value.value.clone());
        match found.get(key) {
            Some(row) if *row == expected => {}
            Some(row) => return Err(format!("key {key:?} is {row:?} instead of {expected:?}")),
            None => return Err(format!("key {key:?} is lost, it was {expected:?}")),
        }
    }
    let extra = found.keys().find(|key| !model.state.contains_key(*key));
    extra.map_or(Ok(()), |key| Err(format!("key {key:?} is there and should not be")))
}

fn stream(facts: &StreamFacts, known: &Stream) -> Verdict {
    same("topic", &facts.topic, &known.topic)?;
    same("next sequence", &facts.next.0, &known.next)?;
    let sequences: Vec<u64> = facts.messages.iter().map(|m| m.sequence.0).collect();
    same("messages", &sequences, &known.kept.keys().copied().collect())?;
    same("count of messages", &facts.count, &(known.kept.len() as u64))?;
    same("bytes", &facts.bytes, &known.kept.values().map(|kept| kept.bytes).sum())?;
    same("losses", &facts.losses, &known.losses)?;
    every_sequence_is_accounted_for(facts, known)?;
    for message in &facts.messages {
        is_same_message(message, &known.kept[&message.sequence.0])?;
    }
    for (from, to, loss) in &facts.gaps {
        for sequence in from.0..=to.0 {
            same(&format!("gap {sequence}"), &Some(loss), &known.lost.get(&sequence))?;
        }
    }
    Ok(())
}

/// Each sequence that was given is kept, was had by every reader, or is counted as lost: once.
fn every_sequence_is_accounted_for(facts: &StreamFacts, known: &Stream) -> Verdict {
    let gone = known.lost.keys().chain(&known.passed);
    let all: BTreeSet<&u64> = known.kept.keys().chain(gone).collect();
    let places = known.kept.len() + known.lost.len() + known.passed.len();
    same("sequences with one place each", &all.len(), &places)?;
    same("sequences with a place", &(places as u64), &(facts.next.0 - 1))?;
    // What a reader refused for good counts as dropped, and as had by it.
    let Losses { expired, overflowed, unclaimed, damaged, .. } = facts.losses;
    let counted = facts.count + expired + overflowed + unclaimed + damaged;
    same("sequences accounted for", &(counted + known.passed.len() as u64), &(facts.next.0 - 1))
}

/// Whether a message is the one that was published.
pub(crate) fn is_same_message(message: &Message, kept: &Kept) -> Verdict {
    let NewMessage { content_type, attributes, key, priority, data, .. } = &kept.body;
    let sequence = message.sequence.0;
    same(&format!("time of message {sequence}"), &message.at, &kept.at)?;
    same(
        &format!("content of message {sequence}"),
        &(
            &message.content_type,
            &message.attributes,
            &message.key,
            &message.priority,
            &message.data,
        ),
        &(content_type, attributes, key, priority, data),
    )
}

fn limits(model: &Model) -> Verdict {
    for (component, limits) in &model.limits {
        let streams = model.streams.values().filter(|s| s.topic.component == *component);
        for stream in streams {
            let payload: usize = stream.kept.values().map(|kept| kept.body.data.len()).sum();
            let (count, topic) = (stream.kept.len() as u64, &stream.topic);
            holds(topic, "messages", count, limits.max_messages)?;
            holds(topic, "bytes of payload", payload as u64, limits.max_bytes)?;
        }
        let (messages, _) = model.component_size(component);
        holds(component, "messages", messages, limits.max_component_messages)?;
    }
    Ok(())
}

fn holds(whose: impl std::fmt::Display, what: &str, count: u64, limit: u64) -> Verdict {
    if limit == 0 || count <= limit {
        return Ok(());
    }
    Err(format!("{whose} keeps {count} {what}, the limit is {limit}"))
}

fn consumers(engine: &Engine, model: &Model, streams: &[StreamFacts]) -> Verdict {
    let found = engine.consumers().map_err(|error| unreadable(&error))?;
    let numbers: Vec<u32> = found.iter().map(|(id, ..)| id.0).collect();
    same("consumers", &numbers, &model.consumers.keys().copied().collect())?;
    for (id, spec, inactive) in &found {
        let known = &model.consumers[&id.0];
        same("consumer", spec, &known.spec)?;
        let idle = known.idle.map(|idle| (idle.reason, idle.collecting));
        same(&format!("{} is inactive", spec.name), inactive, &idle)?;
        for facts in streams.iter().filter(|facts| spec.reads(&facts.topic)) {
            cursor(engine, model, *id, facts)
                .map_err(|wrong| format!("{} in {}: {wrong}", spec.name, facts.topic))?;
        }
    }
    Ok(())
}

fn cursor(engine: &Engine, model: &Model, id: ConsumerId, facts: &StreamFacts) -> Verdict {
    let reader = &model.consumers[&id.0];
    let StreamId(stream) = facts.id;
    let cursor = engine.cursor(id, facts.id).map_err(|error| unreadable(&error))?;
    for sequence in model.streams[&stream].kept.keys() {
        let place = (stream, *sequence);
        let has = reader.has.contains(&place);
        same(&format!("has {sequence}"), &cursor.has(Sequence(*sequence)), &has)?;
        let failures = if has { 0 } else { reader.failures.get(&place).copied().unwrap_or(0) };
        let counted = cursor.failures(Sequence(*sequence));
        same(&format!("failures of {sequence}"), &counted, &failures)?;
    }
    if cursor.done >= facts.next {
        return Err(format!("is done up to {}, the next is {}", cursor.done, facts.next));
    }
    if reader.spec.kind == ConsumerKind::Uplink {
        gaps(facts, model, id, cursor.done)?;
    }
    Ok(())
}

/// What an uplink has still to pass is kept, or it is said why not.
fn gaps(facts: &StreamFacts, model: &Model, id: ConsumerId, done: Sequence) -> Verdict {
    let StreamId(stream) = facts.id;
    for (_, sequence) in model.consumers[&id.0].owed.range((stream, done.next().0)..(stream + 1, 0))
    {
        let loss = model.streams[&stream].lost[sequence];
        let told = facts
            .gaps
            .iter()
            .any(|(from, to, reason)| (from.0..=to.0).contains(sequence) && *reason == loss);
        if !told {
            return Err(format!("{sequence} is missing ({loss:?}) and no gap says so"));
        }
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Verdict {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?} instead of {expected:?}"))
}

fn unreadable(error: &Error) -> String {
    format!("can't be read: {error}")
}
