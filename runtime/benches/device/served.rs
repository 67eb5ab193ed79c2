//! The API served within this process, so that requests to its disk can be counted, and its store left
//! out.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::serve::ListenerExt;
use blocks::pubsub::scope::TopicScopes;
use blocks::registry::{Current, PubSubComponent, Registry};
use components::port::Component;
use components::port::pubsub::{
    Epoch, Identity, NodeId, Outgoing, PubSub, PubSubFeatures, PublishError, SubscribeSpec,
    Subscription,
};
use components::stop::Stopper;
use components::{Embedded, Refusal};
use runtime::api::http::health::Health;
use runtime::api::http::{self, Api, ApiState};
use runtime::assemble::{Surroundings, assemble};
use runtime::metrics::{Calls, Observer, observe};
use store_forward::Store;
use store_forward::clock::{Clock, OsClock};
use store_forward::limits::Limits;
use store_forward::store::Options;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::Result;
use crate::disk::{CountingDisk, DiskCounts};

/// The name of a pub/sub component that stores nothing.
pub(crate) const NOTHING: &str = "nothing";
const APP: &str = "bench";
const MAX_BODY: usize = 4 << 20;

/// A store in a directory, and the API over it.
pub(crate) struct Served {
    runtime: Runtime,
    store: Store,
    counts: Arc<DiskCounts>,
    pub(crate) address: SocketAddr,
}

impl Served {
    /// Serves the components that every device has, and [`NOTHING`].
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores.min(4))
            .enable_all()
            .build()?;
        let disk = CountingDisk::open(dir)?;
        let limits = Limits::default();
        let counts = disk.counts();
        let clock: Arc<dyn Clock> = Arc::new(OsClock::new());
        let options = Options { node: None, limits: limits.clone(), volatile: false };
        let embedded = Embedded::new(options, Arc::new(disk), clock);
        let store = runtime.block_on(embedded.open())?.clone();
        let surroundings =
            Surroundings { embedded, limits, app_id: APP.to_owned(), namespace: String::new() };
        let router = runtime.block_on(router(&surroundings))?;
        let address = runtime.block_on(serve(router))?;
        Ok(Self { runtime, store, counts, address })
    }

    /// Returns the counts of its disk, which go on changing.
    pub(crate) fn counts(&self) -> Arc<DiskCounts> {
        Arc::clone(&self.counts)
    }

    /// Writes a checkpoint and stops.
    pub(crate) fn stop(self) {
        self.runtime.block_on(self.store.close());
        self.runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

/// Creates the API for one app, as the program does.
async fn router(surroundings: &Surroundings) -> Result<Router> {
    let none = config::model::Resources::default();
    let mut components = assemble(&none, surroundings).await?.components;
    let nothing = PubSubComponent {
        name: NOTHING.to_owned(),
        component: Arc::new(NullPubSub),
        identity: Identity { node: NodeId(APP.to_owned()), epoch: Epoch(1) },
        topics: TopicScopes::default(),
        apps: Vec::new(),
        max_topic_bytes: surroundings.limits.max_topic_bytes,
        clock: Arc::clone(surroundings.embedded.clock()),
    };
    components.pubsub.insert(NOTHING.into(), Arc::new(nothing));
    let health = Arc::new(Health::default());
    health.set_outbound_ready(true);
    health.set_ready(true);
    let state = ApiState::new(Api {
        app_id: APP.into(),
        registry: Arc::new(Current::new(Registry::for_app(&components, APP, ""))),
        api_token: None,
        max_body: MAX_BODY,
        health,
        described: Arc::default(),
        components: Vec::new(),
        app: http::metadata::AppConnection::default(),
        shutdown: Stopper::default(),
    });
    let observer = Observer { calls: Arc::new(Calls::default()), app: APP.into(), log: false };
    Ok(http::router(state).layer(axum::middleware::from_fn_with_state(observer, observe)))
}

async fn serve(router: Router) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    // The task ends with the runtime.
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// A pub/sub component that stores nothing.
struct NullPubSub;

impl Component for NullPubSub {}

#[async_trait]
impl PubSub for NullPubSub {
    fn features(&self) -> PubSubFeatures {
        PubSubFeatures::default()
    }

    async fn publish(&self, _: &str, _: Vec<Outgoing>) -> std::result::Result<(), PublishError> {
        Ok(())
    }

    async fn subscribe(
        &self,
        _: SubscribeSpec,
    ) -> std::result::Result<Arc<dyn Subscription>, Refusal> {
        Err(Refusal::other("nothing ever comes"))
    }
}
