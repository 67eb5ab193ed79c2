//! One MQTT connection, 5 or 3.1.1, behind one face.
//!
//! rumqttc reconnects and resends by itself; we never let it: a session is used for one connection
//! and dropped with it, so that the store alone knows what has to be sent again.

use std::sync::Arc;
use std::time::Duration;

use config::model::MqttVersion;
use rumqttc::v5::mqttbytes::v5 as packet5;
use rumqttc::{NetworkOptions, TlsConfiguration, Transport, v5};
use rustls::ClientConfig;

use super::failure::{LinkError, with_reason, words};
use super::subscriptions::Ask;

/// Bytes of an MQTT packet: four bytes of remaining length and a header (MQTT 5, section 1.5.5).
pub(super) const PACKET_MAX: usize = 268_435_455 + 5;
/// Bytes of a packet that we take: a journal segment, which no message is larger than.
pub(super) const INCOMING_MAX: u32 = 8 << 20;
/// Messages from the broker that wait for their commit: our Receive Maximum.
pub(super) const UNACKED_MAX: u16 = 256;
/// Seconds that the broker keeps our subscriptions while we are away: for ever (MQTT 5, 3.1.2.11.2).
const SESSION_EXPIRY_S: u32 = u32::MAX;
/// The shortest keep-alive that rumqttc takes.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);
/// rumqttc's own time-outs are in whole seconds and cover other spans: ours come first.
const NEVER_S: u64 = 24 * 3600;

/// What a connection is opened with.
pub(super) struct Options {
    pub(super) version: MqttVersion,
    pub(super) client_id: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) keep_alive: Duration,
    pub(super) window: u16,
    /// Whether the broker keeps our subscriptions, and what comes in by them, while we are away.
    pub(super) keep_session: bool,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) login: Option<(String, String)>,
}

/// A message on its way up.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outbound {
    pub(super) topic: String,
    pub(super) retain: bool,
    pub(super) payload: Vec<u8>,
    /// Left out by MQTT 3.1.1.
    pub(super) properties: packet5::PublishProperties,
}

/// A message that came down.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) content_type: Option<String>,
    pub(super) expires_in_s: Option<u32>,
    /// The identifiers of the subscriptions that it comes by; none where they aren't known.
    pub(super) subscriptions: Vec<usize>,
    /// `None` at QoS 0: nobody waits for an acknowledgement.
    pub(super) pkid: Option<u16>,
}

/// What the broker said when it took the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Terms {
    pub(super) receive_max: u16,
    pub(super) packet_max: usize,
    pub(super) retain: bool,
    pub(super) qos1: bool,
    /// Whether messages come with the identifiers of their subscriptions.
    pub(super) subscription_ids: bool,
}

/// Something that happened on the connection.
#[derive(Debug)]
pub(super) enum Event {
    Connected(Terms),
    /// A publish was written, under this identifier.
    Written(u16),
    /// A publish was answered: with a reason when it was refused.
    Answered {
        pkid: u16,
        refusal: Option<String>,
    },
    /// A subscription was asked for or given up, under this identifier.
    Asked(u16),
    /// That was answered: with a reason when it was refused.
    Subscribed {
        pkid: u16,
        refusal: Option<String>,
    },
    Received(Received),
    /// We said goodbye.
    Left,
    Other,
}

/// The half that hands packets over. Never waits.
#[derive(Clone)]
pub(super) enum Client {
    V5(v5::AsyncClient),
    V311(rumqttc::AsyncClient),
}

/// The half that moves them.
pub(super) enum EventLoop {
    V5(Box<v5::EventLoop>),
    V311(Box<rumqttc::EventLoop>),
}

/// The client library has no room for a request or has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the MQTT client takes no more requests")]
pub(super) struct Stalled;

pub(super) fn open(options: Options) -> (Client, EventLoop) {
    // Publishes by our window, acknowledgements by the number of packet identifiers.
    let requests = usize::from(options.window) + usize::from(u16::MAX) + 2;
    match options.version {
        MqttVersion::V5 => {
            let (client, events) = v5::AsyncClient::new(options_5(options), requests);
            (Client::V5(client), EventLoop::V5(Box::new(events)))
        }
        MqttVersion::V311 => {
            let (client, mut events) = rumqttc::AsyncClient::new(options_311(options), requests);
            events.set_network_options(network());
            (Client::V311(client), EventLoop::V311(Box::new(events)))
        }
    }
}

fn options_5(options: Options) -> v5::MqttOptions {
    let transport = transport(options.tls);
    let mut out = v5::MqttOptions::new(options.client_id, options.host, options.port);
    out.set_transport(transport)
        .set_keep_alive(options.keep_alive.max(KEEP_ALIVE_MIN))
        .set_clean_start(!options.keep_session)
        .set_session_expiry_interval(options.keep_session.then_some(SESSION_EXPIRY_S))
        .set_receive_maximum(Some(UNACKED_MAX))
        .set_max_packet_size(Some(INCOMING_MAX))
        // One more than we use: a full window must not hold up our acknowledgements.
        .set_outgoing_inflight_upper_limit(options.window.saturating_add(1))
        .set_manual_acks(true)
        .set_connection_timeout(NEVER_S)
        .set_network_options(network());
    if let Some((user, password)) = options.login {
        out.set_credentials(user, password);
    }
    out
}

fn options_311(options: Options) -> rumqttc::MqttOptions {
    let transport = transport(options.tls);
    let mut out = rumqttc::MqttOptions::new(options.client_id, options.host, options.port);
    out.set_transport(transport)
        .set_keep_alive(options.keep_alive.max(KEEP_ALIVE_MIN))
        .set_clean_session(!options.keep_session)
        .set_max_packet_size(INCOMING_MAX as usize, PACKET_MAX)
        .set_inflight(options.window.saturating_add(1))
        .set_manual_acks(true);
    if let Some((user, password)) = options.login {
        out.set_credentials(user, password);
    }
    out
}

fn transport(tls: Option<Arc<ClientConfig>>) -> Transport {
    tls.map_or(Transport::Tcp, |config| Transport::Tls(TlsConfiguration::Rustls(config)))
}

fn network() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(NEVER_S);
    network
}

impl Outbound {
    /// Bytes of the packet that it makes.
    pub(super) fn packet_size(&self, version: MqttVersion) -> usize {
        // Sized without its payload, which is not copied for that.
        let without = match version {
            MqttVersion::V5 => packet5::Publish {
                pkid: 1,
                qos: v5::mqttbytes::QoS::AtLeastOnce,
                topic: bytes::Bytes::copy_from_slice(self.topic.as_bytes()),
                properties: Some(self.properties.clone()),
                ..packet5::Publish::default()
            }
            .size(),
            MqttVersion::V311 => {
                let mut publish = rumqttc::Publish::new(
                    self.topic.as_str(),
                    rumqttc::QoS::AtLeastOnce,
                    Vec::new(),
                );
                publish.pkid = 1;
                publish.size()
            }
        };
        let length =
            (1..=4).map(|digits| without - 1 - digits).find(|n| 1 + digits(*n) + n == without);
        let length = length.unwrap_or(without) + self.payload.len();
        1 + digits(length) + length
    }
}

/// Bytes of a remaining length (MQTT 5, section 1.5.5).
fn digits(length: usize) -> usize {
    match length {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}

impl Client {
    pub(super) fn publish(&self, packet: Outbound) -> Result<(), Stalled> {
        let Outbound { topic, retain, payload, properties } = packet;
        match self {
            Self::V5(client) => client
                .try_publish_with_properties(
                    topic,
                    v5::mqttbytes::QoS::AtLeastOnce,
                    retain,
                    payload,
                    properties,
                )
                .map_err(|_| Stalled),
            Self::V311(client) => client
                .try_publish(topic, rumqttc::QoS::AtLeastOnce, retain, payload)
                .map_err(|_| Stalled),
        }
    }

    pub(super) fn ask(&self, ask: Ask) -> Result<(), Stalled> {
        let sent = match (self, ask) {
            (Self::V5(client), Ask::Subscribe { filter, id }) => {
                let filters = [filter_5(&filter)];
                match id {
                    None => client.try_subscribe_many(filters).is_ok(),
                    Some(id) => {
                        let properties = packet5::SubscribeProperties {
                            id: Some(id as usize),
                            user_properties: Vec::new(),
                        };
                        client.try_subscribe_many_with_properties(filters, properties).is_ok()
                    }
                }
            }
            (Self::V311(client), Ask::Subscribe { filter, .. }) => {
                client.try_subscribe(filter, rumqttc::QoS::AtLeastOnce).is_ok()
            }
            (Self::V5(client), Ask::Unsubscribe { filter }) => {
                client.try_unsubscribe(filter).is_ok()
            }
            (Self::V311(client), Ask::Unsubscribe { filter }) => {
                client.try_unsubscribe(filter).is_ok()
            }
        };
        if sent { Ok(()) } else { Err(Stalled) }
    }

    pub(super) fn acknowledge(&self, pkid: u16) -> Result<(), Stalled> {
        match self {
            Self::V5(client) => {
                let qos = v5::mqttbytes::QoS::AtLeastOnce;
                let publish = packet5::Publish { pkid, qos, ..packet5::Publish::default() };
                client.try_ack(&publish).map_err(|_| Stalled)
            }
            Self::V311(client) => {
                let qos = rumqttc::QoS::AtLeastOnce;
                let mut publish = rumqttc::Publish::new("", qos, Vec::new());
                publish.pkid = pkid;
                client.try_ack(&publish).map_err(|_| Stalled)
            }
        }
    }

    pub(super) fn leave(&self) -> Result<(), Stalled> {
        match self {
            Self::V5(client) => client.try_disconnect().map_err(|_| Stalled),
            Self::V311(client) => client.try_disconnect().map_err(|_| Stalled),
        }
    }
}

fn filter_5(filter: &str) -> packet5::Filter {
    let mut out = packet5::Filter::new(filter, v5::mqttbytes::QoS::AtLeastOnce);
    // What we sent ourselves must not come back, or a wide filter makes a loop. A shared
    // subscription may not ask for that (MQTT 5, section 3.8.3.1).
    out.nolocal = !super::topic::is_shared(filter);
    out
}

impl EventLoop {
    /// The next event. Dropping the future may lose a packet: only give up together with the session.
    pub(super) async fn poll(&mut self) -> Result<Event, LinkError> {
        match self {
            Self::V5(events) => Ok(event_5(events.poll().await?)),
            Self::V311(events) => Ok(event_311(events.poll().await?)),
        }
    }

    /// What was read before an error and not given out: acknowledgements among it spare a resend.
    pub(super) fn drain(&mut self) -> Vec<Event> {
        match self {
            Self::V5(events) => events.state.events.drain(..).map(event_5).collect(),
            Self::V311(events) => events.state.events.drain(..).map(event_311).collect(),
        }
    }

    /// The longest that `poll` may take on a healthy idle connection, by whoever set the keep-alive.
    pub(super) fn quiet_max(&mut self, ours: Duration) -> Duration {
        let ours = ours.max(KEEP_ALIVE_MIN);
        let Self::V5(events) = self else { return ours * 2 };
        let servers = events.options.keep_alive();
        if servers.is_zero() {
            // "No keep-alive" would make rumqttc ping without a pause.
            events.options.set_keep_alive(ours);
        }
        servers.max(ours) * 2
    }
}

fn event_5(event: v5::Event) -> Event {
    match event {
        v5::Event::Outgoing(outgoing) => outgoing_event(&outgoing),
        v5::Event::Incoming(packet) => match packet {
            packet5::Packet::ConnAck(connack) => Event::Connected(terms(&connack)),
            packet5::Packet::PubAck(ack) => {
                Event::Answered { pkid: ack.pkid, refusal: refusal(&ack) }
            }
            packet5::Packet::SubAck(ack) => Event::Subscribed {
                pkid: ack.pkid,
                refusal: ack.return_codes.iter().find_map(refused_5),
            },
            packet5::Packet::UnsubAck(ack) => Event::Subscribed { pkid: ack.pkid, refusal: None },
            packet5::Packet::Publish(publish) => Event::Received(received_5(publish)),
            _ => Event::Other,
        },
    }
}

fn event_311(event: rumqttc::Event) -> Event {
    use rumqttc::{Packet, SubscribeReasonCode};
    match event {
        rumqttc::Event::Outgoing(outgoing) => outgoing_event(&outgoing),
        rumqttc::Event::Incoming(packet) => match packet {
            Packet::ConnAck(_) => Event::Connected(Terms {
                receive_max: u16::MAX,
                packet_max: PACKET_MAX,
                retain: true,
                qos1: true,
                subscription_ids: false,
            }),
            Packet::PubAck(ack) => Event::Answered { pkid: ack.pkid, refusal: None },
            Packet::SubAck(ack) => {
                let refused = |code: &SubscribeReasonCode| {
                    (*code == SubscribeReasonCode::Failure).then(|| "refused".to_owned())
                };
                let refusal = ack.return_codes.iter().find_map(refused);
                Event::Subscribed { pkid: ack.pkid, refusal }
            }
            Packet::UnsubAck(ack) => Event::Subscribed { pkid: ack.pkid, refusal: None },
            Packet::Publish(publish) => Event::Received(Received {
                topic: publish.topic,
                payload: publish.payload.to_vec(),
                content_type: None,
                expires_in_s: None,
                subscriptions: Vec::new(),
                pkid: (publish.qos != rumqttc::QoS::AtMostOnce).then_some(publish.pkid),
            }),
            _ => Event::Other,
        },
    }
}

fn outgoing_event(outgoing: &rumqttc::Outgoing) -> Event {
    match outgoing {
        rumqttc::Outgoing::Publish(pkid) => Event::Written(*pkid),
        rumqttc::Outgoing::Subscribe(pkid) | rumqttc::Outgoing::Unsubscribe(pkid) => {
            Event::Asked(*pkid)
        }
        rumqttc::Outgoing::Disconnect => Event::Left,
        _ => Event::Other,
    }
}

fn terms(connack: &packet5::ConnAck) -> Terms {
    let said = connack.properties.as_ref();
    Terms {
        receive_max: said.and_then(|said| said.receive_max).unwrap_or(u16::MAX),
        packet_max: said
            .and_then(|said| said.max_packet_size)
            .map_or(PACKET_MAX, |bytes| usize::try_from(bytes).unwrap_or(PACKET_MAX)),
        retain: said.and_then(|said| said.retain_available) != Some(0),
        qos1: said.and_then(|said| said.max_qos) != Some(0),
        subscription_ids: said.and_then(|said| said.subscription_identifiers_available) != Some(0),
    }
}

fn refusal(ack: &packet5::PubAck) -> Option<String> {
    use packet5::PubAckReason;
    if matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers) {
        return None;
    }
    let text = ack.properties.as_ref().and_then(|properties| properties.reason_string.as_deref());
    Some(with_reason(
        &format!("the broker refused it: {}", words(&format!("{:?}", ack.reason))),
        text,
    ))
}

fn refused_5(code: &packet5::SubscribeReasonCode) -> Option<String> {
    match code {
        packet5::SubscribeReasonCode::Success(_) => None,
        refused => Some(words(&format!("{refused:?}"))),
    }
}

fn received_5(publish: packet5::Publish) -> Received {
    let properties = publish.properties.unwrap_or_default();
    Received {
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        payload: publish.payload.to_vec(),
        content_type: properties.content_type,
        expires_in_s: properties.message_expiry_interval,
        subscriptions: properties.subscription_identifiers,
        pkid: (publish.qos != v5::mqttbytes::QoS::AtMostOnce).then_some(publish.pkid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_code_and_the_brokers_words() {
        let mut ack = packet5::PubAck::new(1, None);
        assert_eq!(refusal(&ack), None);
        ack.reason = packet5::PubAckReason::NoMatchingSubscribers;
        assert_eq!(refusal(&ack), None);
        ack.reason = packet5::PubAckReason::QuotaExceeded;
        ack.properties = Some(packet5::PubAckProperties {
            reason_string: Some("come back tomorrow".into()),
            user_properties: Vec::new(),
        });
        let text = refusal(&ack).unwrap_or_default();
        assert!(text.contains("quota exceeded") && text.contains("come back tomorrow"), "{text}");
    }

    #[test]
    fn a_packet_is_sized_exactly_with_either_version() {
        for bytes in [0, 90, 128, 16_300, 16_384, 2_097_100, 2_097_200] {
            let packet = Outbound {
                topic: "t/x".into(),
                retain: false,
                payload: vec![0; bytes],
                properties: packet5::PublishProperties::default(),
            };
            let mut v311 = rumqttc::Publish::new("t/x", rumqttc::QoS::AtLeastOnce, vec![0; bytes]);
            v311.pkid = 1;
            assert_eq!(packet.packet_size(MqttVersion::V311), v311.size());
            let mut v5 = packet5::Publish::new(
                "t/x",
                v5::mqttbytes::QoS::AtLeastOnce,
                vec![0; bytes],
                Some(packet5::PublishProperties::default()),
            );
            v5.pkid = 1;
            assert_eq!(packet.packet_size(MqttVersion::V5), v5.size());
        }
    }

    #[test]
    fn a_broker_that_names_no_terms_sets_none() {
        let connack = packet5::ConnAck {
            session_present: false,
            code: packet5::ConnectReturnCode::Success,
            properties: None,
        };
        let expected = Terms {
            receive_max: u16::MAX,
            packet_max: PACKET_MAX,
            retain: true,
            qos1: true,
            subscription_ids: true,
        };
        assert_eq!(terms(&connack), expected);
    }

    #[test]
    fn a_broker_without_subscription_identifiers_says_so() {
        let mut answer = bytes::BytesMut::new();
        // CONNACK: no session, success, 2 bytes of properties: 0x29, 0.
        answer.extend_from_slice(&[0x20, 5, 0, 0, 2, 0x29, 0]);
        let packet = packet5::Packet::read(&mut answer, None);
        let Ok(packet5::Packet::ConnAck(connack)) = packet else { panic!("{packet:?}") };
        assert!(!terms(&connack).subscription_ids);
    }
}
