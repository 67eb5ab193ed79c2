//! Opens the connection to the broker, uses it until the first error, and opens it again.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use config::model::MqttUplink;
use store_forward::backoff::Backoff;
use store_forward::consumer::Outcome;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::acks::Acks;
use super::downlink::Downlinks;
use super::failure::{LinkError, Peer};
use super::outage::{ConnectionFailure, Outage, Outages};
use super::session::{
    BrokerCapabilities, ClientStalled, Inbound, Login, Session, SessionClient, SessionEvent,
    SessionEvents, SessionOptions, UNACKED_MAX,
};
use super::sink::{Lane, Pending};
use super::subscriptions::{SubscriptionRequest, Subscriptions};
use crate::secret::reveal;
use crate::text;
use crate::tls::ClientConfigs;
use crate::uplink::status::UplinkStatus;

/// Bytes a second that even the slowest link moves. Bounds the time to write a large packet.
const SLOWEST_LINK: u64 = 1024;
/// Time to write the DISCONNECT.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections in a row that the broker closed with messages sent and none answered, after which one
/// message at a time is sent: a broker may close the connection on a message instead of refusing it.
const ALONE_AFTER: u32 = 3;
/// Such connections in a row after which the message that was alone on the last one is held.
const HOLD_AFTER: u32 = 5;

/// Keeps one connection to a broker.
pub(super) struct Connector {
    pub(super) name: String,
    pub(super) spec: MqttUplink,
    pub(super) client_id: String,
    pub(super) window: u16,
    pub(super) backoff: Backoff,
    pub(super) downlinks: Downlinks,
    pub(super) lane: watch::Sender<Option<Lane>>,
    pub(super) status: Arc<UplinkStatus>,
    pub(super) tls: Arc<ClientConfigs>,
}

/// The state of one connection.
struct Connection {
    client: Arc<dyn SessionClient>,
    terms: BrokerCapabilities,
    acks: Acks<Unanswered>,
    /// Bytes of the packets that are handed over and not written.
    unwritten: usize,
    queue: mpsc::UnboundedReceiver<Pending>,
    lane: Lane,
    inbox: mpsc::Sender<Inbound>,
    answered: u64,
    subscriptions: Subscriptions,
    /// Connections in a row, before this one, that the broker closed without answering a message.
    unanswered: u32,
}

/// A message that was handed to the client library.
struct Unanswered {
    done: oneshot::Sender<Outcome>,
    /// Bytes of its packet.
    bytes: usize,
}

/// Files and secrets that a connection is opened with.
struct Credentials {
    tls: Option<Arc<rustls::ClientConfig>>,
    login: Option<Login>,
}

impl Connector {
    /// Connects, again and again, until `stop` resolves.
    pub(super) async fn run(self, stop: impl Future<Output = ()> + Send) {
        let mut stop = pin!(stop);
        let peer = Peer::new(&self.spec, &self.client_id);
        let mut outages = Outages::new(self.backoff.max);
        for generation in 1.. {
            let began = Instant::now();
            let ended = self.once(generation, outages.unanswered(), stop.as_mut()).await;
            self.lane.send_replace(None);
            self.status.connected(false);
            let Err(outage) = ended else { return };

            outages.record(&outage, began.elapsed());
            let delay = self.backoff.delay(outages.failures(), fastrand::f64());
            let error = outages.describe(&outage.failure, &peer);
            let retry_in = text::duration(delay);
            tracing::warn!(uplink = self.name, error, retry_in, "uplink is down");
            self.status.failed(error);
            tokio::select! {
                () = stop.as_mut() => return,
                () = sleep(delay) => {}
            }
        }
    }

    /// Runs one connection from its start to its end. `unanswered` connections in a row, before
    /// this one, were closed without answering a message.
    async fn once(
        &self,
        generation: u64,
        unanswered: u32,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Outage> {
        let (Session { client, mut events }, terms) = tokio::select! {
            () = stop.as_mut() => return Ok(()),
            opened = self.open() => opened?,
        };

        // With one message at a time, the one that the broker closes the connection on is known.
        let window = if unanswered >= ALONE_AFTER { 1 } else { self.window };
        let window = usize::from(window.min(terms.receive_max).max(1));
        let (inbox, arrived) = mpsc::channel(usize::from(UNACKED_MAX));
        let (queue, queued) = mpsc::unbounded_channel();
        let lane = Lane {
            generation,
            queue,
            version: self.spec.version,
            window,
            slots: Arc::new(Semaphore::new(window)),
            packet_max: terms.packet_max,
            retain: terms.retain,
        };
        let mut connection = Connection {
            subscriptions: Subscriptions::new(self.downlinks.filters(), terms.subscription_ids),
            client: Arc::clone(&client),
            terms,
            acks: Acks::new(),
            unwritten: 0,
            queue: queued,
            lane,
            inbox,
            answered: 0,
            unanswered,
        };

        let ended = tokio::select! {
            () = stop => Ok(()),
            ended = self.downlinks.run(arrived, client.as_ref(), &self.status) => {
                ended.map_err(ConnectionFailure::from)
            }
            ended = self.pump(&mut connection, events.as_mut()) => ended,
        };
        if ended.is_ok() {
            disconnect(client.as_ref(), events.as_mut()).await;
        }
        // Close the lane before the connection is dropped and its messages become unreachable: their
        // consumers must not send them again by this lane.
        self.lane.send_replace(None);
        let answered = connection.answered;
        let unanswered = answered == 0 && connection.acks.open() > 0;
        ended.map_err(|failure| Outage { failure, answered, unanswered })
    }

    async fn open(&self) -> Result<(Session, BrokerCapabilities), ConnectionFailure> {
        let Credentials { tls, login } = self.credentials().await?;
        let options = SessionOptions {
            version: self.spec.version,
            client_id: self.client_id.clone(),
            host: self.spec.host.clone(),
            port: self.spec.port,
            keep_alive: self.spec.keep_alive,
            window: self.window,
            keep_session: !self.downlinks.targets.is_empty(),
            tls,
            login,
        };
        let mut session = Session::new(options);
        let connected = async {
            loop {
                if let SessionEvent::Connected(terms) = session.events.next().await? {
                    return Ok::<_, LinkError>(terms);
                }
            }
        };
        let limit = self.spec.connect_timeout;
        let terms = timeout(limit, connected)
            .await
            .map_err(|_| ConnectionFailure::ConnectTimeout(limit))?
            .map_err(ConnectionFailure::Unconnected)?;
        if terms.qos1 { Ok((session, terms)) } else { Err(ConnectionFailure::NoQos1) }
    }

    async fn credentials(&self) -> Result<Credentials, ConnectionFailure> {
        let tls = Arc::clone(&self.tls);
        let spec = self.spec.clone();
        tokio::task::spawn_blocking(move || {
            let tls = spec.tls.then(|| tls.load()).transpose()?;
            let password = spec.password.as_ref().map(reveal).transpose()?;
            let login = match (spec.username, password) {
                (None, None) => None,
                (username, password) => Some(Login {
                    username: username.unwrap_or_default(),
                    password: password.unwrap_or_default(),
                }),
            };
            Ok(Credentials { tls, login })
        })
        .await?
    }

    /// Subscribes, opens the lane, and moves packets until something fails.
    async fn pump(
        &self,
        connection: &mut Connection,
        events: &mut dyn SessionEvents,
    ) -> Result<(), ConnectionFailure> {
        let quiet_max = events.quiet_max(self.spec.keep_alive);
        self.subscribe(connection)?;
        loop {
            match next(connection, events, quiet_max).await {
                Ok(event) => self.handle(connection, event)?,
                Err(failure) => {
                    connection.drain(events);
                    connection.hold_culprit(&failure);
                    return Err(failure);
                }
            }
        }
    }

    fn handle(
        &self,
        connection: &mut Connection,
        event: SessionEvent,
    ) -> Result<(), ConnectionFailure> {
        match event {
            SessionEvent::Written(pkid) => {
                if let Some(message) = connection.acks.written(pkid) {
                    connection.unwritten -= message.bytes;
                }
            }
            SessionEvent::Answered { pkid, refusal } => connection.answer(pkid, refusal),
            SessionEvent::SubscriptionWritten(pkid) => connection.subscriptions.written(pkid),
            SessionEvent::SubscriptionAnswered { .. } if connection.subscriptions.done() => {}
            SessionEvent::SubscriptionAnswered { pkid, refusal } => {
                if let Some(filter) = connection.subscriptions.answered(pkid, refusal.is_none()) {
                    self.report_refusal(filter, &refusal.unwrap_or_default());
                }
                self.subscribe(connection)?;
            }
            SessionEvent::Received(message) => match connection.inbox.try_send(message) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(message)) if message.pkid.is_none() => {
                    tracing::warn!(topic = message.topic, "QoS 0 message from the broker dropped");
                }
                Err(_) => return Err(ConnectionFailure::Flooded),
            },
            SessionEvent::Connected(_) | SessionEvent::Disconnected | SessionEvent::Other => {}
        }
        Ok(())
    }

    /// Asks for the next subscriptions. Once all are answered, messages may go up.
    fn subscribe(&self, connection: &mut Connection) -> Result<(), ClientStalled> {
        while let Some(request) = connection.subscriptions.next(connection.lane.window) {
            match request {
                SubscriptionRequest::Subscribe { filter, id } => {
                    connection.client.subscribe(filter, id)?
                }
                SubscriptionRequest::Unsubscribe { filter } => {
                    connection.client.unsubscribe(filter)?
                }
            }
        }
        if connection.subscriptions.done() {
            self.open_lane(connection);
        }
        Ok(())
    }

    fn open_lane(&self, connection: &Connection) {
        self.lane.send_replace(Some(connection.lane.clone()));
        self.status.connected(true);
        let window = connection.lane.window;
        let packet_max = connection.terms.packet_max;
        tracing::info!(uplink = self.name, window, packet_max, "uplink is up");
    }

    /// Reports a refused subscription, which must not hold up the messages to the broker.
    fn report_refusal(&self, filter: &str, reason: &str) {
        tracing::error!(uplink = self.name, filter, reason, "subscription was refused");
        self.status.failed(format!("the broker refused the subscription {filter}: {reason}"));
    }
}

impl Connection {
    fn hand_over(&mut self, pending: Pending) -> Result<(), ClientStalled> {
        let Pending { packet, bytes, done } = pending;
        self.client.publish(packet)?;
        self.acks.queue(Unanswered { done, bytes });
        self.unwritten += bytes;
        Ok(())
    }

    fn answer(&mut self, pkid: u16, refusal: Option<String>) {
        let Some(message) = self.acks.acknowledged(pkid) else { return };
        self.answered += 1;
        // Without a receiver the consumer has gone, and the message is delivered again.
        let _ =
            message.done.send(refusal.map_or(Outcome::Ack, |reason| Outcome::Retry(reason.into())));
    }

    /// Takes the answers that were read before the connection failed.
    fn drain(&mut self, events: &mut dyn SessionEvents) {
        for event in events.drain() {
            match event {
                SessionEvent::Written(pkid) => drop(self.acks.written(pkid)),
                SessionEvent::Answered { pkid, refusal } => self.answer(pkid, refusal),
                _ => {}
            }
        }
    }

    /// Holds the message that the connection failed on, if it can be told.
    fn hold_culprit(&mut self, failure: &ConnectionFailure) {
        match failure {
            ConnectionFailure::Broken(LinkError::PublishTooLarge) => self.hold_largest(),
            ConnectionFailure::Broken(LinkError::Closed) => self.hold_the_only_one(),
            _ => {}
        }
    }

    /// Holds the largest of the open messages. The broker refused one of them as too large, without
    /// naming its limit or the message; if any is too large, the largest is.
    fn hold_largest(&mut self) {
        self.hold(|bytes| {
            format!(
                "the broker refused its MQTT packet of {bytes} bytes as too large: send smaller \
                 messages, or raise the broker's limit (Mosquitto: message_size_limit)"
            )
        });
    }

    /// Holds the message that was alone on this connection, if the broker has closed several in a
    /// row without answering a message: then this one is the cause.
    fn hold_the_only_one(&mut self) {
        let closed = self.unanswered + 1;
        if closed < HOLD_AFTER || self.answered > 0 || self.acks.open() != 1 {
            return;
        }
        self.hold(|bytes| {
            format!(
                "the broker closed the connection on its MQTT packet of {bytes} bytes, {closed} \
                 times in a row: send smaller messages, raise the broker's limit (Mosquitto: \
                 max_packet_size), or allow the topic there"
            )
        });
    }

    fn hold(&mut self, reason: impl FnOnce(usize) -> String) {
        let Some(message) = self.acks.take_largest(|message| message.bytes) else { return };
        self.answered += 1;
        // Without a receiver the consumer has gone, and the message is delivered again.
        let _ = message.done.send(Outcome::Hold(reason(message.bytes).into()));
    }
}

/// Waits for the next event, and hands messages over meanwhile as room allows.
async fn next(
    connection: &mut Connection,
    events: &mut dyn SessionEvents,
    quiet_max: Duration,
) -> Result<SessionEvent, ConnectionFailure> {
    let mut next = events.next();
    let began = Instant::now();
    loop {
        let room = connection.acks.span() < connection.lane.window;
        let writing = Duration::from_secs(connection.unwritten as u64 / SLOWEST_LINK);
        let patience = quiet_max + writing;
        tokio::select! {
            event = &mut next => return event.map_err(ConnectionFailure::Broken),
            Some(pending) = connection.queue.recv(), if room => connection.hand_over(pending)?,
            () = sleep_until(began + patience) => return Err(ConnectionFailure::Silent(patience)),
        }
    }
}

/// Says goodbye to the broker, so that it doesn't take the connection for a broken one.
async fn disconnect(client: &dyn SessionClient, events: &mut dyn SessionEvents) {
    if client.disconnect().is_err() {
        return;
    }
    let left =
        async { while !matches!(events.next().await, Ok(SessionEvent::Disconnected) | Err(_)) {} };
    // A broker that doesn't read it finds out by its own time-out.
    let _ = timeout(DISCONNECT_TIMEOUT, left).await;
}
