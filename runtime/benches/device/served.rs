//! The API served within this process, so that requests to its disk can be counted, and its store left
//! out.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::serve::ListenerExt;
use blocks::state::StateStores;
use components::{PubSub, Refusal, SubscribeSpec};
use runtime::api::http::health::Health;
use runtime::api::http::{self, Api, ApiState, Blocks};
use runtime::assemble::{Ground, load};
use runtime::metrics::{Calls, Observer, observe};
use runtime::pubsub::{Entry, PubSubBlock};
use store_forward::clock::{Clock, OsClock};
use store_forward::limits::Limits;
use store_forward::record::{ConsumerSpec, NewMessage};
use store_forward::store::Options;
use store_forward::{Consumer, Store};
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
        let store = Store::open(options, Arc::new(disk), Arc::clone(&clock))?;
        let ground = Ground {
            store: store.clone(),
            limits,
            clock,
            app_id: APP.to_owned(),
            namespace: String::new(),
        };
        let router = runtime.block_on(router(&ground))?;
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
async fn router(ground: &Ground) -> Result<Router> {
    let none = config::model::Resources::default();
    let mut loaded = load(&none, ground).await.map_err(|problems| problems.join("\n"))?;
    let entry = Entry {
        component: Arc::new(NullPubSub),
        identity: ground.store.identity().clone(),
        topics: runtime::pubsub::scope::TopicScopes::default(),
        apps: Vec::new(),
        max_topic_bytes: ground.limits.max_topic_bytes,
    };
    loaded.pubsub.insert(NOTHING.into(), entry);
    let health = Arc::new(Health::default());
    health.set_outbound_ready(true);
    health.set_ready(true);
    let state = ApiState::new(Api {
        app_id: APP.into(),
        blocks: Blocks { state: StateStores::for_app(&loaded.state, APP, &ground.namespace) },
        pubsub: Arc::new(PubSubBlock::new(loaded.pubsub)),
        api_token: None,
        max_body: MAX_BODY,
        health,
        described: Arc::default(),
        components: Vec::new(),
        app: http::metadata::AppConnection::default(),
        shutdown: tokio::sync::watch::channel(false).0,
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

#[async_trait]
impl PubSub for NullPubSub {
    async fn publish(&self, _: Vec<(String, NewMessage)>) -> Result<(), Refusal> {
        Ok(())
    }

    async fn subscribe(&self, _: SubscribeSpec) -> Result<Consumer, Refusal> {
        Err(Refusal::Other("nothing ever comes".into()))
    }

    async fn unsubscribe(&self, _: &str) -> Result<bool, Refusal> {
        Ok(true)
    }

    fn consumers(&self) -> Vec<ConsumerSpec> {
        Vec::new()
    }
}
