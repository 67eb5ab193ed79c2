//! Our `Node`: the device.

use std::net::IpAddr;
use std::time::Duration;

use super::{close_metadata, close_ours};
use crate::model::{Listeners, Node, NodeLimits, Resources};
use crate::reader::{Field, Fields};
use crate::rules;

/// Bytes of a topic's name at most (MQTT 5, section 1.5.4).
const MAX_TOPIC_BYTES: u64 = 65_535;

/// The longest that a write may wait for company.
const MAX_COMMIT_DELAY: Duration = Duration::from_secs(10);

/// An addressable listener: port and addresses.
type Listener = (Option<u16>, Vec<IpAddr>);

pub(super) fn read(document: &Fields<'_>, resources: &mut Resources) {
    let metadata = document.read("metadata", |metadata| {
        metadata.fields().map(|metadata| close_metadata(document, &metadata))
    });
    let node = node(document);
    let kind = document.get("kind");
    let only = kind.and_then(|kind| kind.claim("Node", "", "keep one of them: a device is one"));
    if let (Some(_), Some(node), Some(())) = (metadata, node, only) {
        resources.node = Some(node);
    }
}

fn node(document: &Fields<'_>) -> Option<Node> {
    let spec = document.read("spec", |spec| spec.fields());
    close_ours(document);
    let Some(spec) = spec? else {
        return Some(Node { origin: document.origin(), ..Node::default() });
    };
    let id = spec.read("id", |id| node_id(&id));
    let data_dir = spec.read("dataDir", |path| rules::path(&path));
    let limits = spec.read_or("limits", NodeLimits::default(), |field| limits(&field));
    let commit_delay = spec.read("commitDelay", |delay| commit_delay(&delay));
    let listeners = spec.read_or("listeners", Listeners::default(), |field| listeners(&field));
    spec.refuse_others();
    Some(Node {
        id: id?,
        data_dir: data_dir?,
        limits: limits?,
        commit_delay: commit_delay?,
        listeners: listeners?,
        origin: document.origin(),
    })
}

/// The id stands for `{node}` in topics, so it can't hold a wildcard.
fn node_id(field: &Field<'_>) -> Option<String> {
    match rules::name(field)? {
        id if id.contains(['+', '#']) => {
            field.refuse("a node id can't hold + or #", "use letters, digits, dashes and dots")
        }
        id => Some(id),
    }
}

fn commit_delay(field: &Field<'_>) -> Option<Duration> {
    match field.duration()? {
        delay if delay > MAX_COMMIT_DELAY => {
            let problem = format!("{delay:?} is too long: every write waits for it");
            field.refuse(problem, format!("write at most {MAX_COMMIT_DELAY:?}"))
        }
        delay => Some(delay),
    }
}

fn limits(field: &Field<'_>) -> Option<NodeLimits> {
    let fields = field.fields()?;
    let size = |name| fields.read(name, |size| some_bytes(&size));
    let count = |name| fields.read(name, |count| count.number(1..=u32::MAX));
    let period = |name| fields.read(name, |time| time.duration_from(Duration::from_millis(1)));
    let disk = size("disk");
    let reserve = fields.read("reserve", |reserve| reserve.bytes());
    let cache = size("cache");
    let journal_segment = size("journalSegment");
    let checkpoint_bytes = size("checkpointBytes");
    let checkpoint_interval = period("checkpointInterval");
    let max_key = size("maxKey");
    let max_value = size("maxValue");
    let max_topic = fields.read("maxTopic", |topic| max_topic(&topic));
    let max_streams = count("maxStreams");
    let max_consumers = count("maxConsumers");
    let max_queued_requests = count("maxQueuedRequests");
    let max_connections = count("maxConnections");
    let unclaimed_retention = fields.read("unclaimedRetention", |time| time.duration());
    let inactive_grace = fields.read("inactiveGrace", |time| time.duration());
    let inactive_retention = fields.read("inactiveRetention", |time| time.duration());
    fields.refuse_others();
    Some(NodeLimits {
        disk: disk?,
        reserve: reserve?,
        cache: cache?,
        journal_segment: journal_segment?,
        checkpoint_bytes: checkpoint_bytes?,
        checkpoint_interval: checkpoint_interval?,
        max_key: max_key?,
        max_value: max_value?,
        max_topic: max_topic?,
        max_streams: max_streams?,
        max_consumers: max_consumers?,
        max_queued_requests: max_queued_requests?,
        max_connections: max_connections?,
        unclaimed_retention: unclaimed_retention?,
        inactive_grace: inactive_grace?,
        inactive_retention: inactive_retention?,
    })
}

/// A size that isn't nothing.
fn some_bytes(field: &Field<'_>) -> Option<u64> {
    match field.bytes()? {
        0 => field.refuse("0 bytes leave no room", "write a larger size, or leave it out"),
        bytes => Some(bytes),
    }
}

fn max_topic(field: &Field<'_>) -> Option<u64> {
    match some_bytes(field)? {
        bytes if bytes > MAX_TOPIC_BYTES => {
            let remedy = format!("write at most {MAX_TOPIC_BYTES}, which is MQTT's limit");
            field.refuse(format!("{bytes} bytes are too many for a topic"), remedy)
        }
        bytes => Some(bytes),
    }
}

fn listeners(field: &Field<'_>) -> Option<Listeners> {
    let fields = field.fields()?;
    let none = || (None, Vec::new());
    let http = fields.read_or("http", none(), |field| listener(&field));
    let metrics = fields.read_or("metrics", none(), |field| listener(&field));
    fields.refuse_others();
    let ((http_port, http_addresses), (metrics_port, metrics_addresses)) = (http?, metrics?);
    Some(Listeners { http_port, http_addresses, metrics_port, metrics_addresses })
}

fn listener(field: &Field<'_>) -> Option<Listener> {
    let fields = field.fields()?;
    let port = fields.read("port", |port| port.number(0..=u16::MAX));
    let addresses = fields
        .read_or("addresses", Vec::new(), |addresses| addresses.list(|address| address.address()));
    fields.refuse_others();
    Some((port?, addresses?))
}

#[cfg(test)]
mod tests;
