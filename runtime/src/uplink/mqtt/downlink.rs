//! Downlinks: messages from the broker are committed to local topics, then acknowledged.

use std::sync::Arc;
use std::time::Duration;

use store_forward::Error;
use store_forward::record::{NewMessage, Topic};
use tokio::sync::mpsc;

use super::session::{ClientStalled, Inbound, SessionClient};
use super::subscriptions::takers;
use super::topic::{TemplateNames, check_name, destination};
use crate::uplink::context::{Arrival, UplinkComponents};
use crate::uplink::status::UplinkStatus;
use blocks::pubsub::cloudevent;

/// Messages in one commit, gathered while the previous one was synced.
const BATCH_MAX: usize = 64;
/// Delay before another try to commit, while the store has no room.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// The attribute that names the uplink which brought a message. It is stored with the message, and
/// is no part of the event that an app gets.
pub(super) const CAME_BY: &str = "uplink";

/// The downlinks of one uplink.
pub(super) struct Downlinks {
    /// The uplink's name.
    pub(super) uplink: String,
    /// The device's name.
    pub(super) node: String,
    pub(super) targets: Vec<DownlinkTarget>,
    pub(super) components: Arc<dyn UplinkComponents>,
}

/// One downlink: its subscription, and its local topic.
#[derive(Clone)]
pub(super) struct DownlinkTarget {
    /// The filter, expanded.
    pub(super) filter: String,
    pub(super) pubsub: String,
    /// The template of the local topic.
    pub(super) to: String,
}

/// The reason why a connection can't go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownlinkError {
    /// The store refused a message. The broker keeps it, and sends it to the next connection.
    #[error("a message from the broker can't be committed: {0}")]
    Commit(#[from] Error),
    #[error(transparent)]
    Stalled(#[from] ClientStalled),
}

/// A message from the broker for one downlink.
struct Placed<'a> {
    message: &'a Inbound,
    topic: Topic,
}

impl Downlinks {
    pub(super) fn filters(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|target| target.filter.as_str())
    }

    /// Commits and acknowledges messages until the sending half of `inbox` is dropped.
    pub(super) async fn run(
        &self,
        mut inbox: mpsc::Receiver<Inbound>,
        client: &dyn SessionClient,
        status: &UplinkStatus,
    ) -> Result<(), DownlinkError> {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while inbox.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let placed: Vec<Placed<'_>> =
                batch.iter().flat_map(|message| self.place(message)).collect();
            self.commit(&placed).await?;
            status.received(placed.len());
            for pkid in batch.iter().filter_map(|message| message.pkid) {
                client.acknowledge(pkid)?;
            }
            batch.clear();
        }
        Ok(())
    }

    /// Returns the message once for each downlink that takes it. None does if it is left over from
    /// a subscription that the configuration no longer has.
    fn place<'a>(&'a self, message: &'a Inbound) -> impl Iterator<Item = Placed<'a>> {
        takers(self.filters(), &message.topic, &message.subscriptions)
            .into_iter()
            .filter_map(|index| self.place_in(&self.targets[index], message))
    }

    /// Drops a message whose local topic can't be published to. Some brokers send topics with
    /// control characters, which no route could ever send on.
    fn place_in<'a>(&self, target: &DownlinkTarget, message: &'a Inbound) -> Option<Placed<'a>> {
        let names = TemplateNames {
            topic: &message.topic,
            filter: &target.filter,
            pubsub: &target.pubsub,
            node: &self.node,
        };
        let topic = destination(&target.to, names);
        if let Err(illegal) = check_name(&topic) {
            let reason = illegal.to_string();
            tracing::error!(
                topic,
                reason,
                "message from the broker dropped: its topic is not allowed"
            );
            return None;
        }
        Some(Placed { message, topic: Topic::new(target.pubsub.as_str(), topic) })
    }

    async fn commit(&self, batch: &[Placed<'_>]) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        match self.publish(batch).await {
            Err(Error::TooLarge { .. }) => {}
            other => return other,
        }
        // One message, or all together, are too large for a record. Only a message that is too
        // large alone may be dropped: it would never fit, and the broker would send it forever.
        for placed in batch {
            match self.publish(std::slice::from_ref(placed)).await {
                Err(error @ Error::TooLarge { .. }) => {
                    let topic = placed.message.topic.as_str();
                    tracing::error!(topic, %error, "message from the broker dropped");
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Publishes messages, once there is room for them. To end the connection instead would keep
    /// the messages that make room from going up, and the broker would send these again at once.
    async fn publish(&self, batch: &[Placed<'_>]) -> Result<(), Error> {
        let mut warned = false;
        loop {
            let arrivals = batch.iter().map(|placed| self.arrival(placed)).collect();
            match self.components.publish(arrivals).await {
                Err(error) if error.is_full() => {
                    if !warned {
                        let uplink = self.uplink.as_str();
                        tracing::warn!(uplink, %error, "no room for messages from the broker, they wait");
                    }
                    warned = true;
                    tokio::time::sleep(FULL_RETRY).await;
                }
                other => return other,
            }
        }
    }

    fn arrival(&self, placed: &Placed<'_>) -> Arrival {
        let message = placed.message;
        Arrival {
            topic: placed.topic.clone(),
            message: NewMessage {
                content_type: content_type(message),
                attributes: vec![(CAME_BY.to_owned(), self.uplink.clone())],
                ttl_ms: message.expires_in_s.map(|s| u64::from(s) * 1000),
                data: message.payload.clone(),
                ..NewMessage::default()
            },
        }
    }
}

/// Returns the payload's type. A payload that isn't UTF-8 is binary, unless its type is one that
/// may be.
fn content_type(message: &Inbound) -> Option<String> {
    let named = message.content_type.as_deref();
    let is_text = std::str::from_utf8(&message.payload).is_ok();
    if is_text || named.is_some_and(cloudevent::may_be_binary) {
        return message.content_type.clone();
    }
    Some(cloudevent::BINARY.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::mqtt::tests::components::FakeComponents;

    fn target(filter: &str, to: &str) -> DownlinkTarget {
        DownlinkTarget { filter: filter.into(), pubsub: "pubsub".into(), to: to.into() }
    }

    fn downlinks(targets: Vec<DownlinkTarget>, components: FakeComponents) -> Downlinks {
        let components = Arc::new(components);
        Downlinks { uplink: "up".into(), node: "n1".into(), targets, components }
    }

    fn received(topic: &str, payload: &[u8], content_type: Option<&str>) -> Inbound {
        Inbound {
            topic: topic.into(),
            payload: payload.to_vec(),
            content_type: content_type.map(str::to_owned),
            expires_in_s: None,
            subscriptions: Vec::new(),
            pkid: None,
        }
    }

    fn arrivals(targets: &[DownlinkTarget], message: &Inbound) -> Vec<Arrival> {
        let downlinks = downlinks(targets.to_vec(), FakeComponents::default());
        downlinks.place(message).map(|placed| downlinks.arrival(&placed)).collect()
    }

    #[test]
    fn a_message_goes_once_to_each_downlink_that_matches() {
        let targets = [target("a/#", "all"), target("b", "b"), target("a/+", "{rest}/{node}")];
        let arrivals = arrivals(&targets, &received("a/x", b"", None));
        let topics: Vec<&str> = arrivals.iter().map(|it| it.topic.name.as_str()).collect();
        assert_eq!(topics, ["all", "x/n1"]);
    }

    #[test]
    fn a_message_whose_local_topic_nothing_can_be_published_to_is_left_out() {
        let targets = [target("#", "{topic}"), target("#", "commands")];
        for topic in ["a\u{1}", "a\nb", "a/\u{fffe}", "a/+"] {
            let arrivals = arrivals(&targets, &received(topic, b"", None));
            let topics: Vec<&str> = arrivals.iter().map(|it| it.topic.name.as_str()).collect();
            assert_eq!(topics, ["commands"], "{topic:?}");
        }
        let visible = target("$sys/#", "{topic}");
        assert_eq!(arrivals(&[visible], &received("$sys/a b", b"", None)).len(), 1);
    }

    #[tokio::test]
    async fn a_message_waits_while_the_store_is_full_and_is_committed_once_there_is_room() {
        let (published, mut commits) = mpsc::unbounded_channel();
        let full = Error::NodeFull { used: 2, limit: 1, holder: None };
        let components = FakeComponents { published, ..FakeComponents::failing_first(full) };
        let downlinks = downlinks(vec![target("a", "a")], components);
        let message = received("a", b"1", None);
        let placed: Vec<Placed<'_>> = downlinks.place(&message).collect();
        assert!(downlinks.commit(&placed).await.is_ok());
        assert_eq!(commits.try_recv().map(|arrivals| arrivals.len()), Ok(1));
    }

    #[test]
    fn a_message_keeps_which_uplink_brought_it() {
        let arrivals = arrivals(&[target("a", "a")], &received("a", b"", None));
        assert_eq!(arrivals[0].message.attributes, [("uplink".to_owned(), "up".to_owned())]);
    }

    #[test]
    fn a_payload_that_is_no_text_is_binary_whatever_a_text_type_says() {
        let typed = |payload: &[u8], named| content_type(&received("a", payload, named));
        let binary = Some("application/octet-stream");
        for named in [None, Some("text/plain"), Some("application/json"), Some("a/b+xml"), binary] {
            assert_eq!(typed(b"\xff\x00", named).as_deref(), binary, "{named:?}");
        }
        assert_eq!(typed(b"\xff", Some("image/png")).as_deref(), Some("image/png"));
        let latin = "text/plain; charset=iso-8859-1";
        assert_eq!(typed(b"\xfc", Some(latin)).as_deref(), Some(latin));
        assert_eq!(typed(b"on", None), None);
        assert_eq!(typed(b"{}", Some("application/json")).as_deref(), Some("application/json"));
    }
}
