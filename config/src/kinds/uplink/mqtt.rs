//! `spec.mqtt` of an uplink.

use std::time::Duration;

use crate::model::{MqttUplink, MqttVersion};
use crate::reader::{Field, Fields};
use crate::rules;

const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The shortest keep-alive: pings at shorter intervals would take much of a slow link.
const MIN_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The longest keep-alive: 16 bits of seconds (MQTT 5, section 3.1.2.10).
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(65_535);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const MIN_CONNECT_TIMEOUT: Duration = Duration::from_millis(100);

/// A scheme of a broker's URL.
struct Scheme {
    name: &'static str,
    tls: bool,
    default_port: u16,
}

const SCHEMES: [Scheme; 4] = [
    Scheme { name: "mqtt", tls: false, default_port: 1883 },
    Scheme { name: "tcp", tls: false, default_port: 1883 },
    Scheme { name: "mqtts", tls: true, default_port: 8883 },
    Scheme { name: "ssl", tls: true, default_port: 8883 },
];

pub(super) fn read(field: &Field<'_>) -> Option<MqttUplink> {
    let fields = field.fields()?;
    let url = fields.need("url", "url: mqtts://broker.example").and_then(|url| parse_url(&url));
    let version = fields.read_or("version", MqttVersion::V5, |field| version(&field));
    let client_id = fields.read("clientId", |id| id.text());
    let username = fields.read("username", |name| name.text());
    let password = fields.read("password", |password| rules::secret(&password));
    let ca_cert = fields.read("caCert", |path| rules::path(&path));
    let client_cert = fields.read("clientCert", |path| rules::path(&path));
    let client_key = fields.read("clientKey", |path| rules::path(&path));
    let keep_alive = fields.read_or("keepAlive", DEFAULT_KEEP_ALIVE, |field| keep_alive(&field));
    let connect_timeout = fields.read_or("connectTimeout", DEFAULT_CONNECT_TIMEOUT, |time| {
        time.duration_from(MIN_CONNECT_TIMEOUT)
    });
    fields.refuse_others();
    check_together(&fields, url.as_ref());
    let BrokerUrl { host, port, tls } = url?;
    Some(MqttUplink {
        host,
        port,
        tls,
        version: version?,
        client_id: client_id?,
        username: username?,
        password: password?,
        ca_cert: ca_cert?,
        client_cert: client_cert?,
        client_key: client_key?,
        keep_alive: keep_alive?,
        connect_timeout: connect_timeout?,
    })
}

/// Reports fields that have no effect without another one, or without TLS.
fn check_together(fields: &Fields<'_>, url: Option<&BrokerUrl>) {
    let needs =
        [("clientCert", "clientKey"), ("clientKey", "clientCert"), ("password", "username")];
    for (name, needed) in needs {
        if let Some(field) = fields.get(name)
            && fields.get(needed).is_none()
        {
            field.refuse::<()>(format!("needs {needed} too"), format!("add {needed}"));
        }
    }
    if url.is_some_and(|url| !url.tls) {
        for name in ["caCert", "clientCert", "clientKey"] {
            if let Some(field) = fields.get(name) {
                let remedy = "write the url with mqtts://, or remove it";
                field.refuse::<()>("has no effect, because the url is not TLS", remedy);
            }
        }
    }
}

fn version(field: &Field<'_>) -> Option<MqttVersion> {
    match field.text()?.as_str() {
        "5" | "5.0" => Some(MqttVersion::V5),
        "3.1.1" => Some(MqttVersion::V311),
        other => field.refuse(format!("{other:?} is not an MQTT version"), "write 5 or 3.1.1"),
    }
}

fn keep_alive(field: &Field<'_>) -> Option<Duration> {
    match field.duration_from(MIN_KEEP_ALIVE)? {
        duration if duration > MAX_KEEP_ALIVE => {
            let problem = format!("{duration:?} is more than MQTT can say");
            field.refuse(problem, format!("write at most {MAX_KEEP_ALIVE:?}"))
        }
        duration => Some(duration),
    }
}

struct BrokerUrl {
    host: String,
    port: u16,
    tls: bool,
}

/// Reads `scheme://host[:port][/]`. No error shows a URL that may hold credentials.
fn parse_url(field: &Field<'_>) -> Option<BrokerUrl> {
    let url = field.text()?;
    if url.contains('@') {
        return field.refuse(
            "a URL can't hold credentials: it is shown in logs",
            "write them as username and password beside it",
        );
    }
    let refuse = |problem: &str| {
        let remedy = "write for example mqtts://broker.example or mqtt://10.0.0.1:1883";
        field.refuse::<BrokerUrl>(format!("the URL {problem}"), remedy)
    };
    let Some((scheme, rest)) = url.split_once("://") else { return refuse("has no scheme") };
    let Some(scheme) = SCHEMES.iter().find(|known| known.name.eq_ignore_ascii_case(scheme)) else {
        return refuse("has none of the schemes mqtt, tcp, mqtts and ssl");
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return refuse("has a path, and MQTT has none");
    }
    let Some((host, port)) = split_port(authority) else { return refuse("has no valid host") };
    let port = match port.map(str::parse::<u16>) {
        None => scheme.default_port,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return refuse("has no valid port"),
    };
    Some(BrokerUrl { host: host.to_owned(), port, tls: scheme.tls })
}

/// Splits host and port. An IPv6 address is written in brackets, which are removed.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        return match after {
            "" => Some((address, None)),
            _ => after.strip_prefix(':').map(|port| (address, Some(port))),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (!host.is_empty() && host.chars().all(plain)).then_some((host, port))
}
