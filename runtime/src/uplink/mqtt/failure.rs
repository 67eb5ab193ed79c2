//! Failures of the link to a broker, in words that say what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use config::model::{MqttUplink, MqttVersion};
use rumqttc::TlsError;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};
use time::OffsetDateTime;

/// The broker, and the settings that lead to it, as messages name them.
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

    /// Says what to do about a client id that two clients use.
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

/// The reason why there is no connection to a broker, or no longer one.
#[derive(Debug)]
pub(super) enum LinkError {
    Io(io::Error),
    /// The host's name has no address.
    Unresolved,
    Tls(rustls::Error),
    /// rumqttc could not start the TLS handshake.
    TlsClient(TlsError),
    /// The connection ended without a reason.
    Closed,
    /// The broker refused our CONNECT.
    Refused(Refusal),
    /// The broker gave our session to another connection with the same client id.
    TakenOver,
    /// The broker ended the connection with this reason.
    Ended(String),
    /// The broker sent a packet that is larger than we take.
    TooLarge {
        bytes: usize,
        limit: u32,
    },
    /// The broker refused a publish as too large, in an answer that rumqttc can't read.
    PublishTooLarge,
    /// A ping was not answered.
    NoPong,
    /// The broker sent something that is no MQTT, or a packet that must not come there.
    NotMqtt(Box<dyn Error + Send + Sync>),
}

/// The reason why a broker refused a connection.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    Login,
    NotAuthorized,
    ClientId,
    Version,
    Other(String),
}

impl LinkError {
    /// Describes the failure. `up` tells that the broker had accepted the connection before.
    pub(super) fn describe(&self, peer: &Peer, up: bool) -> String {
        match self {
            Self::Io(error) => describe_io(error, peer),
            Self::Unresolved => format!(
                "the host name {} can't be resolved: correct the url, or check the network and its DNS",
                peer.host
            ),
            Self::Tls(error) => describe_tls(error, peer),
            Self::TlsClient(error) => tls_failed(error, peer),
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
            Self::TooLarge { bytes, limit } => format!(
                "the broker sent a packet of {bytes} bytes, the limit is {limit}: remove the \
                 message from the broker and let it refuse such messages (Mosquitto: \
                 max_packet_size), or subscribe to less in spec.downlinks"
            ),
            Self::PublishTooLarge => format!("{peer} refused a message as too large"),
            Self::NoPong => format!("{peer} has not answered a ping: the link is down"),
            Self::NotMqtt(error) if up => {
                format!("{peer} breaks the MQTT protocol: {}", words(&error.to_string()))
            }
            Self::NotMqtt(_) => format!(
                "{peer} doesn't answer in MQTT: check the port, and whether it is for TLS (mqtts://)"
            ),
        }
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let inner = error.get_ref();
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::Tls(tls.clone());
        }
        // The standard library has no kind for this, but a text that all platforms share.
        let text = error.to_string();
        if text.contains("failed to lookup address") || text.contains("could not resolve") {
            return Self::Unresolved;
        }
        match error.kind() {
            Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<TlsError> for LinkError {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Io(error) => error.into(),
            TlsError::TLS(error) => Self::Tls(error),
            other => Self::TlsClient(other),
        }
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
        other => tls_failed(other, peer),
    }
}

fn tls_failed(error: &impl Error, peer: &Peer) -> String {
    format!("TLS with {peer} failed: {}", words(&error.to_string()))
}

fn describe_certificate(error: &CertificateError, peer: &Peer) -> String {
    use CertificateError as Error;
    let host = &peer.host;
    let clock = day(UnixTime::now());
    match error {
        // A bad signature comes from an authority of the same name with another key.
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

/// Describes an alert, by which the broker ends the handshake.
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

/// Takes the name out of `DnsName("example.com")` or `IpAddress(::1)`.
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

/// Adds the broker's own text, if it gave one.
pub(super) fn with_reason(why: &str, text: Option<&str>) -> String {
    match text {
        Some(text) => format!("{why} ({text})"),
        None => why.to_owned(),
    }
}

/// Turns a name such as `NotAuthorized` into words: "not authorized".
pub(super) fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    for c in text.replace("QoS", "Qos").chars() {
        let starts_word = c.is_ascii_uppercase() && before.is_ascii_lowercase();
        if starts_word {
            out.push(' ');
        }
        out.push(c.to_ascii_lowercase());
        before = c;
    }
    out
}

#[cfg(test)]
mod tests;
