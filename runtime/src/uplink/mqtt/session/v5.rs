//! MQTT 5.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, DisconnectReasonCode, Filter, Packet, PubAck, PubAckReason,
    Publish, PublishProperties, SubAck, SubscribeProperties, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error as PacketError, QoS};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};

use super::{
    BrokerCapabilities, ClientStalled, INCOMING_MAX, Inbound, KEEP_ALIVE_MIN, NEVER_S, Outbound,
    PACKET_MAX, Session, SessionClient, SessionEvent, SessionEvents, SessionOptions, UNACKED_MAX,
    network_options, varint_size,
};
use crate::uplink::mqtt::failure::{LinkError, Refusal, with_reason, words};
use crate::uplink::mqtt::topic::is_shared;

/// Seconds that the broker keeps our subscriptions while we are away: for ever (section 3.1.2.11.2).
const SESSION_EXPIRY_S: u32 = u32::MAX;
/// The return code of an MQTT 3.1.1 CONNACK that refuses the version (MQTT 3.1.1, section 3.2.2.3).
const OLD_REFUSED_VERSION: u8 = 1;
/// The reason code of a packet that is too large (section 2.4).
const PACKET_TOO_LARGE: u8 = 0x95;

pub(super) fn session(options: SessionOptions) -> Session {
    let requests = options.request_max();
    let (client, events) = AsyncClient::new(client_options(options), requests);
    Session { client: Arc::new(client), events: Box::new(events) }
}

fn client_options(options: SessionOptions) -> MqttOptions {
    let transport = options.transport();
    let keep_alive = options.keep_alive();
    let inflight_max = options.inflight_max();
    let mut out = MqttOptions::new(options.client_id, options.host, options.port);
    out.set_transport(transport)
        .set_keep_alive(keep_alive)
        .set_clean_start(!options.keep_session)
        .set_session_expiry_interval(options.keep_session.then_some(SESSION_EXPIRY_S))
        .set_receive_maximum(Some(UNACKED_MAX))
        .set_max_packet_size(Some(INCOMING_MAX))
        .set_outgoing_inflight_upper_limit(inflight_max)
        .set_manual_acks(true)
        .set_connection_timeout(NEVER_S)
        .set_network_options(network_options());
    if let Some(login) = options.login {
        out.set_credentials(login.username, login.password);
    }
    out
}

impl SessionClient for AsyncClient {
    fn publish(&self, message: Outbound) -> Result<(), ClientStalled> {
        let properties = PublishProperties {
            content_type: message.content_type,
            message_expiry_interval: message.expires_in_s,
            user_properties: message.user_properties,
            ..PublishProperties::default()
        };
        self.try_publish_with_properties(
            message.topic,
            QoS::AtLeastOnce,
            message.retain,
            message.payload,
            properties,
        )
        .map_err(|_| ClientStalled)
    }

    fn subscribe(&self, filter: String, id: Option<u32>) -> Result<(), ClientStalled> {
        let filters = [subscription(filter)];
        let sent = match id {
            None => self.try_subscribe_many(filters),
            Some(id) => {
                let id = Some(id as usize);
                let properties = SubscribeProperties { id, user_properties: Vec::new() };
                self.try_subscribe_many_with_properties(filters, properties)
            }
        };
        sent.map_err(|_| ClientStalled)
    }

    fn unsubscribe(&self, filter: String) -> Result<(), ClientStalled> {
        self.try_unsubscribe(filter).map_err(|_| ClientStalled)
    }

    fn acknowledge(&self, pkid: u16) -> Result<(), ClientStalled> {
        let publish = Publish { pkid, qos: QoS::AtLeastOnce, ..Publish::default() };
        self.try_ack(&publish).map_err(|_| ClientStalled)
    }

    fn disconnect(&self) -> Result<(), ClientStalled> {
        self.try_disconnect().map_err(|_| ClientStalled)
    }
}

/// Asks not to get our own messages back: with a wide filter they would go round in a loop. A
/// shared subscription may not ask for that (section 3.8.3.1).
fn subscription(filter: String) -> Filter {
    let nolocal = !is_shared(&filter);
    Filter { nolocal, ..Filter::new(filter, QoS::AtLeastOnce) }
}

#[async_trait]
impl SessionEvents for EventLoop {
    async fn next(&mut self) -> Result<SessionEvent, LinkError> {
        Ok(self.poll().await?.into())
    }

    fn drain(&mut self) -> Vec<SessionEvent> {
        self.state.events.drain(..).map(SessionEvent::from).collect()
    }

    fn quiet_max(&mut self, keep_alive: Duration) -> Duration {
        let ours = keep_alive.max(KEEP_ALIVE_MIN);
        let servers = self.options.keep_alive();
        if servers.is_zero() {
            // "No keep-alive" would make rumqttc ping without a pause.
            self.options.set_keep_alive(ours);
        }
        servers.max(ours) * 2
    }
}

impl From<Event> for SessionEvent {
    fn from(event: Event) -> Self {
        let packet = match event {
            Event::Outgoing(outgoing) => return outgoing.into(),
            Event::Incoming(packet) => packet,
        };
        match packet {
            Packet::ConnAck(connack) => Self::Connected(capabilities(&connack)),
            Packet::PubAck(ack) => Self::Answered { pkid: ack.pkid, refusal: refusal(&ack) },
            Packet::SubAck(ack) => {
                Self::SubscriptionAnswered { pkid: ack.pkid, refusal: subscription_refusal(&ack) }
            }
            Packet::UnsubAck(ack) => Self::SubscriptionAnswered { pkid: ack.pkid, refusal: None },
            Packet::Publish(publish) => Self::Received(inbound(publish)),
            _ => Self::Other,
        }
    }
}

/// Reads the broker's capabilities; an absent property has the default of section 3.2.2.3.
fn capabilities(connack: &ConnAck) -> BrokerCapabilities {
    let properties = connack.properties.as_ref();
    let packet_max = properties.and_then(|properties| properties.max_packet_size);
    let subscription_ids =
        properties.and_then(|properties| properties.subscription_identifiers_available);
    BrokerCapabilities {
        receive_max: properties.and_then(|it| it.receive_max).unwrap_or(u16::MAX),
        packet_max: packet_max
            .map_or(PACKET_MAX, |bytes| usize::try_from(bytes).unwrap_or(PACKET_MAX)),
        retain: properties.and_then(|it| it.retain_available) != Some(0),
        qos1: properties.and_then(|it| it.max_qos) != Some(0),
        subscription_ids: subscription_ids != Some(0),
    }
}

fn refusal(ack: &PubAck) -> Option<String> {
    if matches!(ack.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers) {
        return None;
    }
    let reason = words(&format!("{:?}", ack.reason));
    let text = ack.properties.as_ref().and_then(|properties| properties.reason_string.as_deref());
    Some(with_reason(&format!("the broker refused it: {reason}"), text))
}

fn subscription_refusal(ack: &SubAck) -> Option<String> {
    let is_refused = |code: &&SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
    let refused = ack.return_codes.iter().find(is_refused)?;
    Some(words(&format!("{refused:?}")))
}

fn inbound(publish: Publish) -> Inbound {
    let properties = publish.properties.unwrap_or_default();
    Inbound {
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        payload: publish.payload.to_vec(),
        content_type: properties.content_type,
        expires_in_s: properties.message_expiry_interval,
        subscriptions: properties.subscription_identifiers,
        pkid: (publish.qos != QoS::AtMostOnce).then_some(publish.pkid),
    }
}

/// Bytes of a PUBLISH packet's properties and their length (section 3.3.2.3).
pub(super) fn properties_size(message: &Outbound) -> usize {
    let content_type = message.content_type.as_ref().map_or(0, |value| 3 + value.len());
    let expiry = if message.expires_in_s.is_some() { 5 } else { 0 };
    let user: usize =
        message.user_properties.iter().map(|(name, value)| 5 + name.len() + value.len()).sum();
    let length = content_type + expiry + user;
    varint_size(length) + length
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Io(error) => error.into(),
            ConnectionError::Tls(error) => error.into(),
            ConnectionError::ConnectionRefused(code) => Self::Refused(code.into()),
            ConnectionError::MqttState(error) => error.into(),
            other => Self::NotMqtt(other.into()),
        }
    }
}

impl From<StateError> for LinkError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io(error) | StateError::Deserialization(PacketError::Io(error)) => {
                error.into()
            }
            StateError::ConnectionAborted => Self::Closed,
            StateError::AwaitPingResp => Self::NoPong,
            StateError::ServerDisconnect { reason_code, reason_string } => {
                disconnected(reason_code, reason_string.as_deref())
            }
            StateError::Deserialization(PacketError::PayloadSizeLimitExceeded {
                pkt_size, ..
            }) => Self::TooLarge { bytes: pkt_size, limit: INCOMING_MAX },
            // A broker without MQTT 5 answers CONNECT in the older form.
            StateError::Deserialization(PacketError::InvalidConnectReturnCode(
                OLD_REFUSED_VERSION,
            )) => Self::Refused(Refusal::Version),
            // Mosquitto's answer to a message beyond its message_size_limit.
            StateError::Deserialization(PacketError::InvalidConnectReturnCode(
                PACKET_TOO_LARGE,
            )) => Self::PublishTooLarge,
            other => Self::NotMqtt(other.into()),
        }
    }
}

impl From<ConnectReturnCode> for Refusal {
    fn from(code: ConnectReturnCode) -> Self {
        use ConnectReturnCode as Code;
        match code {
            Code::BadUserNamePassword => Self::Login,
            Code::NotAuthorized => Self::NotAuthorized,
            Code::ClientIdentifierNotValid | Code::BadClientId => Self::ClientId,
            Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => Self::Version,
            other => Self::Other(words(&format!("{other:?}"))),
        }
    }
}

fn disconnected(code: DisconnectReasonCode, reason: Option<&str>) -> LinkError {
    if code == DisconnectReasonCode::SessionTakenOver {
        return LinkError::TakenOver;
    }
    LinkError::Ended(with_reason(&words(&format!("{code:?}")), reason))
}

#[cfg(test)]
mod tests {
    use config::model::MqttVersion;
    use rumqttc::v5::mqttbytes::v5::PubAckProperties;

    use super::*;

    #[test]
    fn a_refusal_carries_its_code_and_the_brokers_words() {
        let mut ack = PubAck::new(1, None);
        assert_eq!(refusal(&ack), None);
        ack.reason = PubAckReason::NoMatchingSubscribers;
        assert_eq!(refusal(&ack), None);
        ack.reason = PubAckReason::QuotaExceeded;
        ack.properties = Some(PubAckProperties {
            reason_string: Some("come back tomorrow".into()),
            user_properties: Vec::new(),
        });
        let text = refusal(&ack).unwrap_or_default();
        assert!(text.contains("quota exceeded") && text.contains("come back tomorrow"), "{text}");
    }

    fn assert_sized_exactly(message: &Outbound) {
        let properties = PublishProperties {
            content_type: message.content_type.clone(),
            message_expiry_interval: message.expires_in_s,
            user_properties: message.user_properties.clone(),
            ..PublishProperties::default()
        };
        let payload = message.payload.clone();
        let mut packet = Publish::new(&message.topic, QoS::AtLeastOnce, payload, Some(properties));
        packet.pkid = 1;
        assert_eq!(message.packet_size(MqttVersion::V5), packet.size());
    }

    #[test]
    fn a_packet_is_sized_exactly() {
        for bytes in [0, 90, 128, 16_300, 16_384, 2_097_100, 2_097_200] {
            let bare = Outbound {
                topic: "t/x".into(),
                retain: false,
                payload: vec![0; bytes],
                content_type: None,
                expires_in_s: None,
                user_properties: Vec::new(),
            };
            assert_sized_exactly(&bare);
            for length in [1, 100, 200] {
                assert_sized_exactly(&Outbound {
                    content_type: Some("text/plain".into()),
                    expires_in_s: Some(1),
                    user_properties: vec![("name".into(), "v".repeat(length))],
                    ..bare.clone()
                });
            }
        }
    }

    #[test]
    fn a_broker_that_names_no_limits_sets_none() {
        let code = ConnectReturnCode::Success;
        let connack = ConnAck { session_present: false, code, properties: None };
        let expected = BrokerCapabilities {
            receive_max: u16::MAX,
            packet_max: PACKET_MAX,
            retain: true,
            qos1: true,
            subscription_ids: true,
        };
        assert_eq!(capabilities(&connack), expected);
    }

    #[test]
    fn a_broker_without_subscription_identifiers_says_so() {
        let mut answer = bytes::BytesMut::new();
        // CONNACK: no session, success, 2 bytes of properties: 0x29, 0.
        answer.extend_from_slice(&[0x20, 5, 0, 0, 2, 0x29, 0]);
        let packet = Packet::read(&mut answer, None);
        let Ok(Packet::ConnAck(connack)) = packet else { panic!("{packet:?}") };
        assert!(!capabilities(&connack).subscription_ids);
    }
}
