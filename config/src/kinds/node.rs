//! Our `Node`: the device.

use std::net::IpAddr;
use std::time::Duration;

use super::Owner;
use crate::model::{Listeners, Node, NodeLimits, Resources};
use crate::reader::{Field, Fields};
use crate::rules;
use crate::rules::mqtt::MAX_TOPIC_BYTES;

/// The longest time that a write may wait for others to share its sync.
const MAX_COMMIT_DELAY: Duration = Duration::from_secs(10);

/// The port and addresses of one API.
#[derive(Default)]
struct Listener {
    port: Option<u16>,
    addresses: Vec<IpAddr>,
}

pub(super) fn read(document: &Fields<'_>, resources: &mut Resources) {
    let metadata = document.read("metadata", |metadata| {
        metadata.fields().map(|metadata| Owner::Pannier.close_metadata(&metadata))
    });
    let node = node(document);
    let is_only = claim(document).is_some();
    if metadata.is_some() && is_only && node.is_some() {
        resources.node = node;
    }
}

/// Refuses a second node.
fn claim(document: &Fields<'_>) -> Option<()> {
    document.get("kind")?.claim("Node", "", "keep one of them: a device is one")
}

fn node(document: &Fields<'_>) -> Option<Node> {
    let spec = document.read("spec", |spec| spec.fields());
    Owner::Pannier.close_document(document);
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

/// Reads the id. It stands for `{node}` in topics, so it can't hold a wildcard.
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

/// Reads a size above zero.
fn some_bytes(field: &Field<'_>) -> Option<u64> {
    match field.bytes()? {
        0 => field.refuse("0 bytes leave no room", "write a larger size, or leave it out"),
        bytes => Some(bytes),
    }
}

fn max_topic(field: &Field<'_>) -> Option<u64> {
    match some_bytes(field)? {
        bytes if bytes > MAX_TOPIC_BYTES as u64 => {
            let remedy = format!("write at most {MAX_TOPIC_BYTES}, which is MQTT's limit");
            field.refuse(format!("{bytes} bytes are too many for a topic"), remedy)
        }
        bytes => Some(bytes),
    }
}

fn listeners(field: &Field<'_>) -> Option<Listeners> {
    let fields = field.fields()?;
    let http = fields.read_or("http", Listener::default(), |field| listener(&field));
    let metrics = fields.read_or("metrics", Listener::default(), |field| listener(&field));
    fields.refuse_others();
    let http = http?;
    let metrics = metrics?;
    Some(Listeners {
        http_port: http.port,
        http_addresses: http.addresses,
        metrics_port: metrics.port,
        metrics_addresses: metrics.addresses,
    })
}

fn listener(field: &Field<'_>) -> Option<Listener> {
    let fields = field.fields()?;
    let port = fields.read("port", |port| port.number(0..=u16::MAX));
    let addresses = fields
        .read_or("addresses", Vec::new(), |addresses| addresses.list(|address| address.address()));
    fields.refuse_others();
    Some(Listener { port: port?, addresses: addresses? })
}

#[cfg(test)]
mod tests;
