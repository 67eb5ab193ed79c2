#![allow(clippy::unwrap_used)]

use std::time::Duration;

use config::model::{Bulk as BulkSpec, SubscriptionSpec};

use super::*;
use crate::pubsub::subscriptions::SubscriptionSource;

#[test]
fn order_is_strict_unless_concurrency_is_asked_for() {
    let spec = SubscriptionSpec {
        pubsub: "pubsub".into(),
        topic: "t".into(),
        ..SubscriptionSpec::default()
    };
    let mut subscription = Subscription { spec, source: SubscriptionSource::Programmatic };
    let strict =
        specification("app", &subscription, &subscription.settings().unwrap(), Arc::default());
    assert_eq!(strict.consumer, "app/app/pubsub/t");
    assert_eq!(strict.filters, ["t"]);
    assert_eq!(strict.order, Order::Stream);
    assert_eq!(strict.batch, None);
    assert_eq!(strict.attempts, None);

    let spec = &mut subscription.spec;
    spec.metadata.insert("concurrency".into(), "4".into());
    spec.bulk = Some(BulkSpec { max_messages: 10, max_await: Duration::from_secs(2) });
    spec.dead_letter_topic = Some("dead".into());
    let wide =
        specification("app", &subscription, &subscription.settings().unwrap(), Arc::default());
    assert_eq!(wide.order, Order::Key(4));
    assert_eq!(wide.batch, Some(BatchPolicy { messages: 10, wait: Duration::from_secs(2) }));
    assert_eq!(wide.attempts, NonZeroU32::new(4));
    assert_eq!(wide.dead_letter.as_deref(), Some("dead"));
}
