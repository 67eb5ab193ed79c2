//! Tests of the connection with a real Mosquitto on a loopback port.

#![allow(clippy::unwrap_used)]

pub(super) mod broker;
pub(super) mod components;

use config::model::{Format, MqttUplink, MqttVersion, Route};
use futures_util::stream::{FuturesOrdered, StreamExt};
use store_forward::consumer::{Delivery, Message, Outcome, Sink};
use store_forward::ids::{Epoch, NodeId, Sequence, StreamId};
use store_forward::record::{Timestamp, Topic};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::uplink::status::UplinkStatus;
use broker::{Authority, Broker, Gate, Observer};
use components::FakeComponents;

/// Messages that a test sends: many windows of them.
const MESSAGES: u64 = 400;

struct Running {
    sink: Arc<UplinkSink>,
    status: Arc<UplinkStatus>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
    }

    async fn error_naming(&self, text: &str) {
        loop {
            let error = self.status.snapshot().last_error;
            if error.is_some_and(|error| error.text.contains(text)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Starts an uplink without downlinks.
fn start(spec: MqttUplink) -> Running {
    start_with(spec, Vec::new(), FakeComponents::default())
}

fn start_with(
    spec: MqttUplink,
    targets: Vec<DownlinkTarget>,
    components: FakeComponents,
) -> Running {
    let components = Arc::new(components);
    let (lane, lanes) = watch::channel(None);
    let status = Arc::new(UplinkStatus::new("up", &spec.host, spec.port));
    let route = Route {
        pubsub: "pubsub".into(),
        topic: "#".into(),
        to: "up/{topic}".into(),
        format: Format::Raw,
        retain: false,
    };
    let encoder = Encoder {
        identity: Identity { node: NodeId("n1".into()), epoch: Epoch(7) },
        routes: vec![route],
        components: components.clone(),
    };
    let downlinks = Downlinks { uplink: "up".into(), node: "n1".into(), targets, components };
    let backoff = Backoff {
        initial: Duration::from_millis(10),
        max: Duration::from_millis(50),
        ..Backoff::default()
    };
    let connector = Connector {
        name: "up".into(),
        tls: Arc::new(ClientConfigs::new(TlsFiles::of(&spec))),
        spec,
        client_id: format!("n1-up-{}", fastrand::u64(..)),
        window: 50,
        backoff,
        downlinks,
        lane,
        status: Arc::clone(&status),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(connector.run(async move {
        let _ = stopped.await;
    }));
    let sink = Arc::new(UplinkSink::new("up", lanes, encoder, Arc::clone(&status)));
    Running { sink, status, stop, task }
}

fn target(to: &str) -> DownlinkTarget {
    DownlinkTarget { filter: "down/+".into(), pubsub: "pubsub".into(), to: to.into() }
}

fn delivery(number: u64) -> Delivery {
    Delivery {
        topic: Topic::new("pubsub", "t"),
        stream: StreamId(1),
        attempt: 1,
        message: Message {
            sequence: Sequence(number),
            at: Timestamp::default(),
            expires_in_ms: None,
            content_type: None,
            attributes: Vec::new(),
            key: None,
            priority: 0,
            data: number.to_string().into_bytes(),
        },
    }
}

/// Sends a message as soon as there is a slot.
async fn send(sink: &Arc<UplinkSink>, delivery: Delivery) -> Vec<Outcome> {
    let slot = sink.ready().await;
    Arc::clone(sink).deliver(slot, vec![delivery]).await
}

/// Sends 1 to `last` as a consumer does: a window at a time, and after a failed link everything
/// from the first that is not acknowledged.
async fn send_all(sink: &Arc<UplinkSink>, last: u64) {
    let mut first = 1;
    while first <= last {
        let generation = sink.ready().await.generation;
        let mut flight = FuturesOrdered::new();
        let mut next = first;
        let mut down = false;
        loop {
            while !down && next <= last {
                let Some(slot) = sink.ready().now_or_never() else { break };
                if slot.generation != generation {
                    break;
                }
                flight.push_back(Arc::clone(sink).deliver(slot, vec![delivery(next)]));
                next += 1;
            }
            match flight.next().await.as_deref() {
                Some([Outcome::Ack]) if !down => first += 1,
                Some([Outcome::Ack]) => {}
                Some([Outcome::Unreachable(_)]) => down = true,
                Some(other) => panic!("{other:?}"),
                None => break,
            }
        }
    }
}

async fn order_holds_across_a_broken_broker(version: MqttVersion) {
    let broker = Broker::start(None);
    let gate = Gate::open(broker.port).await;
    let mut observer = Observer::subscribe(broker.port, "up/#").await;
    let uplink = start(broker::spec(gate.port, version));
    let sink = Arc::clone(&uplink.sink);
    let sending = tokio::spawn(async move { send_all(&sink, MESSAGES).await });

    let mut seen = Vec::new();
    while seen.len() < 60 {
        seen.push(observer.next().await);
    }
    gate.shut();
    broker.kill();
    seen.extend(observer.rest_until_gone().await);
    let broker = Broker::start(Some(gate.behind));
    let mut observer = Observer::subscribe(broker.port, "up/#").await;
    gate.reopen();
    let mut again = Vec::new();
    while again.last() != Some(&MESSAGES) {
        again.push(observer.next().await);
    }
    sending.await.unwrap();

    assert!(again.is_sorted(), "{again:?}");
    let resumed_at = again[0];
    assert!(resumed_at > 1, "what was acknowledged is not sent again");
    assert!(again.iter().copied().eq(resumed_at..=MESSAGES), "{again:?}");
    assert!(seen.iter().copied().eq(1..=seen.len() as u64), "{seen:?}");
    let status = uplink.status.snapshot();
    assert!(status.connected && status.in_flight == 0, "{status:?}");
    assert!(status.last_error.is_some());
    uplink.stop().await;
}

#[tokio::test]
async fn order_holds_with_mqtt_5_when_the_broker_is_killed_within_a_window() {
    order_holds_across_a_broken_broker(MqttVersion::V5).await;
}

#[tokio::test]
async fn order_holds_with_mqtt_311_when_the_broker_is_killed_within_a_window() {
    order_holds_across_a_broken_broker(MqttVersion::V311).await;
}

#[tokio::test]
async fn a_message_over_the_brokers_maximum_is_held_and_the_next_one_goes_out() {
    let broker = Broker::start_with("max_packet_size 2000\n");
    let uplink = start(broker::spec(broker.port, MqttVersion::V5));
    let mut large = delivery(1);
    large.message.data = vec![b'x'; 3000];
    let outcome = send(&uplink.sink, large).await;
    let [Outcome::Hold(reason)] = outcome.as_slice() else { panic!("{outcome:?}") };
    assert!(reason.contains("2000") && reason.contains("bytes"), "{reason}");
    let outcome = send(&uplink.sink, delivery(2)).await;
    assert_eq!(outcome, [Outcome::Ack]);
    assert_eq!(uplink.status.snapshot().acknowledged, 1);
    uplink.stop().await;
}

#[tokio::test]
async fn a_broker_that_takes_more_than_the_one_before_is_told_to_the_consumer() {
    let broker = Broker::start_with("max_packet_size 2000\n");
    let gate = Gate::open(broker.port).await;
    let uplink = start(broker::spec(gate.port, MqttVersion::V5));
    let mut large = delivery(1);
    large.message.data = vec![b'x'; 3000];
    let outcome = send(&uplink.sink, large.clone()).await;
    assert!(matches!(outcome.as_slice(), [Outcome::Hold(_)]), "{outcome:?}");
    assert!(uplink.sink.roomier().now_or_never().is_none());
    gate.shut();
    broker.kill();
    let _broker = Broker::start(Some(gate.behind));
    gate.reopen();
    uplink.sink.roomier().await;
    assert_eq!(send(&uplink.sink, large).await, [Outcome::Ack]);
    uplink.stop().await;
}

#[tokio::test]
async fn a_message_that_the_broker_refuses_as_too_large_without_a_limit_is_held() {
    let broker = Broker::start_with("message_size_limit 1000\n");
    let uplink = start(broker::spec(broker.port, MqttVersion::V5));
    let mut large = delivery(2);
    large.message.data = vec![b'x'; 3000];
    let flight = [delivery(1), large, delivery(3)].map(|delivery| send(&uplink.sink, delivery));
    let outcomes = futures_util::future::join_all(flight).await;
    assert_eq!(outcomes[0], [Outcome::Ack]);
    let [Outcome::Hold(reason)] = outcomes[1].as_slice() else { panic!("{outcomes:?}") };
    assert!(reason.contains("too large"), "{reason}");
    if outcomes[2] != [Outcome::Ack] {
        assert_eq!(send(&uplink.sink, delivery(3)).await, [Outcome::Ack]);
    }
    assert!(uplink.sink.roomier().now_or_never().is_none(), "the same broker takes no more");
    uplink.stop().await;
}

#[tokio::test]
async fn a_refusal_by_the_broker_is_a_retry_with_its_reason_and_the_connection_stands() {
    let rules = TempDir::new().unwrap();
    let file = rules.path().join("acl");
    std::fs::write(&file, "topic write up/t\n").unwrap();
    let broker = Broker::start_with(&format!("acl_file {}\n", file.display()));
    let uplink = start(broker::spec(broker.port, MqttVersion::V5));
    let mut forbidden = delivery(1);
    forbidden.topic.name = "forbidden".into();
    let outcome = send(&uplink.sink, forbidden).await;
    let [Outcome::Retry(reason)] = outcome.as_slice() else { panic!("{outcome:?}") };
    assert!(reason.contains("not authorized"), "{reason}");
    let outcome = send(&uplink.sink, delivery(2)).await;
    assert_eq!(outcome, [Outcome::Ack]);
    uplink.stop().await;
}

#[tokio::test]
async fn a_message_that_never_fits_is_acknowledged_and_does_not_hold_up_the_next() {
    let broker = Broker::start(None);
    let (published, mut records) = mpsc::unbounded_channel();
    let components = FakeComponents { payload_max: 10, published, ..FakeComponents::default() };
    let spec = broker::spec(broker.port, MqttVersion::V311);
    let uplink = start_with(spec, vec![target("{topic}")], components);
    uplink.sink.ready().await;
    broker::publish(broker.port, "down/a", b"much too large", "text/plain").await;
    broker::publish(broker.port, "down/a", b"small", "text/plain").await;
    let record = records.recv().await.unwrap();
    assert!(matches!(&record[..], [arrival] if arrival.message.data == b"small"), "{record:?}");
    let error = uplink.status.snapshot().last_error;
    assert!(error.is_none_or(|error| !error.text.contains("committed")), "the link was kept");
    uplink.stop().await;
}

#[tokio::test]
async fn nothing_goes_out_with_a_slot_of_an_earlier_connection() {
    let broker = Broker::start(None);
    let gate = Gate::open(broker.port).await;
    let uplink = start(broker::spec(gate.port, MqttVersion::V5));
    let early = uplink.sink.ready().await;
    let first = early.generation;
    gate.shut();
    let mut lane = uplink.sink.lane.clone();
    assert!(lane.wait_for(Option::is_none).await.is_ok());
    gate.reopen();
    let late = uplink.sink.ready().await;
    assert!(late.generation > first);
    let outcome = Arc::clone(&uplink.sink).deliver(early, vec![delivery(1)]).await;
    assert!(matches!(outcome.as_slice(), [Outcome::Unreachable(_)]), "{outcome:?}");
    let outcome = Arc::clone(&uplink.sink).deliver(late, vec![delivery(1)]).await;
    assert_eq!(outcome, [Outcome::Ack]);
    uplink.stop().await;
}

#[tokio::test]
async fn slots_are_as_many_as_the_window_and_come_back_with_the_outcomes() {
    let broker = Broker::start(None);
    let uplink = start(broker::spec(broker.port, MqttVersion::V5));
    let mut slots = vec![uplink.sink.ready().await];
    while let Some(slot) = uplink.sink.ready().now_or_never() {
        slots.push(slot);
    }
    let lane = uplink.sink.lane.borrow().clone().unwrap();
    assert_eq!(slots.len(), lane.window);
    let slot = slots.remove(0);
    let outcome = Arc::clone(&uplink.sink).deliver(slot, vec![delivery(1)]).await;
    assert_eq!(outcome, [Outcome::Ack]);
    assert!(uplink.sink.ready().now_or_never().is_some());
    uplink.stop().await;
}

#[tokio::test]
async fn a_wrong_authority_is_reported_and_retried_until_the_file_is_right() {
    let authority = Authority::new("right");
    let broker = Broker::start_tls(&authority);
    let mut spec = broker::spec(broker.port, MqttVersion::V5);
    spec.tls = true;
    let trusted = authority.dir.join("trusted.pem");
    std::fs::copy(Authority::new("wrong").ca(), &trusted).unwrap();
    spec.ca_cert = Some(trusted.clone());
    spec.client_cert = Some(authority.dir.join("client.pem"));
    spec.client_key = Some(authority.dir.join("client.key"));
    let uplink = start(spec);
    uplink.error_naming("certificate").await;
    assert!(!uplink.task.is_finished() && !uplink.status.snapshot().connected);

    std::fs::copy(authority.ca(), &trusted).unwrap();
    uplink.sink.ready().await;
    let outcome = send(&uplink.sink, delivery(1)).await;
    assert_eq!(outcome, [Outcome::Ack]);
    uplink.stop().await;
}

#[tokio::test]
async fn a_message_that_is_not_committed_is_sent_again_by_the_broker() {
    let broker = Broker::start(None);
    let (published, mut records) = mpsc::unbounded_channel();
    let failing = FakeComponents::failing_first(store_forward::Error::Closed);
    let components = FakeComponents { published, ..failing };
    let spec = broker::spec(broker.port, MqttVersion::V5);
    let uplink = start_with(spec, vec![target("commands/{topic}")], components);
    uplink.sink.ready().await;
    broker::publish(broker.port, "down/a", b"reboot", "text/plain").await;
    let record = records.recv().await.unwrap();
    let [arrival] = record.as_slice() else { panic!("{record:?}") };
    assert_eq!(arrival.topic, Topic::new("pubsub", "commands/down/a"));
    assert_eq!(arrival.message.content_type.as_deref(), Some("text/plain"));
    assert_eq!(arrival.message.data, b"reboot");
    uplink.error_naming("can't be committed").await;
    uplink.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_away_at_the_start_is_no_error() {
    let port = broker::free_port();
    let uplink = start(broker::spec(port, MqttVersion::V5));
    uplink.error_naming("refused").await;
    let _broker = Broker::start(Some(port));
    uplink.sink.ready().await;
    uplink.stop().await;
}
