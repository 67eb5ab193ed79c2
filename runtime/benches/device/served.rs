//! The API served within this process, so that requests to its disk can be counted, and its store left
//! out.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::serve::ListenerExt;
use blocks::registry::TopicScopes;
use blocks::registry::{Current, PubSubComponent, Registry};
use components::port::Component;
use components::port::pubsub::{
    Epoch, Identity, NodeId, Outgoing, PubSub, PubSubFeatures, PublishError, SubscribeSpec,
    Subscription,
};
use components::stop::Stopper;
use components::{Embedded, Refusal};
use runtime::api::http::health::Health;
use runtime::api::http::{self, Api, ApiState, HttpApi};
use runtime::api::stack::{Guard, Stack};
use runtime::assemble::{AssemblyContext, assemble};
use runtime::metrics::{Calls, Observer};
use runtime::serve::{self, Connections};
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
const MAX_CONNECTIONS: usize = 1024;

/// A store in a directory, and the API over it.
pub(crate) struct Served {
    runtime: Runtime,
    store: Store,
    stopper: Stopper,
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
        let context =
            AssemblyContext { embedded, limits, app_id: APP.to_owned(), namespace: String::new() };
        let stopper = Stopper::default();
        let service = runtime.block_on(service(&context))?;
        let address = runtime.block_on(serve(service, &stopper))?;
        Ok(Self { runtime, store, stopper, counts, address })
    }

    /// Returns the counts of its disk, which go on changing.
    pub(crate) fn counts(&self) -> Arc<DiskCounts> {
        Arc::clone(&self.counts)
    }

    /// Writes a checkpoint and stops.
    pub(crate) fn stop(self) {
        self.stopper.request();
        self.runtime.block_on(self.store.close());
        self.runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

/// Creates the API for one app, as the program does.
async fn service(context: &AssemblyContext) -> Result<Stack<HttpApi>> {
    let none = config::model::Resources::default();
    let mut components = assemble(&none, context).await?.components;
    let nothing = PubSubComponent {
        name: NOTHING.to_owned(),
        component: Arc::new(NullPubSub),
        identity: Identity { node: NodeId(APP.to_owned()), epoch: Epoch(1) },
        topics: TopicScopes::default(),
        apps: Vec::new(),
        max_topic_bytes: context.limits.max_topic_bytes,
        clock: Arc::clone(context.embedded.clock()),
    };
    components.pubsub.insert(NOTHING.into(), Arc::new(nothing));
    let health = Arc::new(Health::default());
    health.set_outbound_ready(true);
    health.set_ready(true);
    let state = ApiState::new(Api {
        app_id: APP.into(),
        registry: Arc::new(Current::new(Registry::for_app(&components, APP, ""))),
        health,
        described: Arc::default(),
        components: Vec::new(),
        app: http::metadata::AppConnection::default(),
        shutdown: Stopper::default(),
    });
    let observer = Observer { calls: Arc::new(Calls::default()), app: APP.into(), log: false };
    let guard = Guard { api_token: None, max_body: MAX_BODY, observer };
    Ok(http::service(state, guard))
}

async fn serve(service: Stack<HttpApi>, stopper: &Stopper) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let connections = Arc::new(Connections::new(MAX_CONNECTIONS));
    tokio::spawn(serve::serve(listener, service, connections, stopper.subscribe()));
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
