#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5::DisconnectReasonCode;
use rustls::pki_types::ServerName;
use rustls::{InvalidMessage, OtherError};

use super::*;
use crate::uplink::mqtt::tests::broker;

fn peer(tls: bool) -> Peer {
    let mut spec = broker::spec(1883, MqttVersion::V5);
    spec.tls = tls;
    Peer::new(&spec, "truck-up")
}

fn io(kind: io::ErrorKind) -> LinkError {
    v5::ConnectionError::Io(kind.into()).into()
}

fn tls(error: rustls::Error) -> LinkError {
    let io = io::Error::new(io::ErrorKind::InvalidData, error);
    rumqttc::ConnectionError::Tls(rumqttc::TlsError::Io(io)).into()
}

fn certificate(error: CertificateError) -> String {
    tls(rustls::Error::InvalidCertificate(error)).describe(&peer(true), false)
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

#[test]
fn a_broker_that_is_not_there_is_named_by_its_address() {
    let refused = io(io::ErrorKind::ConnectionRefused).describe(&peer(false), false);
    assert!(refused.starts_with("connection refused by mqtt://localhost:1883: "), "{refused}");
    let mut spec = broker::spec(1, MqttVersion::V5);
    spec.host = "::1".into();
    assert_eq!(Peer::new(&spec, "").to_string(), "mqtt://[::1]:1");
}

#[test]
fn a_name_without_an_address_is_told() {
    let text = "failed to lookup address information: Name or service not known";
    let error = LinkError::from(v5::ConnectionError::Io(io::Error::other(text)));
    let shown = error.describe(&peer(false), false);
    assert!(shown.starts_with("the host name localhost can't be resolved"), "{shown}");
}

#[test]
fn a_certificate_is_named_with_what_is_wrong_and_what_to_do() {
    use CertificateError as Error;
    for untrusted in [Error::UnknownIssuer, Error::BadSignature] {
        let shown = certificate(untrusted);
        let expected = "the certificate of localhost isn't trusted: set caCert";
        assert!(shown.starts_with(expected), "{shown}");
    }
    let time = at(1_800_000_000);
    let not_after = at(1_700_000_000);
    let shown = certificate(Error::ExpiredContext { time, not_after });
    assert!(shown.contains("expired on 2023-11-14") && shown.contains("clock"), "{shown}");
    let shown = certificate(Error::NotValidYetContext { time: not_after, not_before: time });
    assert!(shown.contains("valid from 2027-01-15 on") && shown.contains("clock"), "{shown}");
    let expected = ServerName::try_from("localhost").unwrap();
    let presented = vec!["DnsName(\"broker.example\")".into(), "IpAddress(10.0.0.1)".into()];
    let shown = certificate(Error::NotValidForNameContext { expected, presented });
    assert!(shown.contains("is for broker.example, 10.0.0.1: "), "{shown}");
    let odd = io::Error::other("CaUsedAsEndEntity");
    let shown = certificate(Error::Other(OtherError(std::sync::Arc::new(odd))));
    assert!(shown.ends_with("can't be used: ca used as end entity"), "{shown}");
}

#[test]
fn the_wrong_port_is_told_both_ways() {
    let closed =
        || LinkError::from(v5::ConnectionError::MqttState(v5::StateError::ConnectionAborted));
    assert!(closed().describe(&peer(false), false).contains("write mqtts://"));
    assert!(closed().describe(&peer(true), false).contains("write mqtt://"));
    assert!(!closed().describe(&peer(false), true).contains("mqtts://"));
    let plain = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
    assert!(tls(plain).describe(&peer(true), false).contains("doesn't answer in TLS"));
}

#[test]
fn a_certificate_that_the_broker_asks_for_is_told() {
    let alert = |alert| tls(rustls::Error::AlertReceived(alert));
    let required = alert(AlertDescription::CertificateRequired);
    assert!(required.describe(&peer(true), true).contains("set clientCert and clientKey"));
    let mut with = peer(true);
    with.client_cert = Some("/etc/client.pem".into());
    let shown = alert(AlertDescription::UnknownCA).describe(&with, true);
    assert!(shown.contains("client certificate in /etc/client.pem"), "{shown}");
}

struct RefusalCase {
    v5: v5::mqttbytes::v5::ConnectReturnCode,
    v311: rumqttc::ConnectReturnCode,
    told: &'static str,
}

#[test]
fn both_versions_refuse_with_the_same_words() {
    use rumqttc::ConnectReturnCode as Code311;
    use v5::mqttbytes::v5::ConnectReturnCode as Code5;
    for RefusalCase { v5, v311, told } in [
        RefusalCase {
            v5: Code5::BadUserNamePassword,
            v311: Code311::BadUserNamePassword,
            told: "wrong user name or password",
        },
        RefusalCase {
            v5: Code5::NotAuthorized,
            v311: Code311::NotAuthorized,
            told: "not authorized: correct username",
        },
        RefusalCase {
            v5: Code5::ClientIdentifierNotValid,
            v311: Code311::BadClientId,
            told: "client id \"truck-up\"",
        },
        RefusalCase {
            v5: Code5::UnsupportedProtocolVersion,
            v311: Code311::RefusedProtocolVersion,
            told: "set version: ",
        },
        RefusalCase {
            v5: Code5::ServiceUnavailable,
            v311: Code311::ServiceUnavailable,
            told: ": service unavailable",
        },
    ] {
        let error = LinkError::from(v5::ConnectionError::ConnectionRefused(v5));
        let shown = error.describe(&peer(false), false);
        let error = LinkError::from(rumqttc::ConnectionError::ConnectionRefused(v311));
        assert_eq!(shown, error.describe(&peer(false), false));
        assert!(shown.contains(told), "{shown}");
        assert!(shown.starts_with("mqtt://localhost:1883 refused the connection: "), "{shown}");
    }
}

fn disconnected(reason_code: DisconnectReasonCode, reason: Option<&str>) -> String {
    let reason_string = reason.map(str::to_owned);
    let error = v5::StateError::ServerDisconnect { reason_code, reason_string };
    LinkError::from(v5::ConnectionError::MqttState(error)).describe(&peer(false), true)
}

#[test]
fn a_client_id_that_another_uses_is_named() {
    let shown = disconnected(DisconnectReasonCode::SessionTakenOver, None);
    assert!(shown.starts_with("another client uses the id \"truck-up\": "), "{shown}");
    let shown = disconnected(DisconnectReasonCode::ServerShuttingDown, Some("back at 8"));
    assert!(shown.ends_with("ended the connection: server shutting down (back at 8)"), "{shown}");
}

#[test]
fn type_names_become_words() {
    assert_eq!(words("NotAuthorized"), "not authorized");
    assert_eq!(words("QoSNotSupported"), "qos not supported");
    assert_eq!(words("UnknownCA"), "unknown ca");
}
