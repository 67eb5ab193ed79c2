#![allow(clippy::unwrap_used)]

mod fakes;

use std::num::NonZeroU32;
use std::time::Duration;

use components::port::pubsub::{DeadLetter, Message, Outcome};
use futures_util::FutureExt;

use super::*;
use fakes::{FakeComponent, FakeRemote, NOW, Running, delivery, spec};

const EVERYTHING: PubSubFeatures = PubSubFeatures {
    ordered: true,
    wildcards: true,
    ttl: true,
    batches: true,
    dead_letters: true,
    attempts: true,
    durable: true,
};

const NOTHING: PubSubFeatures = PubSubFeatures {
    ordered: false,
    wildcards: false,
    ttl: false,
    batches: false,
    dead_letters: false,
    attempts: false,
    durable: false,
};

/// A specification that asks for everything.
fn demanding() -> SubscribeSpec {
    SubscribeSpec {
        batch: Some(BatchPolicy { messages: 5, wait: Duration::ZERO }),
        attempts: NonZeroU32::new(2),
        dead_letter: Some("dead".into()),
        ..spec()
    }
}

/// A specification of batches that don't leave before they are full.
fn batches_of(messages: usize) -> SubscribeSpec {
    let wait = Duration::from_secs(3600);
    SubscribeSpec { batch: Some(BatchPolicy { messages, wait }), ..spec() }
}

#[tokio::test]
async fn a_component_that_can_do_everything_gets_no_wrapper() {
    let fake = FakeComponent::with(EVERYTHING);
    let subscription = fake.subscribe(demanding()).await;
    assert!(std::ptr::addr_eq(Arc::as_ptr(&subscription), Arc::as_ptr(&fake.subscription)));
    let asked = fake.asked();
    assert_eq!(asked.batch, demanding().batch);
    assert_eq!(asked.attempts, demanding().attempts);
    assert_eq!(asked.dead_letter, demanding().dead_letter);
    assert_eq!(asked.order, Order::Stream);
}

#[tokio::test]
async fn a_component_is_asked_only_for_what_it_can_do() {
    let fake = FakeComponent::with(NOTHING);
    fake.subscribe(demanding()).await;
    let asked = fake.asked();
    assert_eq!((asked.batch, asked.attempts, asked.dead_letter), (None, None, None));
    assert_eq!(asked.order, Order::Pipelined(5));
    fake.subscribe(SubscribeSpec { order: Order::Key(3), ..demanding() }).await;
    assert_eq!(fake.asked().order, Order::Key(15));
    fake.subscribe(SubscribeSpec { batch: None, ..demanding() }).await;
    assert_eq!(fake.asked().order, Order::Stream);
}

#[tokio::test]
async fn a_component_without_dead_letters_must_not_give_messages_up_by_itself() {
    let fake = FakeComponent::with(PubSubFeatures { dead_letters: false, ..EVERYTHING });
    fake.subscribe(demanding()).await;
    assert_eq!(fake.asked().attempts, None);
    fake.subscribe(SubscribeSpec { dead_letter: None, ..demanding() }).await;
    assert_eq!(fake.asked().attempts, NonZeroU32::new(2));
}

#[tokio::test]
async fn the_last_attempt_puts_a_message_into_the_dead_letter_topic_with_its_reason() {
    let fake = FakeComponent::with(NOTHING);
    let remote = FakeRemote::answering(|_| Outcome::Retry("busy".into()));
    let running =
        Running::start(&fake, &remote, SubscribeSpec { batch: None, ..demanding() }).await;
    assert_eq!(running.deliver(7).await, Outcome::Retry("busy".into()));
    assert_eq!(running.deliver(7).await, Outcome::Ack);
    assert_eq!(remote.attempts(), [1, 2]);
    let (topic, letter) = fake.published().remove(0);
    assert_eq!((topic.as_str(), letter.data.as_slice()), ("dead", b"7".as_slice()));
    let letter = Message { attributes: letter.attributes, ..Message::default() };
    let letter = DeadLetter::of(&letter).unwrap();
    assert_eq!((letter.reason, letter.topic, letter.sequence.0), ("busy", "t", 7));
    assert_eq!(running.deliver(7).await, Outcome::Retry("busy".into()), "counted anew");
}

#[tokio::test]
async fn the_count_of_a_component_that_has_one_holds() {
    let fake = FakeComponent::with(PubSubFeatures { dead_letters: false, ..EVERYTHING });
    let remote = FakeRemote::answering(|_| Outcome::Retry("busy".into()));
    let running = Running::start(&fake, &remote, demanding()).await;
    let second = Delivery { attempt: 2, ..delivery(7) };
    assert_eq!(running.hand_over(vec![second]).await, [Outcome::Ack]);
    assert_eq!(fake.published().len(), 1);
}

#[tokio::test]
async fn an_unreachable_remote_is_no_attempt() {
    let fake = FakeComponent::with(NOTHING);
    let remote = FakeRemote::answering(|_| Outcome::Unreachable("gone".into()));
    let running =
        Running::start(&fake, &remote, SubscribeSpec { batch: None, ..demanding() }).await;
    for _ in 0..3 {
        assert_eq!(running.deliver(7).await, Outcome::Unreachable("gone".into()));
    }
    assert_eq!(remote.attempts(), [1, 1, 1]);
}

#[tokio::test]
async fn a_message_whose_dead_letter_is_not_published_comes_again() {
    let fake = FakeComponent::with(NOTHING);
    let remote = FakeRemote::answering(|_| Outcome::Reject("bad".into()));
    let running =
        Running::start(&fake, &remote, SubscribeSpec { batch: None, ..demanding() }).await;
    fake.refuse(true);
    assert!(matches!(running.deliver(7).await, Outcome::Retry(reason) if reason.contains("full")));
    fake.refuse(false);
    assert_eq!(running.deliver(7).await, Outcome::Ack);
    assert_eq!(remote.attempts(), [1, 2]);
    assert_eq!(fake.published().len(), 1);
}

#[tokio::test]
async fn a_message_that_is_rejected_in_the_dead_letter_topic_is_left_to_the_component() {
    let fake = FakeComponent::with(NOTHING);
    let remote = FakeRemote::answering(|_| Outcome::Reject("bad".into()));
    let own = SubscribeSpec { dead_letter: Some("t".into()), batch: None, ..demanding() };
    let running = Running::start(&fake, &remote, own).await;
    assert_eq!(running.deliver(7).await, Outcome::Reject("bad".into()));
    assert!(fake.published().is_empty());
}

#[tokio::test]
async fn a_message_past_its_time_is_not_delivered_and_becomes_a_dead_letter() {
    let fake = FakeComponent::with(NOTHING);
    let message = Outgoing { ttl_ms: Some(1000), ..Outgoing::default() };
    let component: Arc<dyn PubSub> = fake.clone();
    publish(&*component, "t", vec![message], &fake.clock).await.unwrap();
    let attributes = fake.published().remove(0).1.attributes;
    let mut expiring = delivery(7);
    expiring.message.attributes = attributes;

    let remote = FakeRemote::answering(|_| Outcome::Ack);
    let running =
        Running::start(&fake, &remote, SubscribeSpec { batch: None, ..demanding() }).await;
    running.hand_over(vec![expiring.clone()]).await;
    assert_eq!(remote.left_ms(), [Some(1000)]);
    fake.clock.advance(Duration::from_secs(1));
    let both = vec![expiring.clone(), delivery(8)];
    assert_eq!(running.hand_over(both).await, [Outcome::Ack, Outcome::Ack]);
    assert_eq!(remote.left_ms(), [Some(1000), None], "the other one is delivered");
    let (topic, letter) = fake.published().pop().unwrap();
    let letter = Message { attributes: letter.attributes, ..Message::default() };
    assert_eq!((topic.as_str(), DeadLetter::of(&letter).unwrap().reason), ("dead", "expired"));
    assert_eq!(expiry::left_ms(&letter, NOW), None, "a dead letter does not expire");

    let running = Running::start(&fake, &remote, spec()).await;
    assert_eq!(running.hand_over(vec![expiring]).await, [Outcome::Ack], "dropped");
    assert_eq!(remote.left_ms().len(), 2);
}

#[tokio::test]
async fn a_full_batch_goes_out_at_once_and_the_next_one_waits_for_its_outcomes() {
    let fake = FakeComponent::with(NOTHING);
    let remote = FakeRemote::answering(|_| Outcome::Ack);
    remote.hold(true);
    let running = Running::start(&fake, &remote, batches_of(2)).await;
    let first = tokio::spawn(running.handed(1).await);
    assert!(remote.batches().is_empty());
    let second = tokio::spawn(running.handed(2).await);
    remote.until(1).await;
    assert_eq!(remote.batches(), [vec![1, 2]]);
    assert!(running.sink.ready().now_or_never().is_none(), "the component has to stop reading");
    remote.hold(false);
    assert_eq!(first.await.unwrap(), [Outcome::Ack]);
    assert_eq!(second.await.unwrap(), [Outcome::Ack]);
    running.sink.ready().await;
}

#[tokio::test]
async fn a_batch_that_does_not_fill_goes_out_after_its_wait() {
    let fake = FakeComponent::with(NOTHING);
    let remote = FakeRemote::answering(|_| Outcome::Ack);
    let policy = BatchPolicy { messages: 100, wait: Duration::from_millis(1) };
    let spec = SubscribeSpec { batch: Some(policy), ..spec() };
    let running = Running::start(&fake, &remote, spec).await;
    assert_eq!(running.deliver(1).await, Outcome::Ack);
    assert_eq!(remote.batches(), [vec![1]]);
}

#[tokio::test]
async fn a_message_gives_its_slot_back_while_its_batch_fills() {
    let fake = FakeComponent::with(NOTHING);
    let remote = FakeRemote::answering(|_| Outcome::Ack);
    let running = Running::start(&fake, &remote, batches_of(2)).await;
    let first = tokio::spawn(running.handed(1).await);
    // The remote has one slot.
    drop(remote.ready().await);
    assert_eq!(running.deliver(2).await, Outcome::Ack);
    assert_eq!(first.await.unwrap(), [Outcome::Ack]);
}

#[tokio::test]
async fn a_message_that_exceeds_the_read_ahead_takes_its_batch_with_it() {
    let fake = FakeComponent::with(NOTHING);
    let remote = FakeRemote::answering(|_| Outcome::Ack);
    let read_ahead = Arc::new(ReadAhead::new(400));
    let spec = SubscribeSpec { read_ahead: Arc::clone(&read_ahead), ..batches_of(100) };
    let running = Running::start(&fake, &remote, spec).await;
    let first = tokio::spawn(running.handed(1).await);
    assert!(read_ahead.used() > 0);
    assert_eq!(running.deliver(2).await, Outcome::Ack);
    assert_eq!(first.await.unwrap(), [Outcome::Ack]);
    assert_eq!(remote.batches(), [vec![1, 2]]);
    assert_eq!(read_ahead.used(), 0);
}

#[tokio::test]
async fn a_batch_that_was_filled_for_an_earlier_life_is_unreachable() {
    let fake = FakeComponent::with(NOTHING);
    let remote = FakeRemote::answering(|_| Outcome::Ack);
    let running = Running::start(&fake, &remote, batches_of(2)).await;
    let early = running.sink.ready().await;
    let first = tokio::spawn(running.handed_with(early, 1));
    remote.restart();
    let second = tokio::spawn(running.handed(2).await);
    let lost = first.await.unwrap();
    assert!(matches!(lost[..], [Outcome::Unreachable(_)]), "{lost:?}");
    assert_eq!(running.deliver(1).await, Outcome::Ack);
    assert_eq!(second.await.unwrap(), [Outcome::Ack]);
    assert_eq!(remote.batches(), [vec![2, 1]]);
}

#[tokio::test]
async fn a_stop_returns_what_was_not_handed_over_and_waits_for_what_was() {
    let fake = FakeComponent::with(NOTHING);
    let remote = FakeRemote::answering(|_| Outcome::Ack);
    remote.hold(true);
    let spec = SubscribeSpec { order: Order::Pipelined(2), ..batches_of(2) };
    let running = Running::start(&fake, &remote, spec).await;
    let sent = [tokio::spawn(running.handed(1).await), tokio::spawn(running.handed(2).await)];
    remote.until(1).await;
    remote.restart_slots();
    let unsent = tokio::spawn(running.handed(3).await);
    running.stopper.request();
    let unsent = unsent.await.unwrap();
    assert!(matches!(unsent[..], [Outcome::Unreachable(_)]), "{unsent:?}");
    remote.hold(false);
    for sent in sent {
        assert_eq!(sent.await.unwrap(), [Outcome::Ack]);
    }
    running.end().await;
    assert_eq!(remote.batches(), [vec![1, 2]]);
}

#[tokio::test]
async fn a_message_that_comes_together_with_a_stop_is_not_handed_over() {
    // The order of two events at once is up to chance.
    for _ in 0..20 {
        let fake = FakeComponent::with(NOTHING);
        let remote = FakeRemote::answering(|_| Outcome::Ack);
        let running = Running::start(&fake, &remote, batches_of(1)).await;
        let slot = running.sink.ready().await;
        running.stopper.request();
        let returned = running.handed_with(slot, 1).await;
        assert!(matches!(returned[..], [Outcome::Unreachable(_)]), "{returned:?}");
        running.end().await;
        assert!(remote.batches().is_empty());
    }
}
