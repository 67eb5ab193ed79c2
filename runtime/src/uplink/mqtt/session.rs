//! One MQTT connection, behind traits that hide the protocol's version.
//!
//! rumqttc reconnects and resends by itself; we never let it. A session is used for one connection
//! and dropped with it, so that the store alone knows what has to be sent again.

mod v311;
mod v5;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use config::model::MqttVersion;
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};
use rustls::ClientConfig;

use super::failure::LinkError;

/// Bytes of an MQTT packet: four bytes of remaining length and a header (MQTT 5, section 1.5.5).
const PACKET_MAX: usize = 268_435_455 + 5;
/// Bytes of an incoming packet: a journal segment, which no message is larger than.
const INCOMING_MAX: u32 = 8 << 20;
/// Messages from the broker that wait for their commit: our Receive Maximum.
pub(super) const UNACKED_MAX: u16 = 256;
/// The shortest keep-alive that rumqttc takes.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);
/// rumqttc's own time-outs are in whole seconds and cover other spans: ours come first.
const NEVER_S: u64 = 24 * 3600;

/// Parameters of a connection.
pub(super) struct SessionOptions {
    pub(super) version: MqttVersion,
    pub(super) client_id: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) keep_alive: Duration,
    pub(super) window: u16,
    /// Makes the broker keep our subscriptions, and the messages that match them, while we are away.
    pub(super) keep_session: bool,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) login: Option<Login>,
}

/// A user name and its password; either may be empty.
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: String,
}

/// A message to the broker. MQTT 3.1.1 carries only its topic, payload and retain flag.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outbound {
    pub(super) topic: String,
    pub(super) retain: bool,
    pub(super) payload: Vec<u8>,
    pub(super) content_type: Option<String>,
    pub(super) expires_in_s: Option<u32>,
    pub(super) user_properties: Vec<(String, String)>,
}

/// A message from the broker.
#[derive(Clone, Debug)]
pub(super) struct Inbound {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) content_type: Option<String>,
    pub(super) expires_in_s: Option<u32>,
    /// The identifiers of the subscriptions that match; empty if the broker doesn't send them.
    pub(super) subscriptions: Vec<usize>,
    /// `None` at QoS 0, where no acknowledgement is sent.
    pub(super) pkid: Option<u16>,
}

/// The broker's limits and features, from its CONNACK.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BrokerCapabilities {
    pub(super) receive_max: u16,
    pub(super) packet_max: usize,
    pub(super) retain: bool,
    pub(super) qos1: bool,
    /// Messages come with the identifiers of their subscriptions.
    pub(super) subscription_ids: bool,
}

/// An event of a connection.
#[derive(Debug)]
pub(super) enum SessionEvent {
    Connected(BrokerCapabilities),
    /// A publish was written, with this packet identifier.
    Written(u16),
    /// A publish was acknowledged, or refused with a reason.
    Answered {
        pkid: u16,
        refusal: Option<String>,
    },
    /// A SUBSCRIBE or UNSUBSCRIBE was written, with this packet identifier.
    SubscriptionWritten(u16),
    /// A SUBSCRIBE or UNSUBSCRIBE was acknowledged, or refused with a reason.
    SubscriptionAnswered {
        pkid: u16,
        refusal: Option<String>,
    },
    Received(Inbound),
    /// Our DISCONNECT was written.
    Disconnected,
    Other,
}

/// The client library has no room for a request or has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the MQTT client takes no more requests")]
pub(super) struct ClientStalled;

/// The requesting half of a session. Queues packets, and never waits.
pub(super) trait SessionClient: Send + Sync {
    fn publish(&self, message: Outbound) -> Result<(), ClientStalled>;

    /// Subscribes with an identifier, if there is one and the protocol has them.
    fn subscribe(&self, filter: String, id: Option<u32>) -> Result<(), ClientStalled>;

    fn unsubscribe(&self, filter: String) -> Result<(), ClientStalled>;

    fn acknowledge(&self, pkid: u16) -> Result<(), ClientStalled>;

    fn disconnect(&self) -> Result<(), ClientStalled>;
}

/// The driving half of a session. Reads and writes only while it is polled.
#[async_trait]
pub(super) trait SessionEvents: Send {
    /// Resolves to the next event. Dropping the future may lose a packet: only give up together
    /// with the session.
    async fn next(&mut self) -> Result<SessionEvent, LinkError>;

    /// Takes the events that were read before an error and not returned yet. Acknowledgements among
    /// them spare a resend.
    fn drain(&mut self) -> Vec<SessionEvent>;

    /// Returns the longest time that `next` may take on a healthy idle connection, where we asked
    /// for this keep-alive and the broker may have set another.
    fn quiet_max(&mut self, keep_alive: Duration) -> Duration;
}

/// A connection's two halves.
pub(super) struct Session {
    pub(super) client: Arc<dyn SessionClient>,
    pub(super) events: Box<dyn SessionEvents>,
}

impl Session {
    /// Prepares a session; the first poll of its events connects.
    pub(super) fn new(options: SessionOptions) -> Self {
        match options.version {
            MqttVersion::V5 => v5::session(options),
            MqttVersion::V311 => v311::session(options),
        }
    }
}

impl SessionOptions {
    /// Requests that may wait in the client library: publishes by our window, acknowledgements by
    /// the number of packet identifiers.
    fn request_max(&self) -> usize {
        usize::from(self.window) + usize::from(u16::MAX) + 2
    }

    /// One more than we use: a full window must not hold up our acknowledgements.
    fn inflight_max(&self) -> u16 {
        self.window.saturating_add(1)
    }

    fn keep_alive(&self) -> Duration {
        self.keep_alive.max(KEEP_ALIVE_MIN)
    }

    fn transport(&self) -> Transport {
        match &self.tls {
            None => Transport::Tcp,
            Some(config) => Transport::Tls(TlsConfiguration::Rustls(Arc::clone(config))),
        }
    }
}

fn network_options() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(NEVER_S);
    network
}

impl From<Outgoing> for SessionEvent {
    fn from(outgoing: Outgoing) -> Self {
        match outgoing {
            Outgoing::Publish(pkid) => Self::Written(pkid),
            Outgoing::Subscribe(pkid) | Outgoing::Unsubscribe(pkid) => {
                Self::SubscriptionWritten(pkid)
            }
            Outgoing::Disconnect => Self::Disconnected,
            _ => Self::Other,
        }
    }
}

impl Outbound {
    /// Bytes of its PUBLISH packet at QoS 1 (MQTT 5, section 3.3).
    pub(super) fn packet_size(&self, version: MqttVersion) -> usize {
        let properties = match version {
            MqttVersion::V5 => v5::properties_size(self),
            MqttVersion::V311 => 0,
        };
        // The topic has two bytes of length in front, the packet identifier has two bytes.
        let length = 2 + self.topic.len() + 2 + properties + self.payload.len();
        1 + varint_size(length) + length
    }
}

/// Bytes of a variable byte integer (MQTT 5, section 1.5.5).
fn varint_size(value: usize) -> usize {
    match value {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}
