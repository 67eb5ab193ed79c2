//! Consumers that are stopped.

use tokio::sync::Notify;

use super::slots::{Remote, until};
use super::*;

/// Rounds of a test whose failure is up to the scheduler.
const ROUNDS: usize = 20;

/// Delivers the first of two messages. Its outcome comes after a stop is requested, but before the
/// consumer notices either. Returns what was delivered.
async fn stop_after_the_first(store: &Store) -> Vec<String> {
    let remote = Remote::with_slots(2);
    let consumer = store.register(consumer("c", "t")).await.unwrap();
    let stop = Arc::new(Notify::new());
    let running = tokio::spawn({
        let stop = stop.clone();
        let remote = remote.clone();
        async move { run(consumer, remote, policy(), stop.notified()).await }
    });
    store.commit(vec![publish("t", "1"), publish("t", "2")]).await.unwrap();
    remote.has_sent(1).await;
    stop.notify_one();
    remote.answer(&Outcome::Ack);
    until(|| running.is_finished() || remote.sent().len() > 1).await;
    remote.sent()
}

#[tokio::test]
async fn after_a_stop_a_consumer_hands_over_nothing_more() {
    for _ in 0..ROUNDS {
        assert_eq!(stop_after_the_first(&Bench::new().open()).await, ["1"]);
    }
}

#[tokio::test]
async fn a_consumer_that_has_stopped_has_written_its_outcomes_down() {
    for _ in 0..ROUNDS {
        let store = Bench::new().open();
        stop_after_the_first(&store).await;
        let next = Script::new(1, |_| Outcome::Ack);
        assert_eq!(next.drive(&store, consumer("c", "t"), policy()).await, ["2"]);
    }
}

#[tokio::test]
async fn a_consumer_with_nothing_in_flight_ends_at_once() {
    let store = Bench::new().open();
    let consumer = store.register(consumer("c", "t")).await.unwrap();
    let remote = Remote::with_slots(1);
    run(consumer, remote.clone(), policy(), std::future::ready(())).await;
    assert!(remote.sent().is_empty());
}
