//! The connection to the broker: opened, used, torn down at the first error, opened again.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use config::model::MqttUplink;
use store_forward::backoff::Backoff;
use store_forward::consumer::Outcome;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::acks::Acks;
use super::downlink::{DownlinkError, Downlinks};
use super::failure::{LinkError, Peer};
use super::session::{
    BrokerCapabilities, ClientStalled, Inbound, Login, Session, SessionClient, SessionEvent,
    SessionEvents, SessionOptions, UNACKED_MAX,
};
use super::sink::{Lane, Pending};
use super::subscriptions::{SubscriptionRequest, Subscriptions};
use crate::secret::{SecretError, reveal};
use crate::text;
use crate::tls::{ClientConfigs, TlsError};
use crate::uplink::status::UplinkStatus;

/// Bytes a second that even the slowest link moves: what a large packet may take to be written.
const SLOWEST_LINK: u64 = 1024;
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// A connection that the broker closes within this, more than once in a row, looks like two clients
/// with one id: each takes it from the other at its next try.
const SHARED_ID_WITHIN: Duration = Duration::from_secs(300);
/// Connections in a row that the broker closed with messages sent and none answered, after which one
/// message at a time is sent: a broker may close the connection on a message instead of refusing it.
const ALONE_AFTER: u32 = 3;
/// After so many in a row the message that was alone on the last one is held.
const HOLD_AFTER: u32 = 5;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the password can't be used: {0}")]
    Password(#[from] SecretError),
    #[error("it did not answer within {}: check the url, or raise connectTimeout", text::duration(*.0))]
    ConnectTimeout(Duration),
    /// Before the broker had taken the connection.
    #[error("there is no connection")]
    Unconnected(LinkError),
    /// After that.
    #[error("the connection broke")]
    Broken(LinkError),
    #[error("the credentials can't be read: {0}")]
    Credentials(tokio::task::JoinError),
    #[error("the broker was silent for {}: the link is down", text::duration(*.0))]
    Silent(Duration),
    #[error("the broker takes QoS 0 only, and that can't promise delivery: use another broker")]
    NoQos1,
    #[error(
        "the broker sent over {UNACKED_MAX} messages without waiting: lower its in-flight limit"
    )]
    Flooded,
    #[error(transparent)]
    Downlink(#[from] DownlinkError),
    #[error(transparent)]
    Stalled(#[from] ClientStalled),
}

impl Failure {
    /// In words.
    fn describe(&self, peer: &Peer) -> String {
        match self {
            Self::Unconnected(error) => error.describe(peer, false),
            Self::Broken(error) => error.describe(peer, true),
            Self::ConnectTimeout(_) | Self::Silent(_) => format!("{peer}: {self}"),
            other => other.to_string(),
        }
    }
}

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

/// What one connection knows.
struct Connection {
    client: Arc<dyn SessionClient>,
    terms: BrokerCapabilities,
    /// What waits for an answer, with its bytes while it is not written.
    acks: Acks<(oneshot::Sender<Outcome>, usize)>,
    unwritten: usize,
    queue: mpsc::UnboundedReceiver<Pending>,
    lane: Lane,
    inbox: mpsc::Sender<Inbound>,
    answered: u64,
    subscriptions: Subscriptions,
    /// Connections in a row, before this one, that the broker closed without answering a message.
    unanswered: u32,
}

/// What a connection came to.
#[derive(Default)]
struct Account {
    /// Answers that it brought.
    answered: u64,
    /// Messages were sent, and it ended before any of them was answered.
    unanswered: bool,
}

impl Connector {
    /// Connects, again and again, until `stop` resolves.
    pub(super) async fn run(self, stop: impl Future<Output = ()> + Send) {
        let mut stop = pin!(stop);
        let peer = Peer::new(&self.spec, &self.client_id);
        let mut failures = 0;
        let mut closed = 0;
        let mut unanswered = 0;
        for generation in 1.. {
            let began = Instant::now();
            let ended = self.once(generation, unanswered, stop.as_mut()).await;
            self.lane.send_replace(None);
            self.status.connected(false);
            let (error, account) = match ended {
                (Ok(()), _) => return,
                (Err(error), account) => (error, account),
            };
            let answered = account.answered;
            match error {
                Failure::Broken(LinkError::Closed) if account.unanswered => unanswered += 1,
                // The broker wasn't reached: that tells nothing of its messages.
                _ if answered == 0 && !account.unanswered => {}
                _ => unanswered = 0,
            }
            // A connection that was of use starts the count anew.
            // One that brings the same packet each time is none, whatever else it brings.
            let useful = (answered > 0 || began.elapsed() >= self.backoff.max)
                && !matches!(error, Failure::Broken(LinkError::TooLarge { .. }));
            failures = if useful { 1 } else { failures + 1 };
            let delay = self.backoff.delay(failures, fastrand::f64());
            let short = began.elapsed() < SHARED_ID_WITHIN;
            let taken = short && matches!(error, Failure::Broken(LinkError::Closed));
            closed = if taken { closed + 1 } else { 0 };
            let mut error = error.describe(&peer);
            if unanswered > 1 {
                error = format!(
                    "{error} and without answering a message, {unanswered} times in a row: perhaps one of them is too large for it, or not allowed"
                );
            } else if closed > 1 {
                error = format!("{error}, {closed} times in a row: perhaps {}", peer.shared_id());
            }
            let retry_in = text::duration(delay);
            tracing::warn!(uplink = self.name, error, retry_in, "uplink is down");
            self.status.failed(error);
            tokio::select! {
                () = stop.as_mut() => return,
                () = sleep(delay) => {}
            }
        }
    }

    /// One connection, from its start to its end, and what it came to.
    async fn once(
        &self,
        generation: u64,
        unanswered: u32,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> (Result<(), Failure>, Account) {
        let opened = tokio::select! {
            () = stop.as_mut() => return (Ok(()), Account::default()),
            opened = self.open() => opened,
        };
        let (Session { client, mut events }, terms) = match opened {
            Ok(opened) => opened,
            Err(error) => return (Err(error), Account::default()),
        };
        let window = if unanswered >= ALONE_AFTER { 1 } else { self.window };
        let (inbox, arrived) = mpsc::channel(usize::from(UNACKED_MAX));
        let (queue, queued) = mpsc::unbounded_channel();
        let lane = Lane {
            generation,
            queue,
            version: self.spec.version,
            window: usize::from(window.min(terms.receive_max).max(1)),
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
                ended.map_err(Failure::from)
            }
            ended = self.pump(&mut connection, events.as_mut()) => ended,
        };
        if ended.is_ok() {
            goodbye(client.as_ref(), events.as_mut()).await;
        }
        // Before what is in flight is given up: who is told so must not find this lane open.
        self.lane.send_replace(None);
        let answered = connection.answered;
        let unanswered = answered == 0 && connection.acks.open() > 0;
        (ended, Account { answered, unanswered })
    }

    async fn open(&self) -> Result<(Session, BrokerCapabilities), Failure> {
        let (tls, login) = self.credentials().await?;
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
            .map_err(|_| Failure::ConnectTimeout(limit))?
            .map_err(Failure::Unconnected)?;
        if terms.qos1 { Ok((session, terms)) } else { Err(Failure::NoQos1) }
    }

    async fn credentials(&self) -> Result<(Option<Tls>, Option<Login>), Failure> {
        let (tls, spec) = (Arc::clone(&self.tls), self.spec.clone());
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
            Ok((tls, login))
        })
        .await
        .map_err(Failure::Credentials)?
    }

    /// Subscribes, opens the lane, and moves packets until something fails.
    async fn pump(
        &self,
        c: &mut Connection,
        events: &mut dyn SessionEvents,
    ) -> Result<(), Failure> {
        let quiet_max = events.quiet_max(self.spec.keep_alive);
        self.subscribe(c)?;
        loop {
            match next(c, events, quiet_max).await {
                Ok(event) => self.handle(c, event)?,
                Err(error) => {
                    for event in events.drain() {
                        match event {
                            SessionEvent::Written(pkid) => drop(c.acks.written(pkid)),
                            SessionEvent::Answered { pkid, refusal } => c.answer(pkid, refusal),
                            _ => {}
                        }
                    }
                    match error {
                        Failure::Broken(LinkError::PublishTooLarge) => c.hold_largest(),
                        Failure::Broken(LinkError::Closed) => c.hold_the_only_one(),
                        _ => {}
                    }
                    return Err(error);
                }
            }
        }
    }

    fn handle(&self, c: &mut Connection, event: SessionEvent) -> Result<(), Failure> {
        match event {
            SessionEvent::Written(pkid) => {
                if let Some((_, bytes)) = c.acks.written(pkid) {
                    c.unwritten -= bytes;
                }
            }
            SessionEvent::Answered { pkid, refusal } => c.answer(pkid, refusal),
            SessionEvent::SubscriptionWritten(pkid) => c.subscriptions.written(pkid),
            SessionEvent::SubscriptionAnswered { .. } if c.subscriptions.done() => {}
            SessionEvent::SubscriptionAnswered { pkid, refusal } => {
                if let Some(filter) = c.subscriptions.answered(pkid, refusal.is_none()) {
                    self.report_refusal(filter, &refusal.unwrap_or_default());
                }
                self.subscribe(c)?;
            }
            SessionEvent::Received(message) => match c.inbox.try_send(message) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(message)) if message.pkid.is_none() => {
                    tracing::warn!(topic = message.topic, "QoS 0 message from the broker dropped");
                }
                Err(_) => return Err(Failure::Flooded),
            },
            SessionEvent::Connected(_) | SessionEvent::Disconnected | SessionEvent::Other => {}
        }
        Ok(())
    }

    /// Asks for the next subscriptions; once all are answered, messages may go up.
    fn subscribe(&self, c: &mut Connection) -> Result<(), ClientStalled> {
        while let Some(request) = c.subscriptions.next(c.lane.window) {
            match request {
                SubscriptionRequest::Subscribe { filter, id } => c.client.subscribe(filter, id)?,
                SubscriptionRequest::Unsubscribe { filter } => c.client.unsubscribe(filter)?,
            }
        }
        if c.subscriptions.done() {
            self.open_lane(c);
        }
        Ok(())
    }

    fn open_lane(&self, c: &Connection) {
        self.lane.send_replace(Some(c.lane.clone()));
        self.status.connected(true);
        let (window, packet_max) = (c.lane.window, c.terms.packet_max);
        tracing::info!(uplink = self.name, window, packet_max, "uplink is up");
    }

    /// A refused subscription must not hold up what goes up.
    fn report_refusal(&self, filter: &str, reason: &str) {
        tracing::error!(uplink = self.name, filter, reason, "subscription was refused");
        self.status.failed(format!("the broker refused the subscription {filter}: {reason}"));
    }
}

type Tls = Arc<rustls::ClientConfig>;

impl Connection {
    fn answer(&mut self, pkid: u16, refusal: Option<String>) {
        let Some((done, _)) = self.acks.acknowledged(pkid) else { return };
        self.answered += 1;
        // Nobody listens when the consumer has gone; the message is then delivered again.
        let _ = done.send(refusal.map_or(Outcome::Ack, Outcome::Retry));
    }

    /// The broker refused one of the open messages as too large, without its limit. Which one can't
    /// be told; if any is too large, the largest is.
    fn hold_largest(&mut self) {
        let Some((done, bytes)) = self.acks.take_largest(|(_, bytes)| *bytes) else { return };
        self.answered += 1;
        let _ = done.send(Outcome::Hold(format!(
            "the broker refused its MQTT packet of {bytes} bytes as too large: send smaller \
             messages, or raise the broker's limit (Mosquitto: message_size_limit)"
        )));
    }

    /// The broker closed the connection. If it has done so before without answering a message, and
    /// only one was sent on this connection, that one is the cause.
    fn hold_the_only_one(&mut self) {
        let closed = self.unanswered + 1;
        if closed < HOLD_AFTER || self.answered > 0 || self.acks.open() != 1 {
            return;
        }
        let Some((done, bytes)) = self.acks.take_largest(|(_, bytes)| *bytes) else { return };
        self.answered += 1;
        let _ = done.send(Outcome::Hold(format!(
            "the broker closed the connection on its MQTT packet of {bytes} bytes, {closed} times \
             in a row: send smaller messages, raise the broker's limit (Mosquitto: \
             max_packet_size), or allow the topic there"
        )));
    }

    fn hand_over(&mut self, pending: Pending) -> Result<(), ClientStalled> {
        let Pending { packet, bytes, done } = pending;
        self.client.publish(packet)?;
        self.acks.queue((done, bytes));
        self.unwritten += bytes;
        Ok(())
    }
}

/// The next event, while messages are handed over as room allows.
async fn next(
    c: &mut Connection,
    events: &mut dyn SessionEvents,
    quiet_max: Duration,
) -> Result<SessionEvent, Failure> {
    let mut next = events.next();
    let began = Instant::now();
    loop {
        let room = c.acks.span() < c.lane.window;
        let patience = quiet_max + Duration::from_secs(c.unwritten as u64 / SLOWEST_LINK);
        tokio::select! {
            event = &mut next => return event.map_err(Failure::Broken),
            Some(pending) = c.queue.recv(), if room => c.hand_over(pending)?,
            () = sleep_until(began + patience) => return Err(Failure::Silent(patience)),
        }
    }
}

async fn goodbye(client: &dyn SessionClient, events: &mut dyn SessionEvents) {
    if client.disconnect().is_err() {
        return;
    }
    let left =
        async { while !matches!(events.next().await, Ok(SessionEvent::Disconnected) | Err(_)) {} };
    // A broker that doesn't listen finds out by itself.
    let _ = timeout(GOODBYE, left).await;
}
