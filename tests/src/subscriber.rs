use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{Client, Connection, Event, MqttOptions};

use crate::wait::PATIENCE;

/// Between two tries to reach a broker that is down.
const RECONNECT: Duration = Duration::from_millis(50);

/// Bytes of a message at most.
const MAX_PACKET: u32 = 1 << 20;

/// A message as the broker sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// The user properties.
    pub properties: Vec<(String, String)>,
}

impl Received {
    /// A user property.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn property(&self, name: &str) -> &str {
        let found = self.properties.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("{self:?} has no user property {name}")).1
    }
}

/// A client with a session that the broker keeps, so that it misses nothing.
pub struct Subscriber {
    client: Client,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
}

#[derive(Default)]
struct State {
    subscribed: bool,
    received: Vec<Received>,
}

impl Subscriber {
    /// Connects to the broker at that port of loopback, and waits until the subscription stands.
    ///
    /// # Panics
    /// When it never does.
    #[must_use]
    pub fn start(port: u16, filter: &str) -> Self {
        let mut options = MqttOptions::new("tests-subscriber", "127.0.0.1", port);
        options.set_clean_start(false);
        options.set_session_expiry_interval(Some(3600));
        options.set_max_packet_size(Some(MAX_PACKET));
        let (client, connection) = Client::new(options, 100);
        let shared = Arc::new(Shared::default());
        let subscriber = Self { client: client.clone(), shared: Arc::clone(&shared) };
        let filter = filter.to_owned();
        thread::spawn(move || collect(connection, &client, &filter, &shared));
        let subscribed = subscriber.wait_while(|state| !state.subscribed).subscribed;
        assert!(subscribed, "the broker has not answered the subscription");
        subscriber
    }

    /// Publishes a message that the broker keeps for those who subscribe later.
    ///
    /// # Panics
    /// When the client has ended.
    pub fn publish_retained(&self, topic: &str, payload: &str) {
        let payload = payload.as_bytes().to_vec();
        self.client.publish(topic, QoS::AtLeastOnce, true, payload).expect("the client runs");
    }

    /// Publishes a message.
    ///
    /// # Panics
    /// When the client has ended.
    pub fn publish(&self, topic: &str, payload: &[u8]) {
        self.client
            .publish(topic, QoS::AtLeastOnce, false, payload.to_vec())
            .expect("the client runs");
    }

    /// Publishes a message of that many bytes.
    ///
    /// # Panics
    /// When the client has ended.
    pub fn publish_bytes(&self, topic: &str, bytes: usize) {
        self.publish(topic, &vec![b'x'; bytes]);
    }

    /// Waits until what was received is enough, and returns all of it, in order.
    ///
    /// # Panics
    /// When it never is.
    #[must_use]
    pub fn wait_for(&self, what: &str, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let received = self.wait_while(|state| !enough(&state.received)).received.clone();
        assert!(enough(&received), "of {what} only {} messages came", received.len());
        received
    }

    /// Waits for as long as something comes within [`PATIENCE`].
    fn wait_while(&self, condition: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.shared.lock();
        loop {
            let before = state.received.len();
            let waited =
                self.shared.changed.wait_timeout_while(state, PATIENCE, |state| condition(state));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !condition(&state) || state.received.len() == before {
                return state;
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        let _ = self.client.try_disconnect();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

fn collect(mut connection: Connection, client: &Client, filter: &str, shared: &Shared) {
    for event in connection.iter() {
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let _ = client.try_subscribe(filter, QoS::AtLeastOnce);
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => {
                shared.change(|state| state.subscribed = true)
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                shared.change(|state| state.received.push(received(publish)));
            }
            Ok(_) => {}
            Err(_) => thread::sleep(RECONNECT),
        }
    }
}

fn received(publish: Publish) -> Received {
    let Publish { topic, payload, properties, .. } = publish;
    Received {
        topic: String::from_utf8_lossy(&topic).into_owned(),
        payload: payload.to_vec(),
        properties: properties.unwrap_or_default().user_properties,
    }
}
