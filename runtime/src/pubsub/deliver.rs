//! Hands messages to an app: the sink of a subscription's consumer.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use config::model::SubscriptionSpec;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, header};
use serde::Serialize;
use serde_json::value::RawValue;
use store_forward::backoff::Backoff;
use store_forward::clock::Clock;
use store_forward::consumer::{Delivery, Outcome, Policy, Sink};
use store_forward::store::Identity;
use tokio::sync::Semaphore;

use super::answer;
use super::cloudevent::{CONTENT_TYPE, Event, EventSource};
use super::route::Routes;
use super::subscriptions::{Settings, Subscription};
use crate::app::{AppChannel, CallError};

/// Delivers a subscription's messages over HTTP.
pub struct AppSink {
    /// The way to the app.
    pub channel: Arc<AppChannel>,
    /// The subscription.
    pub subscription: Subscription,
    /// What its metadata asks for.
    pub settings: Settings,
    /// Its routes.
    pub routes: Routes,
    /// The store's identity, of which event ids are made.
    pub identity: Identity,
    /// For `expiration`.
    pub clock: Arc<dyn Clock>,
    /// The app's calls in flight over all subscriptions, if they are bounded.
    pub permits: Option<Arc<Semaphore>>,
}

/// How a subscription's messages are delivered.
#[must_use]
pub fn policy(subscription: &Subscription, settings: &Settings) -> Policy {
    let bulk = subscription.spec.bulk;
    let batch = bulk.map_or(1, |bulk| bulk.max_messages.max(1));
    Policy {
        window: settings.concurrency.saturating_mul(batch),
        per_stream: settings.concurrency,
        batch,
        batch_wait: bulk.map(|bulk| bulk.max_await).unwrap_or_default(),
        by_key: settings.concurrency > 1,
        backoff: Backoff::default(),
        max_attempts: settings.max_attempts,
    }
}

#[async_trait]
impl Sink for AppSink {
    async fn ready(&self) {
        self.channel.wait_until(|state| state.takes_messages()).await;
    }

    fn deliver(self: Arc<Self>, batch: Vec<Delivery>) -> BoxFuture<'static, Vec<Outcome>> {
        Box::pin(async move {
            if self.subscription.spec.bulk.is_some() {
                self.deliver_bulk(&batch).await
            } else {
                self.deliver_each(&batch).await
            }
        })
    }
}

impl AppSink {
    async fn deliver_each(&self, batch: &[Delivery]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for delivery in batch {
            outcomes.push(self.deliver_one(delivery).await);
        }
        outcomes
    }

    async fn deliver_one(&self, delivery: &Delivery) -> Outcome {
        let event = self.event(delivery);
        let Some(path) = self.routes.route(&event) else { return no_route() };
        let headers = self.headers(delivery);
        match self.post(path, &headers, event.to_json()).await {
            Ok(answer) => answer::outcome(answer.status, &answer.body),
            Err(error) => failed(&error),
        }
    }

    /// One call for each run of messages with the same path, so that order is kept.
    async fn deliver_bulk(&self, batch: &[Delivery]) -> Vec<Outcome> {
        let routed: Vec<(Option<&str>, Entry<'_>)> = batch
            .iter()
            .map(|delivery| {
                let event = self.event(delivery);
                (self.routes.route(&event), Entry::new(delivery, &event))
            })
            .collect();
        let mut outcomes = Vec::with_capacity(batch.len());
        for run in routed.chunk_by(|(one, _), (other, _)| one == other) {
            match run[0].0 {
                None => outcomes.extend(run.iter().map(|_| no_route())),
                Some(path) => outcomes.extend(self.post_bulk(path, run).await),
            }
        }
        outcomes
    }

    async fn post_bulk(&self, path: &str, run: &[(Option<&str>, Entry<'_>)]) -> Vec<Outcome> {
        let entries: Vec<&Entry<'_>> = run.iter().map(|(_, entry)| entry).collect();
        let ids: Vec<String> = entries.iter().map(|entry| entry.entry_id.clone()).collect();
        let SubscriptionSpec { pubsub, topic, .. } = &self.subscription.spec;
        let bulk = Bulk {
            id: uuid::Uuid::new_v4().to_string(),
            entries,
            metadata: BulkMetadata { pubsub_name: pubsub },
            topic,
            pubsubname: pubsub,
            kind: "com.dapr.event.sent.bulk",
        };
        let body = serde_json::to_vec(&bulk).expect("strings and JSON texts are always JSON");
        let json = HeaderValue::from_static("application/json");
        match self.post(path, &[(header::CONTENT_TYPE, json)], body).await {
            Ok(answer) => answer::bulk_outcomes(answer.status, &answer.body, &ids),
            Err(error) => vec![failed(&error); ids.len()],
        }
    }

    async fn post(
        &self,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Vec<u8>,
    ) -> Result<crate::app::Answer, CallError> {
        let _permit = match &self.permits {
            // The semaphore is never closed: without a permit there would be no bound.
            Some(permits) => permits.acquire().await.ok(),
            None => None,
        };
        self.channel.call(Method::POST, path, headers, Bytes::from(body)).await
    }

    fn event<'a>(&self, delivery: &'a Delivery) -> Event<'a> {
        let source = EventSource { identity: &self.identity, stream: delivery.stream };
        let make = if self.settings.raw { Event::raw } else { Event::of };
        make(&delivery.topic, &delivery.message, source, self.clock.read().wall_ms)
    }

    fn headers(&self, delivery: &Delivery) -> Vec<(HeaderName, HeaderValue)> {
        let message = &delivery.message;
        let sequence = message.sequence.to_string();
        let attempt = delivery.attempt.to_string();
        let trace = |name: &'static str| message.attribute(name).map(|value| (name, value));
        let headers = [
            Some(("content-type", CONTENT_TYPE)),
            Some(("pubsubname", delivery.topic.component.as_str())),
            Some(("pannier-sequence", sequence.as_str())),
            Some(("pannier-attempt", attempt.as_str())),
            message.key.as_deref().map(|key| ("partitionkey", key)),
            trace("traceparent"),
            trace("tracestate"),
        ];
        let headers = headers.into_iter().flatten();
        // What no header can carry is in the event.
        headers
            .filter_map(|(name, value)| {
                let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
                Some((HeaderName::from_static(name), value))
            })
            .collect()
    }
}

fn no_route() -> Outcome {
    Outcome::Reject("no routing rule matched".into())
}

fn failed(error: &CallError) -> Outcome {
    match error {
        CallError::Unreachable(_) => Outcome::Unreachable(error.to_string()),
        _ => Outcome::Retry(error.to_string()),
    }
}

#[derive(Serialize)]
struct Bulk<'a> {
    id: String,
    entries: Vec<&'a Entry<'a>>,
    metadata: BulkMetadata<'a>,
    topic: &'a str,
    pubsubname: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct BulkMetadata<'a> {
    #[serde(rename = "pubsubName")]
    pubsub_name: &'a str,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "entryId")]
    entry_id: String,
    event: Box<RawValue>,
    metadata: EntryMetadata<'a>,
    #[serde(rename = "contentType")]
    content_type: &'static str,
}

#[derive(Serialize)]
struct EntryMetadata<'a> {
    #[serde(rename = "partitionKey", skip_serializing_if = "Option::is_none")]
    partition_key: Option<&'a str>,
    attempt: String,
}

impl<'a> Entry<'a> {
    fn new(delivery: &'a Delivery, event: &Event) -> Self {
        Self {
            entry_id: format!("{}-{}", delivery.stream, delivery.message.sequence),
            event: event.to_raw(),
            metadata: EntryMetadata {
                partition_key: delivery.message.key.as_deref(),
                attempt: delivery.attempt.to_string(),
            },
            content_type: CONTENT_TYPE,
        }
    }
}

#[cfg(test)]
mod tests;
