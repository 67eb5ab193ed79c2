//! The components under test.

use std::sync::Arc;
use std::thread;

use blocks::pubsub::complete;
use components::clock::{Clock, ManualClock, Reading};
use components::metadata::Setting;
use components::port::pubsub::{
    Order, Outgoing, PubSub, PubSubFeatures, SubscribeSpec, Subscription,
};
use components::port::state::StateStore;
use components::registry::{Constructor, TYPES};
use components::stop::Stopper;
use components::{Built, Context, Embedded, Metadata};
use config::model::Origin;
use store_forward::disk::MemoryDisk;
use store_forward::limits::Limits;
use store_forward::store::Options;
use tests::fake_broker::FakeBroker;
use tests::in_time;
use tokio::task::JoinHandle;

use crate::recorder::Recorder;

/// The settings by which a component of each type is built for the suite.
const SETTINGS: &[Settings] = &[
    Settings { kind: "state.redb", metadata: &[] },
    Settings { kind: "state.in-memory", metadata: &[("maxBytes", "16Mi")] },
    Settings { kind: "pubsub.redb", metadata: &[] },
    Settings { kind: "pubsub.in-memory", metadata: &[("maxBytes", "16Mi")] },
];

struct Settings {
    kind: &'static str,
    metadata: &'static [(&'static str, &'static str)],
}

/// The name of every component under test: its namespace in a store.
const NAME: &str = "subject";

/// The environment variable that sets the fake broker's seed, to repeat a failure.
const SEED: &str = "FAKE_BROKER_SEED";

/// A device that components are built on.
struct Device {
    disk: Arc<MemoryDisk>,
    clock: ManualClock,
    embedded: Embedded,
}

impl Device {
    fn new() -> Self {
        let now = Reading { wall_ms: 1_800_000_000_000, up_ms: 5_000, believed: true };
        Self::on(Arc::default(), ManualClock::new(now, "boot"))
    }

    fn on(disk: Arc<MemoryDisk>, clock: ManualClock) -> Self {
        let embedded = Embedded::new(Options::default(), disk.clone(), Arc::new(clock.clone()));
        Self { disk, clock, embedded }
    }

    async fn build(&self, kind: &str) -> Built {
        let Some(settings) = SETTINGS.iter().find(|settings| settings.kind == kind) else {
            panic!(
                "the suite has no settings for the component type {kind}: add a line to SETTINGS in {}",
                file!()
            )
        };
        let metadata = settings.metadata.iter().map(|(name, value)| Setting::new(*name, *value, 1));
        let context = Context {
            name: NAME.to_owned(),
            metadata: Metadata::new(NAME, &Origin::default(), metadata),
            embedded: self.embedded.clone(),
            limits: Limits::default(),
        };
        components::build(kind, context).await.unwrap()
    }

    async fn close(&self) {
        if let Some(store) = self.embedded.opened() {
            store.close().await;
        }
    }
}

/// A pub/sub component under test.
pub(crate) struct PubSubSubject {
    kind: SubjectKind,
    device: Device,
    pub(crate) component: Arc<dyn PubSub>,
}

/// The origin of a pub/sub component under test.
#[derive(Clone, Copy)]
enum SubjectKind {
    /// The table.
    Type(&'static str),
    /// The suite, by its seed.
    FakeBroker(u64),
}

/// A subscription that runs.
pub(crate) struct RunningSubscription {
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl PubSubSubject {
    async fn build(kind: SubjectKind, device: Device) -> Self {
        let component = match kind {
            SubjectKind::FakeBroker(seed) => {
                Arc::new(FakeBroker::new(NAME, seed, Arc::new(device.clock.clone())))
            }
            SubjectKind::Type(kind) => match device.build(kind).await {
                Built::PubSub(component) => component,
                _ => panic!("{kind} is not built as a pub/sub component"),
            },
        };
        Self { kind, device, component }
    }

    pub(crate) fn features(&self) -> PubSubFeatures {
        self.component.features()
    }

    /// Tells whether messages are kept for a consumer while it doesn't run.
    pub(crate) fn keeps_a_backlog(&self) -> bool {
        self.features().durable || self.component.backlog().is_some()
    }

    /// Lets time pass.
    pub(crate) fn advance(&self, seconds: u64) {
        self.device.clock.advance(std::time::Duration::from_secs(seconds));
    }

    /// Publishes texts to a topic, all at once.
    pub(crate) async fn publish(&self, topic: &str, texts: &[&str]) {
        let message =
            |text: &&str| Outgoing { data: text.as_bytes().to_vec(), ..Outgoing::default() };
        self.publish_messages(topic, texts.iter().map(message).collect()).await;
    }

    pub(crate) async fn publish_messages(&self, topic: &str, messages: Vec<Outgoing>) {
        let clock = &self.device.clock;
        complete::publish(&*self.component, topic, messages, clock).await.unwrap();
    }

    /// Registers a subscription, completed by the building block.
    pub(crate) async fn register(&self, spec: SubscribeSpec) -> Arc<dyn Subscription> {
        let clock: Arc<dyn Clock> = Arc::new(self.device.clock.clone());
        complete::subscribe(&self.component, NAME, spec, &clock).await.unwrap()
    }

    /// Registers a subscription and runs it.
    pub(crate) async fn subscribe(
        &self,
        spec: SubscribeSpec,
        recorder: &Arc<Recorder>,
    ) -> RunningSubscription {
        let subscription = self.register(spec).await;
        let stopper = Stopper::default();
        let task = tokio::spawn(subscription.run(recorder.clone(), stopper.subscribe()));
        RunningSubscription { stopper, task }
    }

    /// Closes the component and its device, and builds both anew from the same disk.
    pub(crate) async fn restart(&mut self) {
        self.close().await;
        let Device { disk, clock, .. } = &self.device;
        let device = Device::on(disk.clone(), clock.clone());
        *self = Self::build(self.kind, device).await;
    }

    async fn close(&self) {
        in_time("a component closes", self.component.close()).await;
        self.device.close().await;
    }
}

impl RunningSubscription {
    pub(crate) fn request_stop(&self) {
        self.stopper.request();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops the subscription, and waits for its end.
    pub(crate) async fn stop(self) {
        self.request_stop();
        in_time("a subscription ends after a stop", self.task).await.unwrap();
    }
}

/// Returns a specification for messages of one topic, one after the other.
pub(crate) fn to(topic: &str) -> SubscribeSpec {
    SubscribeSpec {
        consumer: format!("app/app/{NAME}/{topic}"),
        filters: vec![topic.to_owned()],
        order: Order::Stream,
        batch: None,
        attempts: None,
        dead_letter: None,
        read_ahead: Arc::default(),
    }
}

/// Runs a case on each pub/sub component, each on a thread of its name.
pub(crate) fn each_pubsub(case: impl AsyncFn(&mut PubSubSubject) + Sync) {
    let seed = std::env::var(SEED).ok().map(|seed| seed.parse().expect(SEED));
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let of_table = TYPES.iter().filter(|known| matches!(known.build, Constructor::PubSub(_)));
    let of_table = of_table.map(|known| (known.kind.to_owned(), SubjectKind::Type(known.kind)));
    let fake = (format!("the fake broker ({SEED}={seed})"), SubjectKind::FakeBroker(seed));
    each(of_table.chain([fake]), async |kind| {
        let mut subject = PubSubSubject::build(kind, Device::new()).await;
        case(&mut subject).await;
        subject.close().await;
    });
}

/// Runs a case on each state store, each on a thread of its name.
pub(crate) fn each_state_store(case: impl AsyncFn(&StateSubject) + Sync) {
    let stores = TYPES.iter().filter(|known| matches!(known.build, Constructor::State(_)));
    each(stores.map(|known| (known.kind.to_owned(), known.kind)), async |kind| {
        let device = Device::new();
        let Built::State(store) = device.build(kind).await else {
            panic!("{kind} is not built as a state store")
        };
        let clock = device.clock.clone();
        case(&StateSubject { store: Arc::clone(&store), clock }).await;
        in_time("a component closes", store.close()).await;
        device.close().await;
    });
}

/// A state store under test.
pub(crate) struct StateSubject {
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) clock: ManualClock,
}

/// Runs a case on each subject, and fails with the names of those that it fails on.
fn each<K: Send>(subjects: impl Iterator<Item = (String, K)>, case: impl AsyncFn(K) + Sync) {
    let case = &case;
    let failed: Vec<String> = thread::scope(|scope| {
        let run = |(name, kind): (String, K)| {
            let thread = thread::Builder::new().name(name.clone());
            let running = thread.spawn_scoped(scope, move || block_on(case(kind))).unwrap();
            (name, running)
        };
        let running: Vec<_> = subjects.map(run).collect();
        let ended = running.into_iter().map(|(name, running)| (name, running.join()));
        ended.filter(|(_, end)| end.is_err()).map(|(name, _)| name).collect()
    });
    assert!(failed.is_empty(), "the case {} fails on: {}", case_name(), failed.join(", "));
}

fn block_on(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(in_time("the case ends", case));
}

/// The test's name, which the test runner gives its thread.
fn case_name() -> String {
    thread::current().name().unwrap_or("of a nameless thread").to_owned()
}

#[test]
fn every_type_of_the_table_has_settings_and_a_suite() {
    for known in TYPES {
        let has_suite = matches!(known.build, Constructor::PubSub(_) | Constructor::State(_));
        assert!(
            has_suite,
            "no suite tests the building block of {}: add a module with its cases beside {}",
            known.kind,
            file!()
        );
        assert!(
            SETTINGS.iter().any(|settings| settings.kind == known.kind),
            "the suite has no settings for {}: add a line to SETTINGS in {}",
            known.kind,
            file!()
        );
    }
}
