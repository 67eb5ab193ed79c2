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
        read_ahead: Arc::default(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A dispatcher of one stream, and the store that it reads from.
struct Bench {
    dispatcher: Dispatcher,
    /// With the time of publishing.
    kept: BTreeMap<u64, (Duration, Message)>,
    /// The sequences in the order in which they were read, some of them several times.
    reads: Vec<u64>,
}

impl Bench {
    fn new(policy: Policy) -> Self {
        Self::starting_at(Cursor::default(), policy)
    }

    fn starting_at(cursor: Cursor, policy: Policy) -> Self {
        let mut dispatcher = Dispatcher::new(ConsumerId(1), policy);
        dispatcher.follow(at(0), T, cursor);
        Self { dispatcher, kept: BTreeMap::new(), reads: Vec::new() }
    }

    fn publish(&mut self, now: u64, messages: impl IntoIterator<Item = Message>) {
        let now = at(now);
        self.kept.extend(messages.into_iter().map(|it| (it.sequence.0, (now, it))));
        self.dispatcher.grown(now, T);
    }

    fn read(&mut self, now: Duration, want: Want) {
        let behind = self.kept.range(want.after.next().0..).map(|(_, (published, message))| {
            let left = |ms| millis(Duration::from_millis(ms).saturating_sub(now - *published));
            Message { expires_in_ms: message.expires_in_ms.map(left), ..message.clone() }
        });
        let mut page: Vec<Message> = behind.take(want.count + 1).collect();
        let more = page.len() > want.count;
        page.truncate(want.count);
        let first = page.first().map(|message| message.data.len()).unwrap_or_default();
        let mut bytes = 0;
        let fits = page.iter().take_while(|message| {
            bytes += message.data.len();
            bytes <= want.bytes.max(first)
        });
        let fits = fits.count();
        let more = more || fits < page.len();
        page.truncate(fits);
        self.reads.extend(page.iter().map(|message| message.sequence.0));
        self.dispatcher.read(now, want, page, more);
    }

    /// Returns the batch that is handed over with a slot.
    fn batch(&mut self, now: u64) -> Option<Batch> {
        self.admitted_batch(now, 1)
    }

    fn admitted_batch(&mut self, now: u64, generation: u64) -> Option<Batch> {
        let now = at(now);
        if !self.dispatcher.admit(generation) {
            return None;
        }
        loop {
            match self.dispatcher.step(now) {
                Step::Read(want) => self.read(now, want),
                Step::Send(batch) => return Some(batch),
                Step::Rest => break,
            }
        }
        let wake = self.dispatcher.wake_at();
        assert!(wake.is_none_or(|at| at > now), "it would ask again for a slot: {wake:?}");
        None
    }

    fn next(&mut self, now: u64) -> Vec<u64> {
        let batch = self.batch(now);
        batch.map_or(Vec::new(), |b| b.messages.iter().map(|(_, m)| m.sequence.0).collect())
    }

    fn settle(&mut self, now: u64, outcomes: &[(u64, Outcome)]) -> Vec<Op> {
        let outcomes = outcomes.iter().map(|(n, o)| (Sequence(*n), o.clone())).collect();
        self.dispatcher.settle(at(now), T, outcomes, 0.0).ops
    }

    /// Bytes in memory that are not in flight.
    fn waiting(&self) -> usize {
        self.dispatcher.policy.read_ahead.used()
    }

    fn wake_at(&self) -> Option<Duration> {
        self.dispatcher.wake_at()
    }
}

fn bench(policy: Policy, keys: &[Option<&str>]) -> Bench {
    let mut bench = Bench::new(policy);
    bench.publish(0, keys.iter().zip(1..).map(|(key, n)| message(n, *key)));
    bench
}

#[test]
fn one_after_the_other_means_that_nothing_is_sent_while_one_is_in_flight() {
    let mut bench = bench(policy(1, 1), &[None, None]);
    assert_eq!(bench.next(1), [1]);
    assert!(bench.next(1).is_empty());
    bench.settle(1, &[(1, Outcome::Ack)]);
    assert_eq!(bench.next(1), [2]);
}

#[test]
fn a_pipeline_fills_the_window_and_a_refused_message_stops_it_until_it_was_sent_again() {
    let mut bench = bench(policy(usize::MAX, 1), &[None, None, None, None]);
    assert_eq!([bench.next(1), bench.next(1)], [[1], [2]]);
    bench.settle(1, &[(1, Outcome::Retry("no".into()))]);
    assert!(bench.next(1).is_empty());
    assert!(bench.next(2).is_empty(), "2 is still in flight");
    bench.settle(2, &[(2, Outcome::Ack)]);
    assert_eq!([bench.next(2), bench.next(2)], [[1], [3]]);
}

#[test]
fn a_batch_waits_for_company_but_not_for_ever() {
    let mut bench = bench(policy(1, 3), &[None, None]);
    assert!(bench.next(0).is_empty());
    assert_eq!(bench.wake_at(), Some(at(1)));
    assert_eq!(bench.next(1), [1, 2]);
}

#[test]
fn what_is_done_of_a_batch_is_acknowledged_as_ranges_and_the_rest_comes_again_first() {
    let mut bench = bench(policy(1, 4), &[None, None, None, None]);
    assert_eq!(bench.next(1), [1, 2, 3, 4]);
    let retry = Outcome::Retry("later".into());
    let ops =
        bench.settle(1, &[(1, Outcome::Ack), (2, Outcome::Ack), (3, retry), (4, Outcome::Ack)]);
    let (consumer, range) = (ConsumerId(1), |a, b| vec![(Sequence(a), Sequence(b))]);
    assert_eq!(
        ops,
        [
            Op::Ack { consumer, stream: T, ranges: range(1, 2) },
            Op::Nack { consumer, stream: T, sequence: Sequence(3) },
            Op::Ack { consumer, stream: T, ranges: range(4, 4) },
        ]
    );
    bench.publish(1, [message(5, None)]);
    assert!(bench.next(1).is_empty());
    assert_eq!(bench.next(2), [3]);
}

#[test]
fn after_a_broken_link_nothing_is_sent_until_all_has_landed_and_it_is_mended() {
    let mut bench = bench(policy(usize::MAX, 1), &[None, None, None]);
    assert_eq!([bench.next(1), bench.next(1)], [[1], [2]]);
    bench.settle(1, &[(1, Outcome::Unreachable("gone".into()))]);
    assert!(bench.next(1).is_empty(), "2 has not landed");
    bench.settle(1, &[(2, Outcome::Unreachable("gone".into()))]);
    assert!(matches!(bench.dispatcher.step(at(1)), Step::Rest), "no slot was granted since");
    let again = [bench.next(1), bench.next(1), bench.next(1)];
    assert_eq!(again, [[1], [2], [3]]);
}

#[test]
fn after_a_broken_link_what_was_under_way_goes_before_what_was_refused_behind_it() {
    let mut bench = bench(policy(2, 3), &[None, None, None]);
    assert_eq!(bench.next(1), [1, 2, 3]);
    let retry = || Outcome::Retry("later".into());
    bench.settle(1, &[(1, retry()), (2, Outcome::Ack), (3, retry())]);
    assert_eq!(bench.next(9), [1]);
    bench.settle(9, &[(1, Outcome::Unreachable("gone".into()))]);
    bench.publish(9, [message(4, None)]);
    assert_eq!(bench.next(10), [1]);
    assert!(bench.next(10).is_empty(), "3 waits until 1 has landed");
    bench.settle(10, &[(1, Outcome::Ack)]);
    assert_eq!(bench.next(10), [3]);
    assert_eq!(bench.next(11), [4]);
}

#[test]
fn a_refused_message_wakes_its_consumer_though_others_wait_behind_it() {
    let policy = Policy { batch_wait: Duration::ZERO, ..policy(1, 1) };
    let mut bench = bench(policy, &[None, None]);
    assert_eq!(bench.next(5), [1]);
    assert_eq!(bench.wake_at(), None);
    bench.settle(5, &[(1, Outcome::Retry("busy".into()))]);
    assert_eq!(bench.wake_at(), Some(at(6)));
    assert!(bench.next(5).is_empty());
    assert_eq!(bench.next(6), [1]);
}

#[test]
fn parallel_delivery_keeps_the_order_of_each_key() {
    let policy = Policy { by_key: true, ..policy(8, 1) };
    let mut bench = bench(policy, &[Some("a"), Some("a"), Some("b"), None]);
    let sent = [bench.next(1), bench.next(1), bench.next(1)];
    assert_eq!(sent, [[1], [3], [4]]);
    assert!(bench.next(1).is_empty());
    bench.settle(1, &[(1, Outcome::Ack)]);
    assert_eq!(bench.next(1), [2]);
}

#[test]
fn what_a_consumer_has_beyond_its_cursor_is_not_sent_again() {
    let mut cursor = Cursor::default();
    cursor.acknowledge(Sequence(2), Sequence(3));
    let mut bench = Bench::starting_at(cursor, policy(usize::MAX, 1));
    bench.publish(0, (1..=4).map(|n| message(n, None)));
    let sent = [bench.next(1), bench.next(1)];
    assert_eq!(sent, [[1], [4]]);
}

#[test]
fn what_gets_over_its_time_while_it_waits_is_not_sent_and_holds_up_nothing() {
    let mut bench = Bench::new(policy(1, 1));
    let for_seconds =
        |n, seconds: u64| Message { expires_in_ms: Some(seconds * 1000), ..message(n, None) };
    let messages = vec![for_seconds(1, 5), for_seconds(2, 3), message(3, None), for_seconds(4, 30)];
    bench.publish(10, messages);
    let first = bench.batch(12).unwrap();
    assert_eq!(first.messages[0].1.expires_in_ms, Some(3000), "what is left of it");
    bench.settle(12, &[(1, Outcome::Unreachable("gone".into()))]);
    assert_eq!(bench.next(15), [3], "1 and 2 have expired");
    bench.settle(15, &[(3, Outcome::Ack)]);
    assert_eq!(bench.next(39), [4]);
    bench.settle(39, &[(4, Outcome::Retry("busy".into()))]);
    // It would be due again as late as it is over its time.
    assert_eq!(bench.wake_at(), Some(at(40)));
    assert!(bench.next(40).is_empty());
}

fn up_to(done: u64) -> Cursor {
    Cursor { done: Sequence(done), ..Cursor::default() }
}

#[test]
fn a_backlog_that_was_given_up_is_not_delivered_and_what_is_in_flight_comes_to_nothing() {
    let mut bench = bench(policy(1, 1), &[None, None, None, None]);
    assert_eq!(bench.next(1), [1]);
    bench.dispatcher.skip(T, &up_to(4));
    assert!(bench.settle(1, &[(1, Outcome::Retry("no".into()))]).is_empty());
    assert!(bench.next(100).is_empty());
    bench.publish(100, [message(5, None)]);
    assert_eq!(bench.next(102), [5]);
}

#[test]
fn what_comes_after_a_backlog_was_given_up_is_delivered_once_though_it_was_read_before() {
    let mut bench = bench(policy(1, 1), &[None; 4]);
    assert_eq!(bench.next(1), [1]);
    bench.settle(1, &[(1, Outcome::Ack)]);
    assert_eq!(bench.next(1), [2]);
    bench.settle(1, &[(2, Outcome::Retry("busy".into()))]);
    // The store had given up the first two when the others came: it says so late.
    bench.dispatcher.skip(T, &up_to(2));
    assert_eq!(bench.next(9), [3]);
    bench.settle(9, &[(3, Outcome::Ack)]);
    bench.dispatcher.skip(T, &up_to(2));
    assert_eq!(bench.next(9), [4]);
    bench.settle(9, &[(4, hold())]);
    bench.dispatcher.skip(T, &up_to(2));
    assert_eq!(numbers(&bench.dispatcher.held_places()), [4]);
    assert!(bench.next(9).is_empty(), "nothing is read from further back");
}

fn hold() -> Outcome {
    Outcome::Hold("too large".into())
}

fn numbers(places: &[(StreamId, Sequence)]) -> Vec<u64> {
    places.iter().map(|(_, sequence)| sequence.0).collect()
}

#[test]
fn a_held_message_is_passed_by_later_ones_and_sent_again_before_them_once_there_is_room() {
    let mut bench = bench(policy(1, 1), &[Some("k"), Some("k"), Some("k")]);
    assert_eq!(bench.next(1), [1]);
    assert_eq!(bench.settle(1, &[(1, hold())]), [], "nothing is written down");
    assert_eq!(bench.next(1), [2]);
    bench.settle(1, &[(2, Outcome::Ack)]);
    assert_eq!(numbers(&bench.dispatcher.held_places()), [1]);
    assert_eq!(bench.reads, [1, 2, 3], "what is held is not read again");

    bench.dispatcher.retry_held();
    assert_eq!(bench.dispatcher.held(), 0);
    assert_eq!(bench.next(1), [1]);
    assert_eq!(bench.reads, [1, 2, 3, 1], "and nothing besides it");
    let ops = bench.settle(1, &[(1, Outcome::Ack)]);
    assert_eq!(ops.len(), 1);
    assert_eq!(bench.next(1), [3]);
}

#[test]
fn many_held_messages_keep_neither_memory_nor_later_ones_from_being_read() {
    let mut bench = Bench::new(policy(1, 1));
    for sequence in 1..=MAX_HELD as u64 {
        bench.publish(0, [message(sequence, None)]);
        assert_eq!(bench.next(1), [sequence]);
        assert_eq!(bench.settle(1, &[(sequence, hold())]), []);
        assert_eq!(bench.waiting(), 0);
    }
    assert_eq!(bench.dispatcher.held(), MAX_HELD);
}

#[test]
fn the_oldest_held_message_is_lost_when_there_are_too_many() {
    let mut dispatcher = Dispatcher::new(ConsumerId(1), policy(1, 1));
    let mut kept = BTreeMap::new();
    for (stream, up_ms) in [(T, 9), (StreamId(2), 5)] {
        dispatcher.follow(at(0), stream, Cursor::default());
        let old = Timestamp { up_ms, ..Timestamp::default() };
        let late = Timestamp { up_ms: 10, ..Timestamp::default() };
        let count = MAX_HELD as u64 / 2 + u64::from(stream == T);
        let messages = (1..=count).map(|n| {
            let at = if n == 1 { old } else { late };
            Message { at, ..message(n, None) }
        });
        kept.insert(stream, messages.collect::<Vec<Message>>());
    }
    let mut settled = Settled::default();
    loop {
        let batch = match dispatcher.step(at(1)) {
            Step::Read(want) => {
                let behind = kept[&want.stream].iter().filter(|it| it.sequence > want.after);
                let page: Vec<Message> = behind.take(want.count).cloned().collect();
                let more = page.last().is_some_and(|it| kept[&want.stream].last() != Some(it));
                dispatcher.read(at(1), want, page, more);
                continue;
            }
            Step::Send(batch) => batch,
            Step::Rest => break,
        };
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
    let mut bench = Bench::new(policy(1, 1));
    let short = Message { expires_in_ms: Some(5000), ..message(2, None) };
    bench.publish(0, [message(1, None), short, message(3, None)]);
    for sequence in 1..=3 {
        assert_eq!(bench.next(1), [sequence]);
        bench.settle(1, &[(sequence, hold())]);
    }
    assert!(bench.next(6).is_empty());
    assert_eq!(numbers(&bench.dispatcher.held_places()), [1, 3], "2 is over its time");
    bench.dispatcher.retry_held();
    // Overflow took it meanwhile: what is read is the next one.
    bench.kept.remove(&1);
    assert_eq!(bench.next(6), [3]);
    bench.settle(6, &[(3, Outcome::Ack)]);
    assert!(bench.next(6).is_empty());
}

#[test]
fn a_refused_message_is_read_anew_and_goes_out_alone_at_its_place() {
    let policy = Policy { batch_wait: Duration::ZERO, ..policy(1, 2) };
    let mut bench = bench(policy, &[None; 5]);
    assert_eq!(bench.next(1), [1, 2]);
    assert_eq!(bench.reads, [1, 2, 3, 4, 5]);
    let retry = || Outcome::Retry("later".into());
    bench.settle(1, &[(1, retry()), (2, retry())]);
    assert_eq!(bench.waiting(), 0, "neither these nor those behind them are kept");
    assert_eq!(bench.next(2), [1]);
    assert_eq!(bench.reads[5..], [1]);
    bench.settle(2, &[(1, Outcome::Ack)]);
    assert_eq!(bench.next(2), [2]);
    bench.settle(2, &[(2, Outcome::Ack)]);
    assert_eq!([bench.next(2), bench.next(2)], [vec![3, 4], vec![]]);
    assert_eq!(bench.reads[6..], [2, 3, 4, 5]);
}

#[test]
fn a_refused_message_that_the_store_has_lost_holds_up_nothing() {
    let mut bench = bench(policy(1, 1), &[None, None]);
    assert_eq!(bench.next(1), [1]);
    bench.settle(1, &[(1, Outcome::Retry("later".into()))]);
    bench.kept.remove(&1);
    assert_eq!(bench.next(2), [2]);
}

#[test]
fn a_message_that_is_not_in_memory_still_blocks_its_key() {
    let policy = Policy { by_key: true, ..policy(8, 1) };
    let keys = [Some("a"), Some("a"), Some("b"), Some("b")];
    let mut bench = bench(policy, &keys);
    assert_eq!([bench.next(1), bench.next(1)], [[1], [3]]);
    bench.dispatcher.give_back();
    assert_eq!(bench.waiting(), 0);
    assert!(bench.next(1).is_empty());
    bench.settle(1, &[(1, Outcome::Retry("later".into()))]);
    assert!(bench.next(1).is_empty(), "2 waits for 1");
    bench.settle(1, &[(3, Outcome::Ack)]);
    assert_eq!(bench.next(1), [4]);
    assert_eq!(bench.next(2), [1]);
    bench.settle(2, &[(1, Outcome::Ack)]);
    assert_eq!(bench.next(2), [2]);
}

#[test]
fn a_slot_of_a_new_life_is_of_no_use_before_the_earlier_one_has_answered() {
    let mut bench = bench(policy(usize::MAX, 1), &[None; 3]);
    assert_eq!([bench.next(1), bench.next(1)], [[1], [2]]);
    assert!(bench.admitted_batch(1, 2).is_none());
    bench.settle(1, &[(1, Outcome::Unreachable("gone".into()))]);
    assert!(bench.admitted_batch(1, 2).is_none(), "2 may have been lost too");
    bench.settle(1, &[(2, Outcome::Ack)]);
    let sent = [1, 3].map(|expected| {
        let batch = bench.admitted_batch(1, 2).unwrap();
        assert_eq!(batch.messages[0].0, 1, "it was no attempt");
        (expected, batch.messages[0].1.sequence.0)
    });
    assert!(sent.iter().all(|(expected, found)| expected == found), "{sent:?}");
}

#[test]
fn what_was_read_for_an_earlier_life_is_read_anew() {
    let mut bench = bench(policy(1, 1), &[None; 3]);
    assert_eq!(bench.next(1), [1]);
    bench.settle(1, &[(1, Outcome::Ack)]);
    assert!(bench.waiting() > 0);
    assert!(bench.dispatcher.admit(2));
    assert_eq!(bench.waiting(), 0);
    assert_eq!(bench.admitted_batch(1, 2).unwrap().messages[0].1.sequence, Sequence(2));
    assert_eq!(bench.reads, [1, 2, 3, 2, 3]);
}

#[test]
fn a_batch_that_waits_for_more_keeps_no_payload() {
    let mut bench = bench(policy(1, 3), &[None, None]);
    assert!(bench.next(0).is_empty());
    assert_eq!(bench.waiting(), 0);
    bench.publish(0, [message(3, None)]);
    assert_eq!(bench.wake_at(), Some(Duration::ZERO));
    assert_eq!(bench.next(0), [1, 2, 3]);
}

/// Messages of 1,000 bytes.
fn large(numbers: std::ops::RangeInclusive<u64>, key: Option<&str>) -> Vec<Message> {
    numbers.map(|n| Message { data: vec![0; 1000], ..message(n, key) }).collect()
}

#[test]
fn consumers_share_what_they_read_ahead() {
    let read_ahead = Arc::new(ReadAhead::new(10_000));
    let mut benches = [1, 2, 3].map(|_| {
        let read_ahead = Arc::clone(&read_ahead);
        let mut bench = Bench::new(Policy { read_ahead, ..policy(1, 1) });
        bench.publish(0, large(1..=50, None));
        bench
    });
    for sequence in 1..=50 {
        for bench in &mut benches {
            assert_eq!(bench.next(1), [sequence]);
            bench.settle(1, &[(sequence, Outcome::Ack)]);
            assert!(read_ahead.used() <= 10_000, "{}", read_ahead.used());
        }
    }
    assert_eq!(read_ahead.used(), 0);
}

#[test]
fn a_batch_is_read_whatever_its_size() {
    let read_ahead = Arc::new(ReadAhead::new(0));
    let mut bench = Bench::new(Policy { read_ahead, ..policy(1, 3) });
    bench.publish(0, large(1..=5, None));
    assert_eq!(bench.next(1), [1, 2, 3]);
    assert_eq!(bench.reads, [1, 2, 3]);
    assert_eq!(bench.waiting(), 0);
}

#[test]
fn messages_whose_key_is_busy_stay_within_the_bound() {
    let read_ahead = Arc::new(ReadAhead::new(3000));
    let mut bench = Bench::new(Policy { read_ahead, by_key: true, ..policy(4, 1) });
    bench.publish(0, large(1..=20, Some("a")));
    bench.publish(0, large(21..=21, Some("b")));
    for expected in [vec![1], vec![21], vec![]] {
        assert_eq!(bench.next(1), expected);
        assert!(bench.waiting() <= 3000, "{}", bench.waiting());
    }
    bench.settle(1, &[(1, Outcome::Ack)]);
    assert_eq!(bench.next(1), [2]);
    assert!(bench.waiting() <= 3000);
}

#[test]
fn a_retry_that_is_asked_for_waits_for_no_backoff() {
    let mut bench = bench(policy(1, 1), &[None]);
    assert_eq!(bench.next(1), [1]);
    bench.settle(1, &[(1, Outcome::Retry("busy".into()))]);
    assert!(bench.next(1).is_empty());
    bench.dispatcher.hurry(at(1));
    assert_eq!(bench.next(1), [1]);
}

#[test]
fn a_refusal_says_which_attempt_it_was_and_what_becomes_of_the_message() {
    let policy = Policy { max_attempts: Some(2), ..policy(1, 1) };
    let mut bench = bench(policy, &[None]);
    let mut told = Vec::new();
    for now in [1, 5] {
        assert_eq!(bench.next(now), [1]);
        let outcomes = vec![(Sequence(1), Outcome::Retry("busy".into()))];
        told.extend(bench.dispatcher.settle(at(now), T, outcomes, 0.0).refusals);
    }
    let told: Vec<_> = told.iter().map(|r| (r.attempt, r.fate, &*r.reason)).collect();
    assert_eq!(told, [(1, Fate::Retried, "busy"), (2, Fate::Rejected, "busy")]);
}
