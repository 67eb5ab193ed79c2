//! What comes down: committed to a local topic first, acknowledged to the broker after.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use store_forward::Error;
use store_forward::record::{NewMessage, Op, Topic};
use tokio::sync::mpsc;

use super::session::{Client, Received, Stalled};
use super::status::UplinkStatus;
use super::topic;

/// Messages in one commit: what came while the one before was synced.
const BATCH_MAX: usize = 64;

/// Makes operations durable in one store.
pub(super) type Commit =
    Arc<dyn Fn(Vec<Op>) -> BoxFuture<'static, Result<(), Error>> + Send + Sync>;

/// One subscription and where its messages go.
#[derive(Clone)]
pub(super) struct Target {
    /// The filter as it is subscribed to.
    pub(super) filter: String,
    pub(super) pubsub: String,
    /// The local topic; `{topic}` is the remote one.
    pub(super) to: String,
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
    Stalled(#[from] Stalled),
}

/// Commits and acknowledges what arrives, until the connection drops the other end.
pub(super) async fn work(
    targets: &[Target],
    mut inbox: mpsc::Receiver<Received>,
    client: &Client,
    status: &UplinkStatus,
) -> Result<(), DownlinkError> {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while inbox.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let placed: Vec<_> =
            batch.drain(..).map(|message| (target(targets, &message), message)).collect();
        for run in placed.chunk_by(|(a, _), (b, _)| a == b) {
            let messages: Vec<&Received> = run.iter().map(|(_, message)| message).collect();
            if let Some(target) = run[0].0.and_then(|index| targets.get(index)) {
                commit(target, &messages).await?;
                status.received(messages.len());
            }
            for pkid in messages.iter().filter_map(|message| message.pkid) {
                client.acknowledge(pkid)?;
            }
        }
    }
    Ok(())
}

/// The first downlink that matches. A message that none matches is left over from a subscription
/// that the configuration has lost.
fn target(targets: &[Target], message: &Received) -> Option<usize> {
    targets
        .iter()
        .position(|target| topic::matches(topic::matched_part(&target.filter), &message.topic))
}

async fn commit(target: &Target, messages: &[&Received]) -> Result<(), Error> {
    let ops = messages.iter().map(|message| publish(target, message)).collect();
    match (target.commit)(ops).await {
        // One of them, or all together, are too much for a record: that one alone is refused.
        Err(Error::TooLarge { .. }) => {}
        other => return other,
    }
    for message in messages {
        match (target.commit)(vec![publish(target, message)]).await {
            // It would never fit, and the broker would send it for ever.
            Err(error @ Error::TooLarge { .. }) => {
                tracing::error!(topic = message.topic, %error, "message from the broker dropped");
            }
            other => other?,
        }
    }
    Ok(())
}

fn publish(target: &Target, message: &Received) -> Op {
    let name = topic::expand(&target.to, &[("topic", &message.topic)]);
    Op::Publish {
        topic: Topic::new(target.pubsub.as_str(), name),
        message: NewMessage {
            content_type: message.content_type.clone(),
            ttl_ms: message.expires_in_s.map(|s| u64::from(s) * 1000),
            data: message.payload.clone(),
            ..NewMessage::default()
        },
    }
}
