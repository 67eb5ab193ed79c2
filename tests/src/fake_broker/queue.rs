use std::collections::{BTreeMap, BTreeSet};

use components::port::pubsub::{Delivery, Message, Sequence, StreamId, Topic};

/// A message and its topic.
#[derive(Clone)]
pub(super) struct Envelope {
    pub(super) topic: Topic,
    pub(super) stream: StreamId,
    pub(super) message: Message,
}

/// The place of a message, which names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    stream: StreamId,
    sequence: Sequence,
}

impl Place {
    pub(super) fn of(delivery: &Delivery) -> Self {
        Self { stream: delivery.stream, sequence: delivery.message.sequence }
    }
}

impl Envelope {
    pub(super) fn place(&self) -> Place {
        Place { stream: self.stream, sequence: self.message.sequence }
    }
}

/// The messages that a consumer has not acknowledged.
#[derive(Default)]
pub(super) struct Queue {
    filters: Vec<String>,
    messages: BTreeMap<Place, Envelope>,
}

impl Queue {
    /// Changes the topics. Messages of others are forgotten.
    pub(super) fn filter(&mut self, filters: Vec<String>) {
        self.filters = filters;
        let filters = &self.filters;
        self.messages.retain(|_, envelope| filters.contains(&envelope.topic.name));
    }

    pub(super) fn offer(&mut self, envelope: &Envelope) {
        if self.filters.contains(&envelope.topic.name) {
            self.messages.insert(envelope.place(), envelope.clone());
        }
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.messages.remove(&place);
    }

    /// Returns any message that is not among those in flight.
    pub(super) fn any(
        &self,
        rng: &mut fastrand::Rng,
        in_flight: &BTreeSet<Place>,
    ) -> Option<Delivery> {
        let free = self.messages.iter().filter(|(place, _)| !in_flight.contains(place));
        let free: Vec<&Envelope> = free.map(|(_, envelope)| envelope).collect();
        let Envelope { topic, stream, message } = (*rng.choice(&free)?).clone();
        Some(Delivery { topic, stream, attempt: 1, message })
    }
}
