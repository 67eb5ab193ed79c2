//! What comes down: committed to a local topic first, acknowledged to the broker after.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use store_forward::Error;
use store_forward::record::{NewMessage, Op, Topic};
use tokio::sync::mpsc;

use super::session::{ClientStalled, Inbound, SessionClient};
use super::subscriptions::takers;
use super::topic::{Names, check_name, destination};
use crate::pubsub::cloudevent;
use crate::uplink::status::UplinkStatus;

/// Messages in one commit: what came while the one before was synced.
const BATCH_MAX: usize = 64;
/// Between two tries to commit what the store has no room for.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// Makes operations durable in one store.
pub(super) type Commit =
    Arc<dyn Fn(Vec<Op>) -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

/// Names the uplink that brought a message. It is stored with the message, and is no part of the
/// event that an app gets.
pub(super) const CAME_BY: &str = "uplink";

/// One downlink: what is subscribed to, and where it goes.
#[derive(Clone)]
pub(super) struct Target {
    /// The uplink's name.
    pub(super) uplink: String,
    pub(super) node: String,
    /// The filter as it is subscribed to.
    pub(super) filter: String,
    pub(super) pubsub: String,
    /// The template of the local topic.
    pub(super) to: String,
    /// The same one for targets in the same store.
    pub(super) commit: Commit,
}

/// Why the connection can't go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownlinkError {
    /// The store did not take a message: the broker keeps it and sends it again.
    #[error("a message from the broker can't be committed: {0}")]
    Commit(#[from] Error),
    /// An acknowledgement can't be sent.
    #[error(transparent)]
    Stalled(#[from] ClientStalled),
}

/// Commits and acknowledges what arrives, until the connection drops the other end.
pub(super) async fn work(
    targets: &[Target],
    mut inbox: mpsc::Receiver<Inbound>,
    client: &dyn SessionClient,
    status: &UplinkStatus,
) -> Result<(), DownlinkError> {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while inbox.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let placed: Vec<Placed<'_>> =
            batch.iter().flat_map(|message| place(targets, message)).filter(is_legal).collect();
        for run in placed.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(&a.commit, &b.commit)) {
            commit(run).await?;
            status.received(run.len());
        }
        for pkid in batch.iter().filter_map(|message| message.pkid) {
            client.acknowledge(pkid)?;
        }
        batch.clear();
    }
    Ok(())
}

type Placed<'a> = (&'a Target, &'a Inbound);

/// The message, once for each downlink that takes it. One that none takes is left over from a
/// subscription that the configuration has lost.
fn place<'a>(targets: &'a [Target], message: &'a Inbound) -> impl Iterator<Item = Placed<'a>> {
    let filters = targets.iter().map(|target| target.filter.as_str());
    let takers = takers(filters, &message.topic, &message.subscriptions);
    takers.into_iter().map(move |index| (&targets[index], message))
}

/// Whether the message's local topic is one that can be published to. Some brokers send topics with
/// control characters; no route could ever send them on.
fn is_legal((target, message): &Placed<'_>) -> bool {
    let topic = local_topic(target, message);
    let checked = check_name(&topic);
    if let Err(illegal) = checked {
        let reason = illegal.to_string();
        tracing::error!(topic, reason, "message from the broker dropped: its topic is not allowed");
    }
    checked.is_ok()
}

/// Has operations committed, once there is room for them. Ending the connection while there is none
/// would keep what makes room from going up, and the broker would send the messages again at once.
async fn store(target: &Target, ops: impl Fn() -> Vec<Op>) -> Result<(), Error> {
    let mut told = false;
    loop {
        match (target.commit)(ops()).await {
            Err(error) if error.is_full() => {
                if !std::mem::replace(&mut told, true) {
                    let uplink = target.uplink.as_str();
                    tracing::warn!(uplink, %error, "no room for messages from the broker, they wait");
                }
                tokio::time::sleep(FULL_RETRY).await;
            }
            other => return other,
        }
    }
}

/// Commits messages of one store.
async fn commit(run: &[Placed<'_>]) -> Result<(), Error> {
    let Some((first, _)) = run.first() else { return Ok(()) };
    let ops = || run.iter().map(|(target, message)| publish(target, message)).collect();
    match store(first, ops).await {
        // One of them, or all together, are too much for a record: that one alone is refused.
        Err(Error::TooLarge { .. }) => {}
        other => return other,
    }
    for (target, message) in run {
        match store(target, || vec![publish(target, message)]).await {
            // It would never fit, and the broker would send it for ever.
            Err(error @ Error::TooLarge { .. }) => {
                tracing::error!(topic = message.topic, %error, "message from the broker dropped");
            }
            other => other?,
        }
    }
    Ok(())
}

fn local_topic(target: &Target, message: &Inbound) -> String {
    let names = Names {
        topic: &message.topic,
        filter: &target.filter,
        pubsub: &target.pubsub,
        node: &target.node,
    };
    destination(&target.to, names)
}

fn publish(target: &Target, message: &Inbound) -> Op {
    Op::Publish {
        topic: Topic::new(target.pubsub.as_str(), local_topic(target, message)),
        message: NewMessage {
            content_type: content_type(message),
            attributes: vec![(CAME_BY.to_owned(), target.uplink.clone())],
            ttl_ms: message.expires_in_s.map(|s| u64::from(s) * 1000),
            data: message.payload.clone(),
            ..NewMessage::default()
        },
    }
}

/// What the payload is. One that is no UTF-8 is binary, unless it is said to be something else that
/// isn't text.
fn content_type(message: &Inbound) -> Option<String> {
    let said = message.content_type.as_deref();
    if std::str::from_utf8(&message.payload).is_ok() || said.is_some_and(cloudevent::may_be_binary)
    {
        return message.content_type.clone();
    }
    Some(cloudevent::BINARY.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::FutureExt;

    use super::*;

    fn target(filter: &str, to: &str) -> Target {
        Target {
            uplink: "up".into(),
            node: "n1".into(),
            filter: filter.into(),
            pubsub: "pubsub".into(),
            to: to.into(),
            commit: Arc::new(|_| std::future::ready(Ok(())).boxed()),
        }
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

    fn published(target: &Target, message: &Inbound) -> (Topic, NewMessage) {
        match publish(target, message) {
            Op::Publish { topic, message } => (topic, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_goes_once_to_each_downlink_that_matches() {
        let targets = [target("a/#", "all"), target("b", "b"), target("a/+", "{rest}/{node}")];
        let message = received("a/x", b"", None);
        let topics: Vec<String> = place(&targets, &message)
            .map(|(target, message)| published(target, message).0.name)
            .collect();
        assert_eq!(topics, ["all", "x/n1"]);
    }

    #[test]
    fn a_message_whose_local_topic_nothing_can_be_published_to_is_left_out() {
        let all = target("#", "{topic}");
        let fixed = target("#", "commands");
        for topic in ["a\u{1}", "a\nb", "a/\u{fffe}", "a/+"] {
            let message = received(topic, b"", None);
            assert!(!is_legal(&(&all, &message)), "{topic:?}");
            assert!(is_legal(&(&fixed, &message)), "{topic:?}");
        }
        assert!(is_legal(&(&all, &received("$sys/a b", b"", None))));
    }

    #[tokio::test]
    async fn a_message_waits_while_the_store_is_full_and_is_committed_once_there_is_room() {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let commit: Commit = Arc::new(move |_| {
            let before = counted.fetch_add(1, Ordering::Relaxed);
            let full = Error::NodeFull { used: 2, limit: 1, holder: None };
            std::future::ready(if before < 1 { Err(full) } else { Ok(()) }).boxed()
        });
        let target = Target { commit, ..target("a", "a") };
        let message = received("a", b"1", None);
        assert!(super::commit(&[(&target, &message)]).await.is_ok());
        assert_eq!(tries.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_message_keeps_which_uplink_brought_it() {
        let (_, message) = published(&target("a", "a"), &received("a", b"", None));
        assert_eq!(message.attributes, [("uplink".to_owned(), "up".to_owned())]);
    }

    #[test]
    fn what_is_no_text_is_binary_whatever_a_text_type_says() {
        let typed = |payload: &[u8], said| {
            published(&target("a", "a"), &received("a", payload, said)).1.content_type
        };
        let binary = Some("application/octet-stream");
        for said in [None, Some("text/plain"), Some("application/json"), Some("a/b+xml"), binary] {
            assert_eq!(typed(b"\xff\x00", said).as_deref(), binary, "{said:?}");
        }
        assert_eq!(typed(b"\xff", Some("image/png")).as_deref(), Some("image/png"));
        let latin = "text/plain; charset=iso-8859-1";
        assert_eq!(typed(b"\xfc", Some(latin)).as_deref(), Some(latin));
        assert_eq!(typed(b"on", None), None);
        assert_eq!(typed(b"{}", Some("application/json")).as_deref(), Some("application/json"));
    }
}
