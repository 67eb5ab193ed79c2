//! MQTT 3.1.1.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rumqttc::mqttbytes::Error as PacketError;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Packet,
    Publish, QoS, StateError, SubAck, SubscribeReasonCode,
};

use super::{
    BrokerCapabilities, ClientStalled, INCOMING_MAX, Inbound, KEEP_ALIVE_MIN, Outbound, PACKET_MAX,
    Session, SessionClient, SessionEvent, SessionEvents, SessionOptions, network_options,
};
use crate::uplink::mqtt::failure::{LinkError, Refusal, words};

/// A CONNACK of this version has no properties.
const CAPABILITIES: BrokerCapabilities = BrokerCapabilities {
    receive_max: u16::MAX,
    packet_max: PACKET_MAX,
    retain: true,
    qos1: true,
    subscription_ids: false,
};

pub(super) fn session(options: SessionOptions) -> Session {
    let requests = options.request_max();
    let (client, mut events) = AsyncClient::new(client_options(options), requests);
    events.set_network_options(network_options());
    Session { client: Arc::new(client), events: Box::new(events) }
}

fn client_options(options: SessionOptions) -> MqttOptions {
    let transport = options.transport();
    let keep_alive = options.keep_alive();
    let inflight_max = options.inflight_max();
    let mut out = MqttOptions::new(options.client_id, options.host, options.port);
    out.set_transport(transport)
        .set_keep_alive(keep_alive)
        .set_clean_session(!options.keep_session)
        .set_max_packet_size(INCOMING_MAX as usize, PACKET_MAX)
        .set_inflight(inflight_max)
        .set_manual_acks(true);
    if let Some(login) = options.login {
        out.set_credentials(login.username, login.password);
    }
    out
}

impl SessionClient for AsyncClient {
    fn publish(&self, message: Outbound) -> Result<(), ClientStalled> {
        let Outbound { topic, retain, payload, .. } = message;
        self.try_publish(topic, QoS::AtLeastOnce, retain, payload).map_err(|_| ClientStalled)
    }

    fn subscribe(&self, filter: String, _id: Option<u32>) -> Result<(), ClientStalled> {
        self.try_subscribe(filter, QoS::AtLeastOnce).map_err(|_| ClientStalled)
    }

    fn unsubscribe(&self, filter: String) -> Result<(), ClientStalled> {
        self.try_unsubscribe(filter).map_err(|_| ClientStalled)
    }

    fn acknowledge(&self, pkid: u16) -> Result<(), ClientStalled> {
        let mut publish = Publish::new("", QoS::AtLeastOnce, Vec::new());
        publish.pkid = pkid;
        self.try_ack(&publish).map_err(|_| ClientStalled)
    }

    fn disconnect(&self) -> Result<(), ClientStalled> {
        self.try_disconnect().map_err(|_| ClientStalled)
    }
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
        keep_alive.max(KEEP_ALIVE_MIN) * 2
    }
}

impl From<Event> for SessionEvent {
    fn from(event: Event) -> Self {
        let packet = match event {
            Event::Outgoing(outgoing) => return outgoing.into(),
            Event::Incoming(packet) => packet,
        };
        match packet {
            Packet::ConnAck(_) => Self::Connected(CAPABILITIES),
            Packet::PubAck(ack) => Self::Answered { pkid: ack.pkid, refusal: None },
            Packet::SubAck(ack) => {
                Self::SubscriptionAnswered { pkid: ack.pkid, refusal: subscription_refusal(&ack) }
            }
            Packet::UnsubAck(ack) => Self::SubscriptionAnswered { pkid: ack.pkid, refusal: None },
            Packet::Publish(publish) => Self::Received(inbound(publish)),
            _ => Self::Other,
        }
    }
}

fn subscription_refusal(ack: &SubAck) -> Option<String> {
    ack.return_codes.contains(&SubscribeReasonCode::Failure).then(|| "refused".to_owned())
}

fn inbound(publish: Publish) -> Inbound {
    Inbound {
        topic: publish.topic,
        payload: publish.payload.to_vec(),
        content_type: None,
        expires_in_s: None,
        subscriptions: Vec::new(),
        pkid: (publish.qos != QoS::AtMostOnce).then_some(publish.pkid),
    }
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
            StateError::Deserialization(PacketError::PayloadSizeLimitExceeded(bytes)) => {
                Self::TooLarge { bytes, limit: INCOMING_MAX }
            }
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
            Code::BadClientId => Self::ClientId,
            Code::RefusedProtocolVersion => Self::Version,
            other => Self::Other(words(&format!("{other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use config::model::MqttVersion;

    use super::*;

    #[test]
    fn a_packet_is_sized_exactly() {
        for bytes in [0, 90, 128, 16_300, 16_384, 2_097_100, 2_097_200] {
            let message = Outbound {
                topic: "t/x".into(),
                retain: false,
                payload: vec![0; bytes],
                content_type: Some("left out".into()),
                expires_in_s: Some(1),
                user_properties: vec![("left".into(), "out".into())],
            };
            let mut packet = Publish::new("t/x", QoS::AtLeastOnce, vec![0; bytes]);
            packet.pkid = 1;
            assert_eq!(message.packet_size(MqttVersion::V311), packet.size());
        }
    }
}
