//! The parts of each app: a port of the API, a channel to the app, and subscriptions.

use std::sync::Arc;

use blocks::app::{App, AppOptions, DEFAULT_TIMEOUT};
use blocks::pubsub::Subscriptions;
use blocks::pubsub::subscriptions::Subscription;
use blocks::registry::{Current, Registry, may_use};

use super::{Device, StartError, Tasks, listen};
use crate::admin::ServedApp;
use crate::api::http::health::Health;
use crate::api::http::metadata::{
    AppConnection, ComponentInfo, Described, HealthInfo, RuleInfo, SubscriptionInfo,
};
use crate::api::http::{self, Api, ApiState};
use crate::api::stack::{ApiToken, Guard};
use crate::assemble::{DescribedComponent, namespace};
use crate::channel::http::{ChannelOptions, HttpChannel};
use crate::metrics::Observer;
use crate::settings::AppSettings;

/// Starts an app's API and its subscriptions.
pub(super) async fn start(
    app: &AppSettings,
    device: &Device,
    tasks: &mut Tasks,
) -> Result<ServedApp, StartError> {
    let health = Arc::new(Health::default());
    let described = Arc::new(Described::default());
    if let Some(store) = &device.store {
        health.watch(store);
    }
    health.set_outbound_ready(true);
    let registry = Registry::for_app(&device.assembly.components, &app.id, &namespace());
    let registry = Arc::new(Current::new(registry));

    let api = api_of(app, device, &registry, &health, &described);
    let observer = Observer {
        calls: Arc::clone(&device.calls),
        app: app.id.as_str().into(),
        log: device.settings.log_calls,
    };
    let guard = Guard {
        api_token: app.api_token.clone().and_then(ApiToken::new),
        max_body: device.settings.max_body,
        observer,
    };
    let service = http::service(ApiState::new(api), guard);
    let mut port = app.http_port;
    let mut addresses = Vec::new();
    for address in &device.settings.http_addresses {
        let (bound, listeners) = listen::bind(*address, port, &listen::API).await?;
        port = bound.port();
        addresses.push(format!("http://{bound}"));
        listen::serve(listeners, &service, device, tasks);
    }

    let called = match app.port {
        Some(port) => {
            let called = Arc::new(called_app(app, port)?);
            let subscriptions = subscriptions(&called, registry, device);
            serve(Arc::clone(&called), subscriptions, health, described, device, tasks);
            Some((called, port))
        }
        None => {
            health.set_ready(true);
            None
        }
    };
    Ok(ServedApp { id: app.id.clone(), http_port: port, addresses, called })
}

fn api_of(
    app: &AppSettings,
    device: &Device,
    registry: &Arc<Current>,
    health: &Arc<Health>,
    described: &Arc<Described>,
) -> Api {
    let all = device.assembly.described.iter();
    let visible = all.filter(|component| may_use(&component.apps, &app.id));
    let components = visible.map(component_info).collect();
    Api {
        app_id: app.id.as_str().into(),
        registry: Arc::clone(registry),
        health: Arc::clone(health),
        described: Arc::clone(described),
        components,
        app: connection(app),
        shutdown: device.stopper.clone(),
    }
}

fn connection(app: &AppSettings) -> AppConnection {
    let Some(port) = app.port else { return AppConnection::default() };
    AppConnection {
        port: Some(port),
        protocol: Some("http"),
        channel_address: Some(app.address.clone()),
        max_concurrency: app.max_concurrency,
        health: app.health.as_ref().map(|check| HealthInfo {
            health_check_path: check.path.clone(),
            health_probe_interval: format!("{}s", check.interval.as_secs()),
            health_probe_timeout: format!("{}ms", check.timeout.as_millis()),
            health_threshold: check.threshold,
        }),
    }
}

fn called_app(app: &AppSettings, port: u16) -> Result<App, StartError> {
    let channel = HttpChannel::new(ChannelOptions {
        app_id: app.id.clone(),
        address: app.address.clone(),
        port,
        token: app.app_token.clone(),
        health_path: app.health.as_ref().map(|check| check.path.clone()).unwrap_or_default(),
    });
    let channel = channel.map_err(|error| StartError::Configuration(vec![error.to_string()]))?;
    let options = AppOptions {
        id: app.id.as_str().into(),
        timeout: DEFAULT_TIMEOUT,
        max_calls: app.max_calls(),
        check: app.health.clone(),
    };
    Ok(App::new(options, Box::new(channel)))
}

fn subscriptions(app: &Arc<App>, registry: Arc<Current>, device: &Device) -> Subscriptions {
    let declared = device.settings.resources.subscriptions.clone();
    Subscriptions::new(Arc::clone(app), registry, declared)
}

/// Runs an app and its subscriptions until the shutdown.
fn serve(
    app: Arc<App>,
    subscriptions: Subscriptions,
    health: Arc<Health>,
    described: Arc<Described>,
    device: &Device,
    tasks: &mut Tasks,
) {
    let stop = device.stop();
    tasks.inbound.spawn(async move {
        tokio::select! {
            () = app.run(&subscriptions, &stop) => {}
            () = describe(&app, &subscriptions, &health, &described) => {}
        }
    });
}

/// Updates `/v1.0/metadata` and `/v1.0/healthz` after each start of the app.
async fn describe(
    app: &App,
    subscriptions: &Subscriptions,
    health: &Health,
    described: &Described,
) {
    loop {
        app.gate().wait_until(|state| state.started).await;
        described
            .set_subscriptions(subscriptions.active().into_iter().map(subscription_info).collect());
        health.set_ready(true);
        app.gate().wait_until(|state| !state.started).await;
    }
}

fn component_info(component: &DescribedComponent) -> ComponentInfo {
    let DescribedComponent { name, kind, version, capabilities, .. } = component;
    ComponentInfo {
        name: name.clone(),
        kind: kind.clone(),
        version: version.clone(),
        capabilities: capabilities.clone(),
    }
}

fn subscription_info(subscription: Subscription) -> SubscriptionInfo {
    let Subscription { spec, source } = subscription;
    let rules = spec.rules.into_iter();
    let mut rules: Vec<RuleInfo> =
        rules.map(|rule| RuleInfo { matches: rule.matches, path: rule.path }).collect();
    let default = spec.default_route.map(|path| RuleInfo { matches: String::new(), path });
    rules.extend(default);
    SubscriptionInfo {
        pubsub: spec.pubsub,
        topic: spec.topic,
        metadata: spec.metadata,
        rules,
        dead_letter_topic: spec.dead_letter_topic.unwrap_or_default(),
        kind: source.name(),
    }
}
