//! Why the broker can't be talked to, in words: one mapping from the errors of rumqttc, rustls and
//! the system.

use std::fmt;
use std::io;
use std::path::PathBuf;

use config::model::{MqttUplink, MqttVersion};
use rumqttc::v5;
use rumqttc::v5::mqttbytes::v5 as packet5;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};
use time::OffsetDateTime;

use super::session::INCOMING_MAX;

/// The reason code of a packet that is too large (MQTT 5, section 2.4).
const PACKET_TOO_LARGE: u8 = 0x95;

/// What an error says of the other side, and of how we come to it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    host: String,
    port: u16,
    tls: bool,
    version: MqttVersion,
    client_id: String,
    ca_cert: Option<PathBuf>,
    client_cert: Option<PathBuf>,
}

impl Peer {
    pub(super) fn new(spec: &MqttUplink, client_id: &str) -> Self {
        Self {
            host: spec.host.clone(),
            port: spec.port,
            tls: spec.tls,
            version: spec.version,
            client_id: client_id.into(),
            ca_cert: spec.ca_cert.clone(),
            client_cert: spec.client_cert.clone(),
        }
    }

    /// What to do about a client id that two clients use.
    pub(super) fn shared_id(&self) -> String {
        format!(
            "another client uses the id {:?}: give each client its own, with spec.mqtt.clientId or \
             the node's id",
            self.client_id
        )
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        let Self { host, port, .. } = self;
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port}"),
            false => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

/// Why there is no connection to a broker, or no longer one.
#[derive(Debug)]
pub(super) enum LinkError {
    /// The system's word.
    Io(io::Error),
    /// The host's name has no address.
    Unresolved,
    Tls(rustls::Error),
    /// It was closed without a reason.
    Closed,
    /// The broker answered our CONNECT with a refusal.
    Refused(Refusal),
    /// The broker took the client id's next connection for ours.
    TakenOver,
    /// The broker ended it with this reason.
    Ended(String),
    /// A packet of this size.
    TooLarge(usize),
    /// The broker refused a publish as too large, in an answer that rumqttc can't read.
    PublishTooLarge,
    /// A ping was not answered.
    NoPong,
    /// What came is no MQTT, or not where it came.
    NotMqtt(String),
}

/// Why a broker doesn't take a connection.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    Login,
    NotAuthorized,
    ClientId,
    Version,
    Other(String),
}

impl LinkError {
    /// In words. `up` if the broker had taken the connection before.
    pub(super) fn describe(&self, peer: &Peer, up: bool) -> String {
        match self {
            Self::Io(error) => describe_io(error, peer),
            Self::Unresolved => format!(
                "the host name {} can't be resolved: correct the url, or check the network and its DNS",
                peer.host
            ),
            Self::Tls(error) => describe_tls(error, peer),
            Self::Closed if up => format!("{peer} closed the connection without a reason"),
            Self::Closed if peer.tls => format!(
                "{peer} closed the connection during the TLS handshake: if that port is not for \
                 TLS, write mqtt:// or another port"
            ),
            Self::Closed => format!(
                "{peer} closed the connection before it answered: if that port is for TLS, write \
                 mqtts:// or another port"
            ),
            Self::Refused(refusal) => describe_refusal(refusal, peer),
            Self::TakenOver => peer.shared_id(),
            Self::Ended(reason) => format!("{peer} ended the connection: {reason}"),
            Self::TooLarge(bytes) => format!(
                "the broker sent a packet of {bytes} bytes, the limit is {INCOMING_MAX}: remove the \
                 message from the broker and let it refuse such messages (Mosquitto: \
                 max_packet_size), or subscribe to less in spec.downlinks"
            ),
            Self::PublishTooLarge => format!("{peer} refused a message as too large"),
            Self::NoPong => format!("{peer} has not answered a ping: the link is down"),
            Self::NotMqtt(problem) if up => format!("{peer} breaks the MQTT protocol: {problem}"),
            Self::NotMqtt(_) => format!(
                "{peer} doesn't answer in MQTT: check the port, and whether it is for TLS (mqtts://)"
            ),
        }
    }

    fn of_io(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let inner = error.get_ref();
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::Tls(tls.clone());
        }
        // The standard library has no kind for it, and the text in common on every platform.
        let text = error.to_string();
        if text.contains("failed to lookup address") || text.contains("could not resolve") {
            return Self::Unresolved;
        }
        match error.kind() {
            Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }

    fn of_tls(error: rumqttc::TlsError) -> Self {
        match error {
            rumqttc::TlsError::Io(error) => Self::of_io(error),
            rumqttc::TlsError::TLS(error) => Self::Tls(error),
            other => Self::Ended(words(&other.to_string())),
        }
    }
}

impl From<v5::ConnectionError> for LinkError {
    fn from(error: v5::ConnectionError) -> Self {
        use v5::{ConnectionError, StateError, mqttbytes::Error};
        match error {
            ConnectionError::Io(error)
            | ConnectionError::MqttState(StateError::Io(error))
            | ConnectionError::MqttState(StateError::Deserialization(Error::Io(error))) => {
                Self::of_io(error)
            }
            ConnectionError::Tls(error) => Self::of_tls(error),
            ConnectionError::ConnectionRefused(code) => Self::Refused(refusal_5(code)),
            // A broker without MQTT 5 answers in the older form: code 1.
            ConnectionError::MqttState(StateError::Deserialization(
                Error::InvalidConnectReturnCode(1),
            )) => Self::Refused(Refusal::Version),
            ConnectionError::MqttState(StateError::Deserialization(
                Error::PayloadSizeLimitExceeded { pkt_size, .. },
            )) => Self::TooLarge(pkt_size),
            // Mosquitto's answer to a message beyond its message_size_limit.
            ConnectionError::MqttState(StateError::Deserialization(
                Error::InvalidConnectReturnCode(PACKET_TOO_LARGE),
            )) => Self::PublishTooLarge,
            ConnectionError::MqttState(StateError::ConnectionAborted) => Self::Closed,
            ConnectionError::MqttState(StateError::AwaitPingResp) => Self::NoPong,
            ConnectionError::MqttState(StateError::ServerDisconnect {
                reason_code,
                reason_string,
            }) => disconnected(reason_code, reason_string.as_deref()),
            ConnectionError::MqttState(error) => Self::NotMqtt(words(&error.to_string())),
            other => Self::NotMqtt(words(&other.to_string())),
        }
    }
}

impl From<rumqttc::ConnectionError> for LinkError {
    fn from(error: rumqttc::ConnectionError) -> Self {
        use rumqttc::{ConnectionError, StateError, mqttbytes::Error};
        match error {
            ConnectionError::Io(error)
            | ConnectionError::MqttState(StateError::Io(error))
            | ConnectionError::MqttState(StateError::Deserialization(Error::Io(error))) => {
                Self::of_io(error)
            }
            ConnectionError::Tls(error) => Self::of_tls(error),
            ConnectionError::ConnectionRefused(code) => Self::Refused(refusal_311(code)),
            ConnectionError::MqttState(StateError::Deserialization(
                Error::PayloadSizeLimitExceeded(bytes),
            )) => Self::TooLarge(bytes),
            ConnectionError::MqttState(StateError::ConnectionAborted) => Self::Closed,
            ConnectionError::MqttState(StateError::AwaitPingResp) => Self::NoPong,
            ConnectionError::MqttState(error) => Self::NotMqtt(words(&error.to_string())),
            other => Self::NotMqtt(words(&other.to_string())),
        }
    }
}

fn disconnected(code: packet5::DisconnectReasonCode, reason: Option<&str>) -> LinkError {
    if code == packet5::DisconnectReasonCode::SessionTakenOver {
        return LinkError::TakenOver;
    }
    LinkError::Ended(with_reason(&words(&format!("{code:?}")), reason))
}

fn refusal_5(code: packet5::ConnectReturnCode) -> Refusal {
    use packet5::ConnectReturnCode as Code;
    match code {
        Code::BadUserNamePassword => Refusal::Login,
        Code::NotAuthorized => Refusal::NotAuthorized,
        Code::ClientIdentifierNotValid | Code::BadClientId => Refusal::ClientId,
        Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => Refusal::Version,
        other => Refusal::Other(words(&format!("{other:?}"))),
    }
}

fn refusal_311(code: rumqttc::ConnectReturnCode) -> Refusal {
    use rumqttc::ConnectReturnCode as Code;
    match code {
        Code::BadUserNamePassword => Refusal::Login,
        Code::NotAuthorized => Refusal::NotAuthorized,
        Code::BadClientId => Refusal::ClientId,
        Code::RefusedProtocolVersion => Refusal::Version,
        other => Refusal::Other(words(&format!("{other:?}"))),
    }
}

fn describe_refusal(refusal: &Refusal, peer: &Peer) -> String {
    let why = match refusal {
        Refusal::Login => "wrong user name or password: correct username, password, or set them",
        Refusal::NotAuthorized => {
            "not authorized: correct username, password or client certificate, or allow them at the broker"
        }
        Refusal::ClientId => {
            return format!(
                "{peer} refused the connection: it doesn't take the client id {:?}: set clientId",
                peer.client_id
            );
        }
        Refusal::Version if peer.version == MqttVersion::V5 => {
            "it doesn't speak MQTT 5: set version: \"3.1.1\""
        }
        Refusal::Version => "it doesn't speak MQTT 3.1.1: set version: \"5\"",
        Refusal::Other(reason) => reason,
    };
    format!("{peer} refused the connection: {why}")
}

fn describe_io(error: &io::Error, peer: &Peer) -> String {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => {
            format!("connection refused by {peer}: start the broker there, or correct the url")
        }
        Kind::TimedOut => format!("{peer} doesn't answer: check the network and the url"),
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => {
            format!("{peer} can't be reached: check the network and the url")
        }
        _ => format!("the connection to {peer} failed: {error}"),
    }
}

fn describe_tls(error: &rustls::Error, peer: &Peer) -> String {
    use rustls::Error;
    let host = &peer.host;
    match error {
        Error::InvalidCertificate(error) => describe_certificate(error, peer),
        Error::AlertReceived(alert) => describe_alert(*alert, peer),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => format!(
            "{peer} doesn't answer in TLS: if that port is not for TLS, write mqtt:// or another port"
        ),
        Error::PeerIncompatible(_) => {
            format!(
                "{host} has no TLS version or cipher in common with Pannier: it needs TLS 1.2 or 1.3"
            )
        }
        other => format!("TLS with {peer} failed: {}", words(&other.to_string())),
    }
}

fn describe_certificate(error: &CertificateError, peer: &Peer) -> String {
    use CertificateError as Error;
    let host = &peer.host;
    let clock = day(UnixTime::now());
    match error {
        // A bad signature: an authority of the same name that has another key.
        Error::UnknownIssuer | Error::BadSignature => match &peer.ca_cert {
            None => format!(
                "the certificate of {host} isn't trusted: set caCert to the certificate of the \
                 authority that signed it"
            ),
            Some(path) => format!(
                "the certificate of {host} isn't trusted: set caCert to the certificate of the \
                 authority that signed it; that is not in {}",
                path.display()
            ),
        },
        Error::ExpiredContext { not_after, .. } => format!(
            "the certificate of {host} has expired on {}, and it is {clock} by the clock of this \
             device: renew the certificate, or set the clock",
            day(*not_after)
        ),
        Error::Expired => format!(
            "the certificate of {host} has expired, and it is {clock} by the clock of this device: \
             renew the certificate, or set the clock"
        ),
        Error::NotValidYetContext { not_before, .. } => format!(
            "the certificate of {host} is valid from {} on, and it is {clock} by the clock of this \
             device: set the clock",
            day(*not_before)
        ),
        Error::NotValidYet => format!(
            "the certificate of {host} isn't valid yet, and it is {clock} by the clock of this \
             device: set the clock"
        ),
        Error::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            format!(
                "the certificate of {host} is for {}: write that name in the url, or renew the \
                 certificate",
                names.join(", ")
            )
        }
        Error::NotValidForName | Error::NotValidForNameContext { .. } => format!(
            "the certificate of {host} is for another name: write the right one in the url, or \
             renew the certificate"
        ),
        Error::Other(other) => {
            format!("the certificate of {host} can't be used: {}", words(&other.to_string()))
        }
        other => format!("the certificate of {host} can't be used: {}", words(&other.to_string())),
    }
}

/// What the other side thinks of us.
fn describe_alert(alert: AlertDescription, peer: &Peer) -> String {
    use AlertDescription as Alert;
    let host = &peer.host;
    let certificate = matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::HandshakeFailure
    );
    match (&peer.client_cert, alert) {
        (None, Alert::CertificateRequired) => {
            format!("{host} asks for a client certificate: set clientCert and clientKey")
        }
        (None, _) if certificate => format!(
            "{host} refused the TLS handshake ({}): it may ask for a client certificate: set \
             clientCert and clientKey",
            words(&format!("{alert:?}"))
        ),
        (Some(path), _) if certificate => format!(
            "{host} refused the client certificate in {} ({}): check that the broker trusts the \
             authority that signed it, and that it has not expired",
            path.display(),
            words(&format!("{alert:?}"))
        ),
        _ => format!("{host} refused the TLS handshake: {}", words(&format!("{alert:?}"))),
    }
}

/// A name out of `DnsName("example.com")` or `IpAddress(::1)`.
fn bare(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"')
}

fn day(at: UnixTime) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    match OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(at) => at.date().to_string(),
        Err(_) => "an unknown date".into(),
    }
}

/// With the text that the broker gave, if it gave one.
pub(super) fn with_reason(why: &str, text: Option<&str>) -> String {
    match text {
        Some(text) => format!("{why} ({text})"),
        None => why.to_owned(),
    }
}

/// `NotAuthorized` as people write it: "not authorized".
pub(super) fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    for c in text.replace("QoS", "Qos").chars() {
        let humps = c.is_ascii_uppercase() && before.is_ascii_lowercase();
        if humps {
            out.push(' ');
        }
        out.push(c.to_ascii_lowercase());
        before = c;
    }
    out
}

#[cfg(test)]
mod tests;
