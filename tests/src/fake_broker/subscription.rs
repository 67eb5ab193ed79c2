use std::collections::BTreeSet;
use std::sync::Arc;

use components::port::pubsub::{Delivery, Order, Outcome, Sink, Slot, Subscription};
use components::stop::Stop;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::task::yield_now;

use super::Shared;
use super::queue::Place;

/// One in so many messages finds that the link has just been made anew.
const BREAKS: u32 = 6;
/// The longest time that the broker takes for a message, in turns of the scheduler.
const SLOWNESS: u32 = 8;

/// A subscription of the fake broker.
pub(super) struct FakeSubscription {
    shared: Arc<Shared>,
    consumer: String,
    /// Unanswered messages at most.
    most: usize,
    seed: u64,
}

impl FakeSubscription {
    pub(super) fn new(shared: Arc<Shared>, consumer: String, order: Order, seed: u64) -> Self {
        let most = match order {
            Order::Stream => 1,
            Order::Key(most) | Order::Pipelined(most) => most.max(1),
        };
        Self { shared, consumer, most, seed }
    }
}

impl Subscription for FakeSubscription {
    fn run(self: Arc<Self>, sink: Arc<dyn Sink<Delivery>>, stop: Stop) -> BoxFuture<'static, ()> {
        let rng = fastrand::Rng::with_seed(self.seed);
        let client = FakeClient {
            subscription: self,
            sink,
            rng,
            link: 0,
            in_flight: BTreeSet::new(),
            landing: FuturesUnordered::new(),
        };
        Box::pin(client.run(stop))
    }
}

/// The client of a subscription that runs.
struct FakeClient {
    subscription: Arc<FakeSubscription>,
    sink: Arc<dyn Sink<Delivery>>,
    rng: fastrand::Rng,
    /// Counts the links. Outcomes of messages that came by an earlier one can't be told the broker.
    link: u32,
    in_flight: BTreeSet<Place>,
    landing: FuturesUnordered<BoxFuture<'static, Landed>>,
}

struct Landed {
    place: Place,
    link: u32,
    outcome: Outcome,
}

impl FakeClient {
    async fn run(mut self, stop: Stop) {
        let mut changes = self.subscription.shared.changes.subscribe();
        let mut slot: Option<BoxFuture<'static, Slot>> = None;
        while !(stop.is_requested() && self.in_flight.is_empty()) {
            let wants = !stop.is_requested() && self.wants_slot();
            match wants {
                true => drop(slot.get_or_insert_with(|| self.ask())),
                false => slot = None,
            }
            tokio::select! {
                () = stop.requested(), if !stop.is_requested() => {}
                Some(landed) = self.landing.next(), if !self.landing.is_empty() => self.land(landed),
                granted = async { slot.as_mut().expect("it is wanted").await }, if wants => {
                    slot = None;
                    self.hand_over(granted).await;
                }
                _ = changes.changed() => {}
            }
        }
    }

    fn wants_slot(&self) -> bool {
        let Self { subscription, in_flight, .. } = self;
        let any = |rng: &mut fastrand::Rng| {
            subscription
                .shared
                .with_queue(&subscription.consumer, |queue| queue.any(rng, in_flight))
        };
        in_flight.len() < subscription.most && any(&mut self.rng.clone()).is_some()
    }

    fn ask(&self) -> BoxFuture<'static, Slot> {
        let sink = Arc::clone(&self.sink);
        Box::pin(async move { sink.ready().await })
    }

    async fn hand_over(&mut self, slot: Slot) {
        for _ in 0..self.rng.u32(..SLOWNESS) {
            yield_now().await;
        }
        self.link += u32::from(self.rng.u32(..BREAKS) == 0);
        let Self { subscription, rng, in_flight, .. } = self;
        let next = subscription
            .shared
            .with_queue(&subscription.consumer, |queue| queue.any(rng, in_flight));
        let Some(delivery) = next else { return };
        let place = Place::of(&delivery);
        let link = self.link;
        self.in_flight.insert(place);
        let outcomes = Arc::clone(&self.sink).deliver(slot, vec![delivery]);
        self.landing.push(Box::pin(async move {
            let outcome = outcomes.await.pop().expect("each message has an outcome");
            Landed { place, link, outcome }
        }));
    }

    fn land(&mut self, landed: Landed) {
        let Landed { place, link, outcome } = landed;
        self.in_flight.remove(&place);
        let done = matches!(outcome, Outcome::Ack | Outcome::Reject(_));
        if done && link == self.link {
            let FakeSubscription { shared, consumer, .. } = &*self.subscription;
            shared.with_queue(consumer, |queue| queue.remove(place));
        }
    }
}
