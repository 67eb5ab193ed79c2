//! The cases of pub/sub components.

use std::num::NonZeroU32;
use std::time::Duration;

use components::port::pubsub::{BatchPolicy, Order, Outcome, Outgoing, SubscribeSpec};

use crate::recorder::Recorder;
use crate::subjects::{PubSubSubject, each_pubsub, to};

/// A wait for batches that no case sits out.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// The texts `0`, `1`, and so on.
fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn as_strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn retry() -> Outcome {
    Outcome::Retry("busy".into())
}

fn unreachable() -> Outcome {
    Outcome::Unreachable("gone".into())
}

fn batches_of(messages: usize, wait: Duration) -> SubscribeSpec {
    SubscribeSpec { batch: Some(BatchPolicy { messages, wait }), ..to("orders") }
}

fn with_dead_letters() -> SubscribeSpec {
    SubscribeSpec { attempts: NonZeroU32::new(2), dead_letter: Some("dead".into()), ..to("orders") }
}

#[test]
fn every_message_is_delivered() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::new();
        let running = subject.subscribe(to("orders"), &recorder).await;
        let texts = numbers(30);
        subject.publish("orders", &as_strs(&texts)).await;
        recorder.until_all(&as_strs(&texts)).await;
        assert!(recorder.received().iter().all(|received| received.topic == "orders"));
        running.stop().await;
    });
}

#[test]
fn messages_of_a_topic_arrive_in_their_order_where_that_is_claimed() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        if !subject.features().ordered {
            return;
        }
        let texts = numbers(30);
        let batched = batches_of(4, Duration::from_millis(1));
        let pipelined = SubscribeSpec { order: Order::Pipelined(4), ..to("orders") };
        for spec in [to("orders"), batched, pipelined] {
            let recorder = Recorder::new();
            let order = spec.order;
            let running = subject.subscribe(spec, &recorder).await;
            subject.publish("orders", &as_strs(&texts)).await;
            recorder.until_count(texts.len()).await;
            assert_eq!(recorder.texts(), texts, "{order:?}");
            running.stop().await;
        }
    });
}

#[test]
fn a_refused_message_holds_up_those_behind_it_where_order_is_claimed() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        if !subject.features().ordered {
            return;
        }
        let recorder = Recorder::answering("1", [retry()]);
        let running = subject.subscribe(to("orders"), &recorder).await;
        subject.publish("orders", &["0", "1", "2"]).await;
        recorder.until_count(4).await;
        assert_eq!(recorder.texts(), ["0", "1", "1", "2"]);
        running.stop().await;
    });
}

#[test]
fn a_refused_message_is_delivered_again_as_the_next_attempt() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::answering("hard", [retry()]);
        let running = subject.subscribe(to("orders"), &recorder).await;
        subject.publish("orders", &["hard"]).await;
        recorder.until_times("hard", 2).await;
        assert_eq!(recorder.attempts("hard")[..2], [1, 2]);
        running.stop().await;
    });
}

#[test]
fn an_unreachable_remote_is_no_attempt() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::answering("hard", [unreachable(), unreachable(), retry()]);
        let running = subject.subscribe(to("orders"), &recorder).await;
        subject.publish("orders", &["hard"]).await;
        recorder.until_times("hard", 4).await;
        assert_eq!(recorder.attempts("hard")[..4], [1, 1, 1, 2]);
        running.stop().await;
    });
}

#[test]
fn what_an_earlier_life_of_the_remote_lost_is_delivered_again_as_the_same_attempt() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        for batch in [None, Some(BatchPolicy { messages: 2, wait: Duration::ZERO })] {
            let recorder = Recorder::new();
            recorder.hold();
            let running =
                subject.subscribe(SubscribeSpec { batch, ..to("orders") }, &recorder).await;
            subject.publish("orders", &["lost", "next"]).await;
            recorder.until_count(1).await;
            let lost = recorder.texts().remove(0);
            recorder.restart();
            recorder.until_times(&lost, 2).await;
            recorder.until_all(&["lost", "next"]).await;
            assert_eq!(recorder.attempts(&lost)[..2], [1, 1], "{batch:?}");
            running.stop().await;
        }
    });
}

#[test]
fn nothing_is_delivered_while_the_remote_gives_no_slot() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let closed = Recorder::new();
        closed.close();
        let open = Recorder::new();
        let other = SubscribeSpec { consumer: "app/other/subject/orders".into(), ..to("orders") };
        let waiting = subject.subscribe(to("orders"), &closed).await;
        let running = subject.subscribe(other, &open).await;
        let texts = numbers(10);
        subject.publish("orders", &as_strs(&texts)).await;
        open.until_all(&as_strs(&texts)).await;
        assert!(closed.received().is_empty());
        closed.open();
        closed.until_all(&as_strs(&texts)).await;
        waiting.stop().await;
        running.stop().await;
    });
}

#[test]
fn no_more_messages_are_unanswered_than_the_order_and_the_batches_allow() {
    struct Bound {
        spec: SubscribeSpec,
        most: usize,
    }
    each_pubsub(async |subject: &mut PubSubSubject| {
        let texts = numbers(20);
        let bounds = [
            Bound { spec: to("orders"), most: 1 },
            Bound { spec: SubscribeSpec { order: Order::Key(4), ..to("orders") }, most: 4 },
            Bound { spec: SubscribeSpec { order: Order::Pipelined(4), ..to("orders") }, most: 4 },
            Bound { spec: batches_of(3, Duration::from_millis(1)), most: 3 },
            Bound {
                spec: SubscribeSpec {
                    order: Order::Key(2),
                    ..batches_of(3, Duration::from_millis(1))
                },
                most: 6,
            },
        ];
        for Bound { spec, most } in bounds {
            let recorder = Recorder::new();
            recorder.hold();
            let described = format!("{:?} {:?}", spec.order, spec.batch);
            let running = subject.subscribe(spec, &recorder).await;
            subject.publish("orders", &as_strs(&texts)).await;
            recorder.until_count(most).await;
            recorder.release();
            recorder.until_all(&as_strs(&texts)).await;
            assert_eq!(recorder.most_unanswered(), most, "{described}");
            running.stop().await;
        }
    });
}

#[test]
fn a_consumer_that_subscribes_anew_gets_the_topics_that_it_names_then() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let before = Recorder::new();
        let running = subject.subscribe(to("orders"), &before).await;
        subject.publish("orders", &["first"]).await;
        before.until_all(&["first"]).await;
        running.stop().await;

        let after = Recorder::new();
        let filters = vec!["bills".to_owned(), "letters".to_owned()];
        let running = subject.subscribe(SubscribeSpec { filters, ..to("orders") }, &after).await;
        subject.publish("orders", &["of another topic"]).await;
        subject.publish("bills", &["second"]).await;
        subject.publish("letters", &["third"]).await;
        after.until_all(&["second", "third"]).await;
        assert!(after.received().iter().all(|received| received.topic != "orders"));
        running.stop().await;
    });
}

#[test]
fn a_subscription_that_stops_waits_for_the_outcomes_of_what_is_in_flight() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::new();
        recorder.hold();
        let running = subject.subscribe(to("orders"), &recorder).await;
        subject.publish("orders", &["in flight"]).await;
        recorder.until_count(1).await;
        running.request_stop();
        subject.publish("orders", &["too late"]).await;
        assert!(!running.has_ended());
        recorder.release();
        running.stop().await;
        assert_eq!(recorder.texts(), ["in flight"]);

        let again = Recorder::new();
        let running = subject.subscribe(to("orders"), &again).await;
        subject.publish("orders", &["last"]).await;
        again.until_all(&["last"]).await;
        assert!(again.attempts("in flight").is_empty(), "its outcome was written down");
        running.stop().await;
    });
}

#[test]
fn a_subscription_that_stops_gives_up_messages_whose_batch_is_not_full() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::new();
        let running = subject.subscribe(batches_of(100, FOR_EVER), &recorder).await;
        subject.publish("orders", &["0", "1", "2"]).await;
        running.stop().await;
        assert!(recorder.received().is_empty());
    });
}

#[test]
fn two_subscriptions_get_every_message_of_their_topics() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let first = Recorder::new();
        let second = Recorder::new();
        let both = vec!["orders".to_owned(), "bills".to_owned()];
        let running_first = subject.subscribe(to("orders"), &first).await;
        let running_second =
            subject.subscribe(SubscribeSpec { filters: both, ..to("all") }, &second).await;
        subject.publish("bills", &["a bill"]).await;
        subject.publish("orders", &["an order"]).await;
        first.until_all(&["an order"]).await;
        second.until_all(&["an order", "a bill"]).await;
        assert!(first.attempts("a bill").is_empty());
        running_first.stop().await;
        running_second.stop().await;
    });
}

#[test]
fn messages_wait_for_a_consumer_that_does_not_run_where_a_backlog_is_claimed() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        if !subject.keeps_a_backlog() {
            return;
        }
        subject.register(to("orders")).await;
        subject.publish("orders", &["early"]).await;
        let recorder = Recorder::new();
        let running = subject.subscribe(to("orders"), &recorder).await;
        recorder.until_all(&["early"]).await;
        running.stop().await;
        subject.publish("orders", &["between"]).await;
        let recorder = Recorder::new();
        let running = subject.subscribe(to("orders"), &recorder).await;
        recorder.until_all(&["between"]).await;
        assert!(recorder.attempts("early").is_empty());
        running.stop().await;
    });
}

#[test]
fn a_consumer_can_be_released_once_and_finds_its_backlog_when_it_comes_back() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let Some(backlog) = subject.component.backlog() else { return };
        let spec = to("orders");
        subject.register(spec.clone()).await;
        assert_eq!(backlog.consumers(), [spec.consumer.as_str()]);
        subject.publish("orders", &["kept"]).await;
        assert!(backlog.release(&spec.consumer).await.unwrap());
        assert!(!backlog.release(&spec.consumer).await.unwrap());
        let recorder = Recorder::new();
        let running = subject.subscribe(spec, &recorder).await;
        recorder.until_all(&["kept"]).await;
        running.stop().await;
    });
}

#[test]
fn messages_outlive_a_restart_where_that_is_claimed() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        if !subject.features().durable {
            return;
        }
        let recorder = Recorder::answering("refused", [retry()]);
        let running = subject.subscribe(to("orders"), &recorder).await;
        subject.publish("orders", &["refused"]).await;
        recorder.until_times("refused", 1).await;
        running.stop().await;
        subject.publish("orders", &["waiting"]).await;
        subject.restart().await;
        let recorder = Recorder::new();
        let running = subject.subscribe(to("orders"), &recorder).await;
        recorder.until_all(&["refused", "waiting"]).await;
        running.stop().await;
    });
}

#[test]
fn a_full_batch_is_delivered_at_once() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::new();
        let running = subject.subscribe(batches_of(3, FOR_EVER), &recorder).await;
        subject.publish("orders", &["0", "1", "2"]).await;
        recorder.until_all(&["0", "1", "2"]).await;
        assert_eq!(recorder.batches()[0].len(), 3);
        running.stop().await;
    });
}

#[test]
fn no_batch_is_larger_than_asked_for_and_none_waits_for_ever() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::new();
        let running = subject.subscribe(batches_of(4, Duration::from_millis(1)), &recorder).await;
        let texts = numbers(30);
        subject.publish("orders", &as_strs(&texts)).await;
        recorder.until_all(&as_strs(&texts)).await;
        let sizes: Vec<usize> = recorder.batches().iter().map(Vec::len).collect();
        assert!(sizes.iter().all(|size| (1..=4).contains(size)), "{sizes:?}");
        running.stop().await;
    });
}

#[test]
fn a_batch_has_messages_of_one_topic() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::new();
        let filters = vec!["orders".to_owned(), "bills".to_owned()];
        let spec = SubscribeSpec { filters, ..batches_of(2, Duration::from_millis(1)) };
        let running = subject.subscribe(spec, &recorder).await;
        subject.publish("orders", &["0", "1"]).await;
        subject.publish("bills", &["2", "3"]).await;
        recorder.until_all(&["0", "1", "2", "3"]).await;
        for batch in recorder.batches() {
            assert!(batch.iter().all(|received| received.topic == batch[0].topic), "{batch:?}");
        }
        running.stop().await;
    });
}

#[test]
fn each_message_of_a_batch_has_an_outcome_of_its_own() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::answering("hard", [retry()]);
        let spec = batches_of(3, Duration::from_millis(1));
        let running = subject.subscribe(spec, &recorder).await;
        subject.publish("orders", &["0", "hard", "2"]).await;
        recorder.until_all(&["0", "2"]).await;
        recorder.until_times("hard", 2).await;
        assert_eq!(recorder.attempts("hard")[..2], [1, 2]);
        running.stop().await;
    });
}

#[test]
fn a_message_that_is_refused_at_its_last_attempt_becomes_a_dead_letter() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::answering("poison", vec![retry(); 100]);
        let letters = Recorder::new();
        let running = subject.subscribe(with_dead_letters(), &recorder).await;
        let reading = subject.subscribe(to("dead"), &letters).await;
        subject.publish("orders", &["poison", "good"]).await;
        letters.until_all(&["poison"]).await;
        recorder.until_all(&["good"]).await;
        assert_eq!(recorder.attempts("poison")[..2], [1, 2]);
        let letter = letters.received().remove(0);
        assert_eq!(letter.dead_letter, Some(("busy".to_owned(), "orders".to_owned())));
        running.stop().await;
        reading.stop().await;
    });
}

#[test]
fn a_rejected_message_becomes_a_dead_letter_at_once() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::answering("bad", vec![Outcome::Reject("no use".into()); 100]);
        let letters = Recorder::new();
        let running = subject.subscribe(with_dead_letters(), &recorder).await;
        let reading = subject.subscribe(to("dead"), &letters).await;
        subject.publish("orders", &["bad"]).await;
        letters.until_all(&["bad"]).await;
        assert_eq!(recorder.attempts("bad")[0], 1);
        let letter = letters.received().remove(0);
        assert_eq!(letter.dead_letter, Some(("no use".to_owned(), "orders".to_owned())));
        running.stop().await;
        reading.stop().await;
    });
}

#[test]
fn a_rejected_message_without_a_dead_letter_topic_holds_up_no_other() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::answering("bad", vec![Outcome::Reject("no use".into()); 100]);
        let running = subject.subscribe(to("orders"), &recorder).await;
        subject.publish("orders", &["bad", "good"]).await;
        recorder.until_all(&["bad", "good"]).await;
        running.stop().await;
    });
}

fn expiring(text: &str, seconds: u64) -> Outgoing {
    Outgoing { data: text.into(), ttl_ms: Some(seconds * 1000), ..Outgoing::default() }
}

#[test]
fn a_message_past_its_time_is_not_delivered() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::new();
        recorder.close();
        let running = subject.subscribe(to("orders"), &recorder).await;
        let both = vec![expiring("late", 10), expiring("in time", 1000)];
        subject.publish_messages("orders", both).await;
        subject.advance(10);
        recorder.open();
        recorder.until_all(&["in time"]).await;
        subject.publish("orders", &["next"]).await;
        recorder.until_all(&["next"]).await;
        running.stop().await;
        assert!(recorder.attempts("late").is_empty());
    });
}

#[test]
fn a_message_past_its_time_becomes_a_dead_letter() {
    each_pubsub(async |subject: &mut PubSubSubject| {
        let recorder = Recorder::new();
        recorder.close();
        let letters = Recorder::new();
        let running = subject.subscribe(with_dead_letters(), &recorder).await;
        let reading = subject.subscribe(to("dead"), &letters).await;
        subject.publish_messages("orders", vec![expiring("late", 10)]).await;
        subject.advance(10);
        recorder.open();
        subject.publish("orders", &["next"]).await;
        letters.until_all(&["late"]).await;
        assert!(recorder.attempts("late").is_empty());
        let letter = letters.received().remove(0);
        assert_eq!(letter.dead_letter, Some(("expired".to_owned(), "orders".to_owned())));
        running.stop().await;
        reading.stop().await;
    });
}
