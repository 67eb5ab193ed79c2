//! What each app of the device has of its own: a port, a channel back to it, subscriptions.

use std::sync::Arc;

use store_forward::Store;
use store_forward::clock::Clock;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{StartError, listen, wait_owned};
use crate::admin::ServedApp;
use crate::api::http::health::Health;
use crate::api::http::metadata::{
    AppConnection, ComponentInfo, Described, HealthInfo, RuleInfo, SubscriptionInfo,
};
use crate::api::http::{self, Api, ApiState, ApiToken, Blocks};
use crate::assemble::Loaded;
use crate::channel::http::{self as channel, AppChannel, ChannelOptions};
use crate::metrics::{Calls, Observer, observe};
use crate::pubsub::subscriptions::Subscription;
use crate::pubsub::{PubSubBlock, Subscriptions};
use crate::serve::Connections;
use crate::settings::{AppSettings, Settings};
use blocks::state::StateStores;

/// What all apps share.
pub(super) struct Parts<'a> {
    pub(super) settings: &'a Settings,
    pub(super) loaded: &'a Loaded,
    pub(super) block: &'a Arc<PubSubBlock>,
    pub(super) store: &'a Store,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) calls: &'a Arc<Calls>,
    pub(super) connections: &'a Arc<Connections>,
    pub(super) stop: &'a watch::Sender<bool>,
}

/// Starts an app's API and its subscriptions.
pub(super) async fn start(
    app: &AppSettings,
    parts: &Parts<'_>,
    servers: &mut JoinSet<()>,
    drains: &mut JoinSet<()>,
) -> Result<ServedApp, StartError> {
    let health = Arc::new(Health::default());
    let described = Arc::new(Described::default());
    health.watch(parts.store);
    health.set_outbound_ready(true);
    let api = ApiState::new(api_of(app, parts, &health, &described));
    let observer = Observer {
        calls: Arc::clone(parts.calls),
        app: app.id.as_str().into(),
        log: parts.settings.log_calls,
    };
    let router = http::router(api).layer(axum::middleware::from_fn_with_state(observer, observe));
    let (mut port, mut addresses) = (app.http_port, Vec::new());
    for address in &parts.settings.http_addresses {
        let (bound, listeners) = listen::bind(*address, port, &listen::API).await?;
        port = bound.port();
        addresses.push(format!("http://{bound}"));
        listen::serve(listeners, &router, parts.connections, parts.stop, servers);
    }
    let channel = match app.port {
        Some(port) => Some((call_back(app, port, parts, health, described, drains)?, port)),
        None => {
            health.set_ready(true);
            None
        }
    };
    Ok(ServedApp { id: app.id.clone(), http_port: port, addresses, channel })
}

fn api_of(
    app: &AppSettings,
    parts: &Parts<'_>,
    health: &Arc<Health>,
    described: &Arc<Described>,
) -> Api {
    let namespace = std::env::var("NAMESPACE").unwrap_or_default();
    let visible = |scopes: &[String]| scopes.is_empty() || scopes.contains(&app.id);
    let infos = parts.loaded.infos.iter().filter(|(_, scopes)| visible(scopes));
    let components: Vec<ComponentInfo> = infos.map(|(info, _)| info.clone()).collect();
    Api {
        app_id: app.id.as_str().into(),
        blocks: Blocks { state: StateStores::for_app(&parts.loaded.state, &app.id, &namespace) },
        pubsub: Arc::clone(parts.block),
        api_token: app.api_token.clone().and_then(ApiToken::new),
        max_body: parts.settings.max_body,
        health: Arc::clone(health),
        described: Arc::clone(described),
        components,
        app: connection(app),
        shutdown: parts.stop.clone(),
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

fn call_back(
    app: &AppSettings,
    port: u16,
    parts: &Parts<'_>,
    health: Arc<Health>,
    described: Arc<Described>,
    drains: &mut JoinSet<()>,
) -> Result<Arc<AppChannel>, StartError> {
    let options = ChannelOptions {
        app_id: app.id.clone(),
        address: app.address.clone(),
        port,
        token: app.app_token.clone(),
        timeout: channel::DEFAULT_TIMEOUT,
        probed: app.health.is_some(),
    };
    let channel = AppChannel::new(options)
        .map_err(|error| StartError::Configuration(vec![error.to_string()]))?;
    let channel = Arc::new(channel);
    let called = Arc::clone(&channel);
    let declared = parts.settings.resources.subscriptions.clone();
    let subscriptions = Arc::new(Subscriptions::new(
        Arc::clone(&channel),
        Arc::clone(parts.block),
        declared,
        Arc::clone(parts.clock),
        app.max_concurrency,
    ));
    let (check, stopped) = (app.health.clone(), wait_owned(parts.stop.subscribe()));
    drains.spawn(async move {
        let tell = describe(&channel, &subscriptions, &health, &described);
        let serve = channel::serve(&channel, check.as_ref(), &*subscriptions, stopped);
        tokio::select! {
            () = serve => {}
            () = tell => {}
        }
    });
    Ok(called)
}

/// Keeps `/v1.0/metadata` and healthz up to date with what the app has answered.
async fn describe(
    channel: &AppChannel,
    subscriptions: &Subscriptions,
    health: &Health,
    described: &Described,
) {
    loop {
        channel.wait_until(|state| state.started).await;
        described.set_subscriptions(subscriptions.active().into_iter().map(info).collect());
        health.set_ready(true);
        channel.wait_until(|state| !state.started).await;
    }
}

fn info(subscription: Subscription) -> SubscriptionInfo {
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
