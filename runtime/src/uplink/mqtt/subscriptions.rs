//! What is subscribed to, and whom a message that comes down is for: a pure state machine.
//!
//! With MQTT 5 each filter has an identifier, which the broker sends with each copy of a message, so
//! that overlapping filters do no harm (MQTT 5, section 3.8.2.1.2). Elsewhere copies can't be told
//! apart, and brokers differ in whether they send one copy or several (MQTT 3.1.1, section 3.3.5):
//! there, a filter that another one covers is not subscribed to, so that one copy comes.

use std::collections::{BTreeSet, VecDeque};

use super::acks::Acks;
use super::topic::{covers, is_shared, matched_part, matches};

/// Something to ask the broker for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SubscriptionRequest {
    /// To send what matches, with this identifier.
    Subscribe { filter: String, id: Option<u32> },
    /// To forget a subscription of an earlier configuration, if there is one.
    Unsubscribe { filter: String },
}

/// The subscriptions of one connection: each is asked for, then answered.
#[derive(Debug)]
pub(super) struct Subscriptions {
    filters: Vec<Wanted>,
    /// Not asked for yet: each comes after those that cover it.
    unasked: VecDeque<usize>,
    asked: Acks<usize>,
}

#[derive(Debug)]
struct Wanted {
    filter: String,
    id: Option<u32>,
    /// The filters that cover it.
    covered_by: Vec<usize>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Granted,
    Refused,
    /// Another one brings its messages.
    Covered,
}

impl Subscriptions {
    /// For these filters; `with_ids` if the broker knows subscription identifiers.
    pub(super) fn new<'a>(filters: impl Iterator<Item = &'a str>, with_ids: bool) -> Self {
        let unique: Vec<&str> = filters.collect::<BTreeSet<_>>().into_iter().collect();
        let covering = |index: usize| (0..unique.len()).filter(move |other| *other != index);
        let wanted = |index: usize| Wanted {
            filter: unique[index].to_owned(),
            id: with_ids.then(|| identifier(unique[index])),
            covered_by: covering(index)
                .filter(|other| !with_ids && replaces(unique[*other], unique[index]))
                .collect(),
            state: State::Open,
        };
        let filters: Vec<Wanted> = (0..unique.len()).map(wanted).collect();
        let mut order: Vec<usize> = (0..filters.len()).collect();
        // What covers a filter is covered by fewer.
        order.sort_by_key(|index| filters[*index].covered_by.len());
        Self { filters, unasked: order.into(), asked: Acks::new() }
    }

    /// What to ask for next, with at most `most` unanswered at a time: each takes a packet identifier.
    pub(super) fn next(&mut self, most: usize) -> Option<SubscriptionRequest> {
        let index = *self.unasked.front().filter(|_| self.asked.span() < most.max(1))?;
        let of = |other: &usize| self.filters[*other].state;
        let covering: Vec<State> = self.filters[index].covered_by.iter().map(of).collect();
        if covering.contains(&State::Open) {
            return None;
        }
        self.unasked.pop_front();
        self.asked.queue(index);
        let wanted = &mut self.filters[index];
        let filter = wanted.filter.clone();
        if covering.iter().all(|state| *state == State::Refused) {
            return Some(SubscriptionRequest::Subscribe { filter, id: wanted.id });
        }
        wanted.state = State::Covered;
        Some(SubscriptionRequest::Unsubscribe { filter })
    }

    /// The next request was written under this packet identifier.
    pub(super) fn written(&mut self, pkid: u16) {
        self.asked.written(pkid);
    }

    /// The broker answered. Gives back the filter that it refused.
    pub(super) fn answered(&mut self, pkid: u16, granted: bool) -> Option<&str> {
        let index = self.asked.acknowledged(pkid)?;
        let wanted = &mut self.filters[index];
        if wanted.state == State::Open {
            wanted.state = if granted { State::Granted } else { State::Refused };
        }
        (wanted.state == State::Refused).then_some(wanted.filter.as_str())
    }

    /// Whether everything is asked for and answered.
    pub(super) fn done(&self) -> bool {
        self.unasked.is_empty() && self.asked.span() == 0
    }
}

/// Whether one subscription makes another needless. Of what is shared a client gets only a part.
fn replaces(wide: &str, narrow: &str) -> bool {
    !is_shared(wide) && !is_shared(narrow) && covers(wide, narrow)
}

/// A subscription identifier, 1 to 268,435,455 (MQTT 5, section 3.8.2.1.2). It is made of the filter
/// (FNV-1a): messages that the broker has kept through a change of the configuration still find theirs.
pub(super) fn identifier(filter: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = filter.bytes().fold(0x811c_9dc5, step);
    ((hash >> 28) ^ (hash & 0x0fff_ffff)).max(1)
}

/// Which of the downlinks with these filters a message is for. A copy with identifiers is for those
/// that it names; one without, or with none that is known (of an earlier configuration), is for all
/// that match.
pub(super) fn takers<'a>(
    filters: impl Iterator<Item = &'a str>,
    topic: &str,
    identifiers: &[usize],
) -> Vec<usize> {
    let matching = filters.enumerate().filter(|(_, filter)| matches(matched_part(filter), topic));
    let matching: Vec<(usize, &str)> = matching.collect();
    let named = |filter: &str| identifiers.contains(&(identifier(filter) as usize));
    let any_named = matching.iter().any(|(_, filter)| named(filter));
    let is_taker = |(_, filter): &&(usize, &str)| !any_named || named(filter);
    matching.iter().filter(is_taker).map(|(index, _)| *index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribe(filter: &str) -> SubscriptionRequest {
        SubscriptionRequest::Subscribe { filter: filter.into(), id: None }
    }

    fn unsubscribe(filter: &str) -> SubscriptionRequest {
        SubscriptionRequest::Unsubscribe { filter: filter.into() }
    }

    /// Asks for everything, with a broker that refuses these; and what was asked for, in order.
    fn all(filters: &[&str], refused: &[&str], most: usize) -> Vec<SubscriptionRequest> {
        let mut subscriptions = Subscriptions::new(filters.iter().copied(), false);
        let mut asked = Vec::new();
        let mut pkid = 0;
        while !subscriptions.done() {
            let mut open = Vec::new();
            while let Some(ask) = subscriptions.next(most) {
                pkid += 1;
                subscriptions.written(pkid);
                open.push((pkid, ask));
            }
            assert!(!open.is_empty() && open.len() <= most);
            for (pkid, ask) in open {
                let (SubscriptionRequest::Subscribe { filter, .. }
                | SubscriptionRequest::Unsubscribe { filter }) = &ask;
                let granted = !refused.contains(&filter.as_str());
                let told = subscriptions.answered(pkid, granted).is_some();
                assert_eq!(told, !granted && matches!(ask, SubscriptionRequest::Subscribe { .. }));
                asked.push(ask);
            }
        }
        asked
    }

    #[test]
    fn without_identifiers_a_filter_that_another_covers_is_not_subscribed_to() {
        let asked = all(&["a/b", "a/#", "c", "c"], &[], 10);
        assert_eq!(asked, [subscribe("a/#"), subscribe("c"), unsubscribe("a/b")]);
        assert_eq!(all(&["+/#", "#"], &[], 1), [subscribe("#"), unsubscribe("+/#")]);
    }

    #[test]
    fn a_filter_is_subscribed_to_where_those_that_cover_it_are_refused() {
        let asked = all(&["a/b/c", "a/b/#", "#"], &["#"], 10);
        assert_eq!(asked, [subscribe("#"), subscribe("a/b/#"), unsubscribe("a/b/c")]);
    }

    #[test]
    fn a_shared_subscription_covers_nothing_and_nothing_covers_it() {
        let asked = all(&["$share/g/#", "a", "$share/g/a"], &[], 1);
        assert_eq!(asked, [subscribe("$share/g/#"), subscribe("$share/g/a"), subscribe("a")]);
    }

    #[test]
    fn with_identifiers_each_filter_is_subscribed_to_with_its_own() {
        let filters = ["a/#", "a/b"];
        let mut subscriptions = Subscriptions::new(filters.into_iter(), true);
        for filter in filters {
            let id = Some(identifier(filter));
            assert_eq!(
                subscriptions.next(5),
                Some(SubscriptionRequest::Subscribe { filter: filter.into(), id })
            );
        }
        assert_ne!(identifier("a/#"), identifier("a/b"));
        assert!((1..=268_435_455).contains(&identifier("")));
    }

    fn taken_by(topic: &str, identifiers: &[usize]) -> Vec<usize> {
        takers(["a/#", "$share/g/a/+", "b"].into_iter(), topic, identifiers)
    }

    #[test]
    fn a_copy_with_identifiers_is_for_those_that_it_names() {
        let id = |filter| identifier(filter) as usize;
        assert_eq!(taken_by("a/x", &[id("a/#")]), [0]);
        assert_eq!(taken_by("a/x", &[id("$share/g/a/+")]), [1]);
        assert_eq!(taken_by("a/x", &[id("$share/g/a/+"), id("a/#")]), [0, 1]);
    }

    #[test]
    fn a_copy_without_a_known_identifier_is_for_all_that_match() {
        assert_eq!(taken_by("a/x", &[]), [0, 1]);
        assert_eq!(taken_by("a/x", &[7]), [0, 1]);
        assert_eq!(taken_by("a/x", &[identifier("b") as usize]), [0, 1]);
        assert_eq!(taken_by("c", &[7]), Vec::<usize>::new());
    }
}
