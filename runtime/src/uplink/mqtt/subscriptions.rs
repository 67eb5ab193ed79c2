//! The subscriptions of one connection, and the downlinks that a message is for: a pure state machine.
//!
//! With MQTT 5 each filter has an identifier, which the broker sends with each copy of a message, so
//! overlapping filters do no harm (MQTT 5, section 3.8.2.1.2). Without identifiers copies can't be
//! told apart, and some brokers send one copy, others several (MQTT 3.1.1, section 3.3.5). Then a
//! filter that another one covers is not subscribed to, so that one copy arrives.

use std::collections::{BTreeSet, VecDeque};

use super::acks::Acks;
use super::topic::{covers, is_shared, matched_part, matches};

/// A SUBSCRIBE or UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SubscriptionRequest {
    /// Asks for the messages that match, with this identifier.
    Subscribe { filter: String, id: Option<u32> },
    /// Ends a subscription of an earlier configuration, if there is one.
    Unsubscribe { filter: String },
}

/// The subscriptions of one connection. Each is requested, then answered.
#[derive(Debug)]
pub(super) struct Subscriptions {
    filters: Vec<PlannedSubscription>,
    /// Indices of the filters that are not requested yet, each after those that cover it.
    unrequested: VecDeque<usize>,
    requested: Acks<usize>,
}

#[derive(Debug)]
struct PlannedSubscription {
    filter: String,
    id: Option<u32>,
    /// Indices of the filters that cover it.
    covered_by: Vec<usize>,
    state: SubscriptionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubscriptionState {
    Open,
    Granted,
    Refused,
    /// Another subscription brings its messages.
    Covered,
}

impl Subscriptions {
    /// Plans subscriptions to these filters. `with_ids` tells that the broker supports identifiers.
    pub(super) fn new<'a>(filters: impl Iterator<Item = &'a str>, with_ids: bool) -> Self {
        let unique: Vec<&str> = filters.collect::<BTreeSet<_>>().into_iter().collect();
        let covering = |index: usize| (0..unique.len()).filter(move |other| *other != index);
        let subscription = |index: usize| PlannedSubscription {
            filter: unique[index].to_owned(),
            id: with_ids.then(|| identifier(unique[index])),
            covered_by: covering(index)
                .filter(|other| !with_ids && replaces(unique[*other], unique[index]))
                .collect(),
            state: SubscriptionState::Open,
        };
        let filters: Vec<PlannedSubscription> = (0..unique.len()).map(subscription).collect();
        let mut order: Vec<usize> = (0..filters.len()).collect();
        // A filter is covered by more filters than those that cover it.
        order.sort_by_key(|index| filters[*index].covered_by.len());
        Self { filters, unrequested: order.into(), requested: Acks::new() }
    }

    /// Returns the next request, with at most `most` unanswered at a time: each takes a packet
    /// identifier. `None` while an answer has to come first, or if there are no more.
    pub(super) fn next(&mut self, most: usize) -> Option<SubscriptionRequest> {
        let index = *self.unrequested.front().filter(|_| self.requested.span() < most.max(1))?;
        let state = |other: &usize| self.filters[*other].state;
        let covering: Vec<_> = self.filters[index].covered_by.iter().map(state).collect();
        if covering.contains(&SubscriptionState::Open) {
            return None;
        }
        self.unrequested.pop_front();
        self.requested.queue(index);
        let subscription = &mut self.filters[index];
        let filter = subscription.filter.clone();
        if covering.iter().all(|state| *state == SubscriptionState::Refused) {
            return Some(SubscriptionRequest::Subscribe { filter, id: subscription.id });
        }
        subscription.state = SubscriptionState::Covered;
        Some(SubscriptionRequest::Unsubscribe { filter })
    }

    /// Gives the next request this packet identifier.
    pub(super) fn written(&mut self, pkid: u16) {
        self.requested.written(pkid);
    }

    /// Takes the broker's answer. Returns the filter if it was refused.
    pub(super) fn answered(&mut self, pkid: u16, granted: bool) -> Option<&str> {
        let index = self.requested.acknowledged(pkid)?;
        let subscription = &mut self.filters[index];
        if subscription.state == SubscriptionState::Open {
            subscription.state =
                if granted { SubscriptionState::Granted } else { SubscriptionState::Refused };
        }
        let refused = subscription.state == SubscriptionState::Refused;
        refused.then_some(subscription.filter.as_str())
    }

    /// Returns true once everything is requested and answered.
    pub(super) fn done(&self) -> bool {
        self.unrequested.is_empty() && self.requested.span() == 0
    }
}

/// Returns true if one subscription makes another needless. A shared one never does: a client gets
/// only a part of its messages.
fn replaces(wide: &str, narrow: &str) -> bool {
    !is_shared(wide) && !is_shared(narrow) && covers(wide, narrow)
}

/// Computes a subscription identifier, 1 to 268,435,455 (MQTT 5, section 3.8.2.1.2). A hash of the
/// filter (FNV-1a) stays valid for messages that the broker kept while the configuration changed.
pub(super) fn identifier(filter: &str) -> u32 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = filter.bytes().fold(0x811c_9dc5, step);
    ((hash >> 28) ^ (hash & 0x0fff_ffff)).max(1)
}

/// Returns the indices of the filters that a copy of a message is for. A copy with identifiers is for
/// the filters that it names. A copy without, or with identifiers of an earlier configuration alone,
/// is for all filters that match.
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

    /// Requests everything from a broker that refuses some filters. Returns the requests in order.
    fn all(filters: &[&str], refused: &[&str], most: usize) -> Vec<SubscriptionRequest> {
        let mut subscriptions = Subscriptions::new(filters.iter().copied(), false);
        let mut requests = Vec::new();
        let mut pkid = 0;
        while !subscriptions.done() {
            let mut open = Vec::new();
            while let Some(request) = subscriptions.next(most) {
                pkid += 1;
                subscriptions.written(pkid);
                open.push((pkid, request));
            }
            assert!(!open.is_empty() && open.len() <= most);
            for (pkid, request) in open {
                let (SubscriptionRequest::Subscribe { filter, .. }
                | SubscriptionRequest::Unsubscribe { filter }) = &request;
                let granted = !refused.contains(&filter.as_str());
                let told = subscriptions.answered(pkid, granted).is_some();
                assert_eq!(
                    told,
                    !granted && matches!(request, SubscriptionRequest::Subscribe { .. })
                );
                requests.push(request);
            }
        }
        requests
    }

    #[test]
    fn without_identifiers_a_filter_that_another_covers_is_not_subscribed_to() {
        let requests = all(&["a/b", "a/#", "c", "c"], &[], 10);
        assert_eq!(requests, [subscribe("a/#"), subscribe("c"), unsubscribe("a/b")]);
        assert_eq!(all(&["+/#", "#"], &[], 1), [subscribe("#"), unsubscribe("+/#")]);
    }

    #[test]
    fn a_filter_is_subscribed_to_where_those_that_cover_it_are_refused() {
        let requests = all(&["a/b/c", "a/b/#", "#"], &["#"], 10);
        assert_eq!(requests, [subscribe("#"), subscribe("a/b/#"), unsubscribe("a/b/c")]);
    }

    #[test]
    fn a_shared_subscription_covers_nothing_and_nothing_covers_it() {
        let requests = all(&["$share/g/#", "a", "$share/g/a"], &[], 1);
        assert_eq!(requests, [subscribe("$share/g/#"), subscribe("$share/g/a"), subscribe("a")]);
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
