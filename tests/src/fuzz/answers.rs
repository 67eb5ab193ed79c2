//! What an app answers: to `GET /dapr/subscribe`, to a delivery, to a bulk of them.

use axum::http::StatusCode;
use blocks::pubsub::route::Routes;
use blocks::pubsub::subscriber::specification;
use blocks::pubsub::subscriptions::{self, Subscription};
use config::model::SubscriptionSpec;
use runtime::channel::http::answer::{bulk_outcomes, outcome};
use runtime::channel::http::subscriptions::parse;

/// A status and a body.
pub(super) fn run(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let status = [200, 204, 404, 500][usize::from(*first) % 4];
    let status = StatusCode::from_u16(status).expect("a status");
    let _ = outcome(status, body);
    let ids = ["1-1", "1-2", ""];
    assert_eq!(bulk_outcomes(status, body, &ids).len(), ids.len());
    subscribe(body);
}

fn subscribe(body: &[u8]) {
    let Ok(declared) = parse(body) else { return };
    let (found, _) = subscriptions::accept(declared);
    for (at, subscription) in found.iter().enumerate() {
        let SubscriptionSpec { pubsub, topic, rules, default_route, .. } = &subscription.spec;
        assert!(!pubsub.is_empty() && !topic.is_empty());
        let same = |other: &&Subscription| other.name() == subscription.name();
        let others = found[at + 1..].iter().filter(same);
        assert!(others.into_iter().all(|other| other.spec.topic != *topic));
        let _ = Routes::compile(&subscription.name(), rules, default_route.as_deref());
        if let Ok(settings) = subscription.settings() {
            let specification = specification("app", subscription, &settings, Default::default());
            assert!(specification.batch.is_none_or(|batch| batch.messages > 0));
        }
    }
    assert!(subscriptions::merge("app", &[], found.clone()) == found);
}
