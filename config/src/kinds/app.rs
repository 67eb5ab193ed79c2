//! Our `App`: a program on this device.

use std::time::Duration;

use super::Owner;
use crate::model::{App, AppProtocol, HealthCheck, Resources};
use crate::reader::{Field, Fields};
use crate::rules;

const DEFAULT_ADDRESS: &str = "127.0.0.1";

/// Concurrent calls to one app. No device has the memory for more.
const MAX_CONCURRENCY: usize = 65_535;

pub(super) fn read(document: &Fields<'_>, resources: &mut Resources) {
    resources.apps.extend(app(document));
}

fn app(document: &Fields<'_>) -> Option<App> {
    let spec = document.read("spec", |spec| spec.fields());
    let id = id(document, spec.as_ref().and_then(Option::as_ref));
    Owner::Pannier.close_document(document);
    let Some(spec) = spec? else { return Some(default_app(id?, document)) };
    let port = spec.read("port", |port| port.number(1..=u16::MAX));
    let protocol = spec.read_or("protocol", AppProtocol::Http, |field| protocol(&field));
    let address = spec.read_or("address", DEFAULT_ADDRESS.into(), |field| host(&field));
    let http_port = spec.read("httpPort", |port| http_port(&port));
    let api_token = spec.read("apiToken", |token| rules::secret(&token));
    let app_token = spec.read("appToken", |token| rules::secret(&token));
    let max_concurrency = spec.read("maxConcurrency", |most| most.number(1..=MAX_CONCURRENCY));
    let health = spec.read_or("healthCheck", None, |field| health(&field));
    spec.refuse_others();
    Some(App {
        port: port?,
        protocol: protocol?,
        address: address?,
        http_port: http_port?,
        api_token: api_token?,
        app_token: app_token?,
        max_concurrency: max_concurrency?,
        health: health?,
        ..default_app(id?, document)
    })
}

fn default_app(id: String, document: &Fields<'_>) -> App {
    App {
        id,
        port: None,
        protocol: AppProtocol::default(),
        address: DEFAULT_ADDRESS.into(),
        http_port: None,
        api_token: None,
        app_token: None,
        max_concurrency: None,
        health: None,
        origin: document.origin(),
    }
}

/// Reads `spec.id`, or else `metadata.name`; unique.
fn id(document: &Fields<'_>, spec: Option<&Fields<'_>>) -> Option<String> {
    let explicit = spec.and_then(|spec| spec.get("id"));
    let metadata = match &explicit {
        Some(_) => document.get("metadata"),
        None => document.need("metadata", "metadata: {name: my-app}"),
    };
    let metadata = metadata.map(|metadata| metadata.fields());
    let name = match &metadata {
        Some(Some(metadata)) => {
            let named = metadata.get("name");
            Owner::Pannier.close_metadata(metadata);
            explicit.or(named).or_else(|| metadata.need("name", "name: my-app"))
        }
        Some(None) => None,
        None => explicit,
    };
    let field = name?;
    let id = rules::name(&field)?;
    field.claim("App", &id, "rename or remove one of them")?;
    Some(id)
}

fn protocol(field: &Field<'_>) -> Option<AppProtocol> {
    match field.text()?.as_str() {
        "http" => Some(AppProtocol::Http),
        known @ ("https" | "h2c" | "grpc" | "grpcs") => field.refuse(
            format!("{known}: this version speaks http to apps"),
            "write http, and let the app listen with it",
        ),
        other => field.refuse(format!("{other:?} is not a protocol"), "write http"),
    }
}

/// Reads a host's name or an IP address.
fn host(field: &Field<'_>) -> Option<String> {
    let host = field.text()?;
    let bare = !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
    let one_colon = host.matches(':').count() == 1;
    match bare && !one_colon {
        true => Some(host),
        false => field.refuse(
            format!("{host:?} is not a host"),
            "write a name or an IP address; the port goes to port",
        ),
    }
}

/// Reads a port that no other app may have. Port 0 stands for any free one, so several may have it.
fn http_port(field: &Field<'_>) -> Option<u16> {
    let port = field.number(0..=u16::MAX)?;
    if port != 0 {
        field.claim("httpPort", &port.to_string(), "give each app a port of its own")?;
    }
    Some(port)
}

fn health(field: &Field<'_>) -> Option<Option<HealthCheck>> {
    let defaults = HealthCheck::default();
    let fields = field.fields()?;
    let at_least = Duration::from_millis(1);
    let enabled = fields.read_or("enabled", true, |enabled| enabled.flag());
    let path = fields.read_or("path", defaults.path, |path| health_path(&path));
    let interval =
        fields.read_or("interval", defaults.interval, |time| time.duration_from(at_least));
    let timeout = fields.read_or("timeout", defaults.timeout, |time| time.duration_from(at_least));
    let threshold =
        fields.read_or("threshold", defaults.threshold, |count| count.number(1..=u32::MAX));
    fields.refuse_others();
    let interval = interval?;
    let timeout = timeout?;
    if timeout > interval {
        let problem = format!("the timeout ({timeout:?}) is over the interval ({interval:?})");
        return field.refuse(problem, "make the interval longer, or the timeout shorter");
    }
    let check = HealthCheck { path: path?, interval, timeout, threshold: threshold? };
    Some(enabled?.then_some(check))
}

fn health_path(field: &Field<'_>) -> Option<String> {
    match field.text()? {
        path if path.starts_with('/') && !path.contains(char::is_whitespace) => Some(path),
        path => field.refuse(format!("{path:?} is not a path"), "write for example /healthz"),
    }
}

#[cfg(test)]
mod tests;
