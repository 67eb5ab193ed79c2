//! Turns deliveries into publishes: route, topic, payload, properties.

use std::sync::Arc;

use config::model::{Format, Route};
use store_forward::consumer::{Delivery, Message};
use store_forward::store::Identity;

use super::session::Outbound;
use super::topic;
use crate::uplink::context::UplinkComponents;

const CLOUD_EVENT: &str = "application/cloudevents+json";

/// Turns the deliveries of one store into publishes.
pub(super) struct Encoder {
    pub(super) identity: Identity,
    pub(super) routes: Vec<Route>,
    pub(super) components: Arc<dyn UplinkComponents>,
}

impl Encoder {
    /// Encodes a delivery. Fails with the reason if MQTT can't carry it.
    pub(super) fn encode(&self, delivery: &Delivery) -> Result<Outbound, String> {
        let route = self
            .routes
            .iter()
            .find(|route| {
                route.pubsub == delivery.topic.component
                    && topic::matches(&route.topic, &delivery.topic.name)
            })
            .ok_or_else(|| format!("no route of this uplink takes {}", delivery.topic))?;
        let names = topic::TemplateNames {
            topic: &delivery.topic.name,
            filter: &route.topic,
            pubsub: &delivery.topic.component,
            node: &self.identity.node.0,
        };
        let to = topic::destination(&route.to, names);
        topic::check_name(&to)
            .map_err(|why| format!("{} maps to a topic MQTT can't carry: {why}", delivery.topic))?;
        Ok(Outbound {
            topic: to,
            retain: route.retain,
            payload: self.payload(delivery, route.format),
            content_type: content_type(&delivery.message, route.format),
            expires_in_s: delivery.message.expires_in_ms.map(seconds),
            user_properties: self.record_identity(delivery)?,
        })
    }

    fn payload(&self, delivery: &Delivery, format: Format) -> Vec<u8> {
        let envelope = match format {
            Format::CloudEvent => self.components.envelope(delivery),
            Format::Raw => None,
        };
        envelope.unwrap_or_else(|| delivery.message.data.clone())
    }

    /// Returns the user properties that identify the record that is sent.
    fn record_identity(&self, delivery: &Delivery) -> Result<Vec<(String, String)>, String> {
        let user_properties: Vec<(String, String)> = [
            ("pannier-node", self.identity.node.0.clone()),
            ("pannier-epoch", self.identity.epoch.to_string()),
            ("pannier-stream", delivery.topic.to_string()),
            ("pannier-sequence", delivery.message.sequence.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        for (name, value) in &user_properties {
            topic::check_text(value).map_err(|why| format!("MQTT can't carry {name}: {why}"))?;
        }
        Ok(user_properties)
    }
}

/// Leaves out a type that MQTT can't carry: the message is worth more than its label.
fn content_type(message: &Message, format: Format) -> Option<String> {
    match format {
        Format::CloudEvent => Some(CLOUD_EVENT.into()),
        Format::Raw => message.content_type.clone().filter(|t| topic::check_text(t).is_ok()),
    }
}

/// Rounds up to whole seconds: zero would mean expired at once.
fn seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1000).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use store_forward::ids::{Epoch, NodeId, Sequence, StreamId};
    use store_forward::record::{Timestamp, Topic};

    use super::*;
    use crate::uplink::mqtt::tests::components::FakeComponents;

    fn route(topic: &str, to: &str, format: Format) -> Route {
        Route { pubsub: "pubsub".into(), topic: topic.into(), to: to.into(), format, retain: false }
    }

    fn encoder(routes: Vec<Route>) -> Encoder {
        Encoder {
            identity: Identity { node: NodeId("n1".into()), epoch: Epoch(7) },
            routes,
            components: Arc::new(FakeComponents::default()),
        }
    }

    fn delivery(topic: &str) -> Delivery {
        Delivery {
            topic: Topic::new("pubsub", topic),
            stream: StreamId(1),
            attempt: 1,
            message: Message {
                sequence: Sequence(42),
                at: Timestamp::default(),
                expires_in_ms: Some(1_500),
                content_type: Some("text/plain".into()),
                attributes: Vec::new(),
                key: None,
                priority: 0,
                data: b"21.5".to_vec(),
            },
        }
    }

    #[test]
    fn the_first_route_that_matches_names_the_topic() {
        let routes = vec![
            route("alarms/#", "urgent/{node}/{topic}", Format::Raw),
            route("sensors/#", "fleet/{rest}", Format::Raw),
            route("#", "{pubsub}/{topic}", Format::Raw),
        ];
        let encoder = encoder(routes);
        assert_eq!(
            encoder.encode(&delivery("alarms/fire")).unwrap().topic,
            "urgent/n1/alarms/fire"
        );
        assert_eq!(encoder.encode(&delivery("sensors/a/b")).unwrap().topic, "fleet/a/b");
        assert_eq!(encoder.encode(&delivery("a/b")).unwrap().topic, "pubsub/a/b");
    }

    #[test]
    fn a_message_that_no_route_takes_is_refused_with_its_topic() {
        let reason = encoder(vec![route("a", "{topic}", Format::Raw)]).encode(&delivery("b"));
        assert!(reason.unwrap_err().contains("pubsub/b"));
    }

    #[test]
    fn a_topic_that_mqtt_cannot_carry_is_refused_with_the_reason() {
        let encoder = encoder(vec![route("#", "{topic}", Format::Raw)]);
        for topic in ["a/+", "a\0", ""] {
            assert!(encoder.encode(&delivery(topic)).unwrap_err().contains("can't carry"));
        }
    }

    #[test]
    fn a_publish_carries_the_identity_of_its_record_and_what_is_left_of_its_life() {
        let encoder = encoder(vec![route("#", "{topic}", Format::Raw)]);
        let publish = encoder.encode(&delivery("t")).unwrap();
        let expected = [
            ("pannier-node", "n1"),
            ("pannier-epoch", "7"),
            ("pannier-stream", "pubsub/t"),
            ("pannier-sequence", "42"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(publish.user_properties, expected);
        assert_eq!(publish.expires_in_s, Some(2));
        assert_eq!(publish.content_type.as_deref(), Some("text/plain"));
    }

    #[test]
    fn a_content_type_that_mqtt_cannot_carry_is_left_out() {
        let encoder = encoder(vec![route("#", "{topic}", Format::Raw)]);
        let mut delivery = delivery("t");
        delivery.message.content_type = Some("text/\0".into());
        assert_eq!(encoder.encode(&delivery).unwrap().content_type, None);
    }

    #[test]
    fn a_cloud_event_says_that_it_is_one() {
        let encoder = encoder(vec![route("#", "{topic}", Format::CloudEvent)]);
        let publish = encoder.encode(&delivery("t")).unwrap();
        assert_eq!(publish.payload, b"{}");
        assert_eq!(publish.content_type.as_deref(), Some(CLOUD_EVENT));
    }
}
