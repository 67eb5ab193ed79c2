//! Order, windows and links, step by step.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::record::Timestamp;

const T: StreamId = StreamId(1);

fn message(sequence: u64, key: Option<&str>) -> Message {
    Message {
        sequence: Sequence(sequence),
        at: Timestamp::default(),
        expires_in_ms: None,
        content_type: None,
        attributes: Vec::new(),
        key: key.map(str::to_owned),
        priority: 0,
        data: Vec::new(),
    }
}

fn policy(per_stream: usize, batch: usize) -> Policy {
    Policy {
        window: 10,
        per_stream,
        batch,
        batch_wait: Duration::from_secs(1),
        by_key: false,
        backoff: Backoff { jitter: 0.0, ..Backoff::default() },
        max_attempts: None,
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn dispatcher(policy: Policy, keys: &[Option<&str>]) -> Dispatcher {
    let mut dispatcher = Dispatcher::new(ConsumerId(1), policy);
    dispatcher.follow(T, Cursor::default());
    let messages = keys.iter().zip(1..).map(|(key, n)| message(n, *key)).collect();
    dispatcher.read(at(0), T, messages, false);
    dispatcher
}

fn next(dispatcher: &mut Dispatcher, now: u64) -> Vec<u64> {
    let batch = dispatcher.next(at(now), usize::MAX);
    batch.map_or(Vec::new(), |b| b.messages.iter().map(|(_, m)| m.sequence.0).collect())
}

fn settle(dispatcher: &mut Dispatcher, now: u64, outcomes: &[(u64, Outcome)]) -> Vec<Op> {
    let outcomes = outcomes.iter().map(|(n, o)| (Sequence(*n), o.clone())).collect();
    dispatcher.settle(at(now), T, outcomes, 0.0).ops
}

#[test]
fn one_after_the_other_means_that_nothing_is_sent_while_one_is_in_flight() {
    let mut dispatcher = dispatcher(policy(1, 1), &[None, None]);
    assert_eq!(next(&mut dispatcher, 1), [1]);
    assert!(next(&mut dispatcher, 1).is_empty());
    settle(&mut dispatcher, 1, &[(1, Outcome::Ack)]);
    assert_eq!(next(&mut dispatcher, 1), [2]);
}

#[test]
fn a_pipeline_fills_the_window_and_a_refused_message_stops_it_until_it_was_sent_again() {
    let mut dispatcher = dispatcher(policy(usize::MAX, 1), &[None, None, None, None]);
    assert_eq!([next(&mut dispatcher, 1), next(&mut dispatcher, 1)], [[1], [2]]);
    settle(&mut dispatcher, 1, &[(1, Outcome::Retry("no".into()))]);
    assert!(next(&mut dispatcher, 1).is_empty());
    assert!(next(&mut dispatcher, 2).is_empty(), "2 is still in flight");
    settle(&mut dispatcher, 2, &[(2, Outcome::Ack)]);
    assert_eq!([next(&mut dispatcher, 2), next(&mut dispatcher, 2)], [[1], [3]]);
}

#[test]
fn a_batch_waits_for_company_but_not_for_ever() {
    let mut dispatcher = dispatcher(policy(1, 3), &[None, None]);
    assert!(next(&mut dispatcher, 0).is_empty());
    assert_eq!(dispatcher.wake_at(usize::MAX), Some(at(1)));
    assert_eq!(next(&mut dispatcher, 1), [1, 2]);
}

#[test]
fn what_is_done_of_a_batch_is_acknowledged_as_ranges_and_the_rest_comes_again_first() {
    let mut dispatcher = dispatcher(policy(1, 4), &[None, None, None, None]);
    assert_eq!(next(&mut dispatcher, 1), [1, 2, 3, 4]);
    let retry = Outcome::Retry("later".into());
    let ops = settle(
        &mut dispatcher,
        1,
        &[(1, Outcome::Ack), (2, Outcome::Ack), (3, retry), (4, Outcome::Ack)],
    );
    let (consumer, range) = (ConsumerId(1), |a, b| vec![(Sequence(a), Sequence(b))]);
    assert_eq!(
        ops,
        [
            Op::Ack { consumer, stream: T, ranges: range(1, 2) },
            Op::Nack { consumer, stream: T, sequence: Sequence(3) },
            Op::Ack { consumer, stream: T, ranges: range(4, 4) },
        ]
    );
    dispatcher.read(at(1), T, vec![message(5, None)], false);
    assert!(next(&mut dispatcher, 1).is_empty());
    assert_eq!(next(&mut dispatcher, 2), [3]);
}

#[test]
fn after_a_broken_link_nothing_is_sent_until_all_has_landed_and_it_is_mended() {
    let mut dispatcher = dispatcher(policy(usize::MAX, 1), &[None, None, None]);
    assert_eq!([next(&mut dispatcher, 1), next(&mut dispatcher, 1)], [[1], [2]]);
    settle(&mut dispatcher, 1, &[(1, Outcome::Unreachable("gone".into()))]);
    dispatcher.mended();
    assert!(next(&mut dispatcher, 1).is_empty(), "2 has not landed");
    settle(&mut dispatcher, 1, &[(2, Outcome::Unreachable("gone".into()))]);
    assert!(next(&mut dispatcher, 1).is_empty(), "not mended");
    dispatcher.mended();
    let again = [next(&mut dispatcher, 1), next(&mut dispatcher, 1), next(&mut dispatcher, 1)];
    assert_eq!(again, [[1], [2], [3]]);
}

#[test]
fn after_a_broken_link_what_was_under_way_goes_before_what_was_refused_behind_it() {
    let mut dispatcher = dispatcher(policy(2, 3), &[None, None, None]);
    assert_eq!(next(&mut dispatcher, 1), [1, 2, 3]);
    let retry = || Outcome::Retry("later".into());
    settle(&mut dispatcher, 1, &[(1, retry()), (2, Outcome::Ack), (3, retry())]);
    assert_eq!(next(&mut dispatcher, 9), [1]);
    settle(&mut dispatcher, 9, &[(1, Outcome::Unreachable("gone".into()))]);
    dispatcher.read(at(9), T, vec![message(4, None)], false);
    dispatcher.mended();
    assert_eq!(next(&mut dispatcher, 10), [1]);
    assert!(next(&mut dispatcher, 10).is_empty(), "3 waits until 1 has landed");
    settle(&mut dispatcher, 10, &[(1, Outcome::Ack)]);
    assert_eq!(next(&mut dispatcher, 10), [3]);
    assert_eq!(next(&mut dispatcher, 11), [4]);
}

#[test]
fn a_refused_message_wakes_its_consumer_though_others_wait_behind_it() {
    let policy = Policy { batch_wait: Duration::ZERO, ..policy(1, 1) };
    let mut dispatcher = dispatcher(policy, &[None, None]);
    assert_eq!(next(&mut dispatcher, 5), [1]);
    assert_eq!(dispatcher.wake_at(usize::MAX), None);
    settle(&mut dispatcher, 5, &[(1, Outcome::Retry("busy".into()))]);
    assert_eq!(dispatcher.wake_at(usize::MAX), Some(at(6)));
    assert!(next(&mut dispatcher, 5).is_empty());
    assert_eq!(next(&mut dispatcher, 6), [1]);
}

#[test]
fn parallel_delivery_keeps_the_order_of_each_key() {
    let policy = Policy { by_key: true, ..policy(8, 1) };
    let mut dispatcher = dispatcher(policy, &[Some("a"), Some("a"), Some("b"), None]);
    let sent = [next(&mut dispatcher, 1), next(&mut dispatcher, 1), next(&mut dispatcher, 1)];
    assert_eq!(sent, [[1], [3], [4]]);
    assert!(next(&mut dispatcher, 1).is_empty());
    settle(&mut dispatcher, 1, &[(1, Outcome::Ack)]);
    assert_eq!(next(&mut dispatcher, 1), [2]);
}

#[test]
fn what_a_consumer_has_beyond_its_cursor_is_not_sent_again() {
    let mut cursor = Cursor::default();
    cursor.acknowledge(Sequence(2), Sequence(3));
    let mut dispatcher = Dispatcher::new(ConsumerId(1), policy(usize::MAX, 1));
    dispatcher.follow(T, cursor);
    dispatcher.read(at(0), T, (1..=4).map(|n| message(n, None)).collect(), false);
    let sent = [next(&mut dispatcher, 1), next(&mut dispatcher, 1)];
    assert_eq!(sent, [[1], [4]]);
}

#[test]
fn what_gets_over_its_time_while_it_waits_is_not_sent_and_holds_up_nothing() {
    let mut dispatcher = Dispatcher::new(ConsumerId(1), policy(1, 1));
    dispatcher.follow(T, Cursor::default());
    let for_seconds =
        |n, seconds: u64| Message { expires_in_ms: Some(seconds * 1000), ..message(n, None) };
    let messages = vec![for_seconds(1, 5), for_seconds(2, 3), message(3, None), for_seconds(4, 30)];
    dispatcher.read(at(10), T, messages, false);
    let first = dispatcher.next(at(12), usize::MAX).unwrap();
    assert_eq!(first.messages[0].1.expires_in_ms, Some(3000), "what is left of it");
    settle(&mut dispatcher, 12, &[(1, Outcome::Unreachable("gone".into()))]);
    dispatcher.mended();
    assert_eq!(next(&mut dispatcher, 15), [3], "1 is over its time, and 2 too");
    settle(&mut dispatcher, 15, &[(3, Outcome::Ack)]);
    assert_eq!(next(&mut dispatcher, 39), [4]);
    settle(&mut dispatcher, 39, &[(4, Outcome::Retry("busy".into()))]);
    // It would be due again as late as it is over its time.
    assert_eq!(dispatcher.wake_at(usize::MAX), Some(at(40)));
    assert!(next(&mut dispatcher, 40).is_empty());
}

fn up_to(done: u64) -> Cursor {
    Cursor { done: Sequence(done), ..Cursor::default() }
}

#[test]
fn a_backlog_that_was_given_up_is_not_delivered_and_what_is_in_flight_comes_to_nothing() {
    let mut dispatcher = dispatcher(policy(1, 1), &[None, None, None, None]);
    assert_eq!(next(&mut dispatcher, 1), [1]);
    dispatcher.skip(T, &up_to(4));
    assert!(settle(&mut dispatcher, 1, &[(1, Outcome::Retry("no".into()))]).is_empty());
    assert!(next(&mut dispatcher, 100).is_empty());
    dispatcher.read(at(100), T, vec![message(5, None)], false);
    assert_eq!(next(&mut dispatcher, 102), [5]);
}

#[test]
fn what_comes_after_a_backlog_was_given_up_is_delivered_once_though_it_was_read_before() {
    let mut dispatcher = dispatcher(policy(1, 1), &[None; 4]);
    assert_eq!(next(&mut dispatcher, 1), [1]);
    settle(&mut dispatcher, 1, &[(1, Outcome::Ack)]);
    assert_eq!(next(&mut dispatcher, 1), [2]);
    settle(&mut dispatcher, 1, &[(2, Outcome::Retry("busy".into()))]);
    // The store had given up the first two when the others came: it says so late.
    dispatcher.skip(T, &up_to(2));
    assert_eq!(next(&mut dispatcher, 9), [3]);
    settle(&mut dispatcher, 9, &[(3, Outcome::Ack)]);
    dispatcher.skip(T, &up_to(2));
    assert_eq!(dispatcher.wants().map(|(_, after, _)| after), Some(Sequence(4)));
    assert_eq!(next(&mut dispatcher, 9), [4]);
    settle(&mut dispatcher, 9, &[(4, hold())]);
    dispatcher.skip(T, &up_to(2));
    assert_eq!(numbers(&dispatcher.held_places()), [4]);
}

fn hold() -> Outcome {
    Outcome::Hold("too large".into())
}

fn numbers(places: &[(StreamId, Sequence)]) -> Vec<u64> {
    places.iter().map(|(_, sequence)| sequence.0).collect()
}

#[test]
fn a_held_message_is_passed_by_later_ones_and_sent_again_before_them_once_there_is_room() {
    let mut dispatcher = dispatcher(policy(1, 1), &[Some("k"), Some("k"), Some("k")]);
    assert_eq!(next(&mut dispatcher, 1), [1]);
    assert_eq!(settle(&mut dispatcher, 1, &[(1, hold())]), [], "nothing is written down");
    assert_eq!(next(&mut dispatcher, 1), [2]);
    settle(&mut dispatcher, 1, &[(2, Outcome::Ack)]);
    assert_eq!(numbers(&dispatcher.held_places()), [1]);
    assert_eq!(dispatcher.wants(), None, "what is held is not read again");

    dispatcher.retry_held();
    assert_eq!(dispatcher.held(), 0);
    assert_eq!(dispatcher.wants(), Some((T, Sequence(0), 1)));
    dispatcher.read(at(1), T, vec![message(1, Some("k"))], true);
    assert_eq!(dispatcher.wants(), None, "and it was at the stream's end before");
    assert_eq!(next(&mut dispatcher, 1), [1]);
    let ops = settle(&mut dispatcher, 1, &[(1, Outcome::Ack)]);
    assert_eq!(ops.len(), 1);
    assert_eq!(next(&mut dispatcher, 1), [3]);
}

#[test]
fn many_held_messages_keep_neither_memory_nor_later_ones_from_being_read() {
    let mut dispatcher = Dispatcher::new(ConsumerId(1), policy(1, 1));
    dispatcher.follow(T, Cursor::default());
    for sequence in 1..=MAX_HELD as u64 {
        let (_, after, _) = dispatcher.wants().unwrap();
        assert_eq!(after.0, sequence - 1);
        dispatcher.read(at(0), T, vec![message(sequence, None)], true);
        assert_eq!(next(&mut dispatcher, 1), [sequence]);
        assert_eq!(settle(&mut dispatcher, 1, &[(sequence, hold())]), []);
    }
    assert_eq!(dispatcher.held(), MAX_HELD);
}

#[test]
fn the_oldest_held_message_is_lost_when_there_are_too_many() {
    let mut dispatcher = Dispatcher::new(ConsumerId(1), policy(1, 1));
    for (stream, up_ms) in [(T, 9), (StreamId(2), 5)] {
        dispatcher.follow(stream, Cursor::default());
        let old = Timestamp { up_ms, ..Timestamp::default() };
        let late = Timestamp { up_ms: 10, ..Timestamp::default() };
        let count = MAX_HELD as u64 / 2 + u64::from(stream == T);
        let messages = (1..=count).map(|n| {
            let at = if n == 1 { old } else { late };
            Message { at, ..message(n, None) }
        });
        dispatcher.read(at(0), stream, messages.collect(), false);
    }
    let mut settled = Settled::default();
    while let Some(batch) = dispatcher.next(at(1), usize::MAX) {
        assert_eq!(settled.ops, []);
        let outcomes = batch.messages.iter().map(|(_, m)| (m.sequence, hold())).collect();
        settled = dispatcher.settle(at(1), batch.stream, outcomes, 0.0);
    }
    let (consumer, stream, sequence) = (ConsumerId(1), StreamId(2), Sequence(1));
    let lost = Op::GiveUp { consumer, stream, sequence, loss: Loss::TooLarge };
    assert_eq!(settled.ops, [lost]);
    assert_eq!(settled.refusals.last().map(|refusal| refusal.fate), Some(Fate::Lost));
    assert_eq!(dispatcher.held(), MAX_HELD);
}

#[test]
fn a_held_message_that_is_gone_when_it_is_tried_again_holds_up_nothing() {
    let mut dispatcher = Dispatcher::new(ConsumerId(1), policy(1, 1));
    dispatcher.follow(T, Cursor::default());
    let short = Message { expires_in_ms: Some(5000), ..message(2, None) };
    dispatcher.read(at(0), T, vec![message(1, None), short, message(3, None)], false);
    for sequence in 1..=3 {
        assert_eq!(next(&mut dispatcher, 1), [sequence]);
        settle(&mut dispatcher, 1, &[(sequence, hold())]);
    }
    assert!(next(&mut dispatcher, 6).is_empty());
    assert_eq!(numbers(&dispatcher.held_places()), [1, 3], "2 is over its time");
    dispatcher.retry_held();
    assert_eq!(dispatcher.wants(), Some((T, Sequence(0), 1)));
    // Overflow took it meanwhile: what is read is the next one.
    dispatcher.read(at(6), T, vec![message(3, None)], false);
    assert_eq!(dispatcher.wants(), Some((T, Sequence(2), 1)));
    dispatcher.read(at(6), T, vec![message(3, None)], false);
    assert_eq!(next(&mut dispatcher, 6), [3]);
    assert_eq!(dispatcher.wants(), None);
}

#[test]
fn a_retry_that_is_asked_for_waits_for_no_backoff() {
    let mut dispatcher = dispatcher(policy(1, 1), &[None]);
    assert_eq!(next(&mut dispatcher, 1), [1]);
    settle(&mut dispatcher, 1, &[(1, Outcome::Retry("busy".into()))]);
    assert!(next(&mut dispatcher, 1).is_empty());
    dispatcher.hurry(at(1));
    assert_eq!(next(&mut dispatcher, 1), [1]);
}

#[test]
fn a_refusal_says_which_attempt_it_was_and_what_becomes_of_the_message() {
    let policy = Policy { max_attempts: Some(2), ..policy(1, 1) };
    let mut dispatcher = dispatcher(policy, &[None]);
    let mut told = Vec::new();
    for now in [1, 5] {
        assert_eq!(next(&mut dispatcher, now), [1]);
        let outcomes = vec![(Sequence(1), Outcome::Retry("busy".into()))];
        told.extend(dispatcher.settle(at(now), T, outcomes, 0.0).refusals);
    }
    let told: Vec<_> = told.iter().map(|r| (r.attempt, r.fate, &*r.reason)).collect();
    assert_eq!(told, [(1, Fate::Retried, "busy"), (2, Fate::Rejected, "busy")]);
}
