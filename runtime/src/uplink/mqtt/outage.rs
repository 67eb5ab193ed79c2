//! Failed connections: why one ended, and what several in a row have in common.

use std::time::Duration;

use super::downlink::DownlinkError;
use super::failure::{LinkError, Peer};
use super::session::{ClientStalled, UNACKED_MAX};
use crate::secret::SecretError;
use crate::text;
use crate::tls::TlsError;

/// Two clients with one id take the connection from each other at every try: this is suspected if
/// the broker closes connections in a row, each within this time.
const SHARED_ID_WITHIN: Duration = Duration::from_secs(300);

/// The reason why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionFailure {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the password can't be used: {0}")]
    Password(#[from] SecretError),
    #[error("it did not answer within {}: check the url, or raise connectTimeout", text::duration(*.0))]
    ConnectTimeout(Duration),
    /// The link failed before the broker had accepted the connection.
    #[error("there is no connection")]
    Unconnected(LinkError),
    /// The link failed after the broker had accepted the connection.
    #[error("the connection broke")]
    Broken(LinkError),
    #[error("the credentials can't be read: {0}")]
    Credentials(#[from] tokio::task::JoinError),
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

impl ConnectionFailure {
    fn describe(&self, peer: &Peer) -> String {
        match self {
            Self::Unconnected(error) => error.describe(peer, false),
            Self::Broken(error) => error.describe(peer, true),
            Self::ConnectTimeout(_) | Self::Silent(_) => format!("{peer}: {self}"),
            other => other.to_string(),
        }
    }

    fn is_closed(&self) -> bool {
        matches!(self, Self::Broken(LinkError::Closed))
    }
}

/// A connection that failed.
#[derive(Debug)]
pub(super) struct Outage {
    pub(super) failure: ConnectionFailure,
    /// Answers that the connection brought.
    pub(super) answered: u64,
    /// Messages were sent, and none of them was answered.
    pub(super) unanswered: bool,
}

/// A connection that failed before anything was sent.
impl From<ConnectionFailure> for Outage {
    fn from(failure: ConnectionFailure) -> Self {
        Self { failure, answered: 0, unanswered: false }
    }
}

/// Counts of failed connections in a row.
pub(super) struct Outages {
    /// A connection that lasted this long was of use.
    useful_after: Duration,
    failures: u32,
    /// Soon closed by the broker.
    closed: u32,
    /// Closed by the broker with messages sent and none answered.
    unanswered: u32,
}

impl Outages {
    pub(super) fn new(useful_after: Duration) -> Self {
        Self { useful_after, failures: 0, closed: 0, unanswered: 0 }
    }

    /// Returns the failures in a row since the last connection that was of use: 1 or more.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns the connections in a row that the broker closed with messages sent and none answered.
    pub(super) fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Counts a connection that lasted this long.
    pub(super) fn record(&mut self, outage: &Outage, lasted: Duration) {
        let closed = outage.failure.is_closed();
        let answered = outage.answered > 0;
        // A connection on which nothing was sent tells nothing about the messages.
        if outage.unanswered && closed {
            self.unanswered += 1;
        } else if outage.unanswered || answered {
            self.unanswered = 0;
        }
        // A connection that brings the same large packet each time is of no use, whatever else it
        // brings.
        let too_large =
            matches!(outage.failure, ConnectionFailure::Broken(LinkError::TooLarge { .. }));
        let useful = (answered || lasted >= self.useful_after) && !too_large;
        self.failures = if useful { 1 } else { self.failures + 1 };
        self.closed = if closed && lasted < SHARED_ID_WITHIN { self.closed + 1 } else { 0 };
    }

    /// Describes the last failure, with the cause that its repetition suggests.
    pub(super) fn describe(&self, failure: &ConnectionFailure, peer: &Peer) -> String {
        let error = failure.describe(peer);
        if self.unanswered > 1 {
            format!(
                "{error} and without answering a message, {} times in a row: perhaps one of them is too large for it, or not allowed",
                self.unanswered
            )
        } else if self.closed > 1 {
            format!("{error}, {} times in a row: perhaps {}", self.closed, peer.shared_id())
        } else {
            error
        }
    }
}

#[cfg(test)]
mod tests {
    use config::model::MqttVersion;

    use super::*;
    use crate::uplink::mqtt::tests::broker;

    const SHORT: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(3600);

    fn outages() -> Outages {
        Outages::new(Duration::from_secs(60))
    }

    fn closed() -> Outage {
        ConnectionFailure::Broken(LinkError::Closed).into()
    }

    fn unconnected() -> Outage {
        ConnectionFailure::Unconnected(LinkError::Unresolved).into()
    }

    fn described(outages: &Outages) -> String {
        let peer = Peer::new(&broker::spec(1883, MqttVersion::V5), "truck-up");
        outages.describe(&closed().failure, &peer)
    }

    #[test]
    fn connections_that_are_soon_closed_in_a_row_suggest_a_shared_client_id() {
        let mut outages = outages();
        outages.record(&closed(), SHORT);
        assert!(!described(&outages).contains("in a row"));
        outages.record(&closed(), SHORT);
        assert!(described(&outages).contains("2 times in a row: perhaps another client uses"));
        outages.record(&closed(), LONG);
        assert!(!described(&outages).contains("in a row"));
    }

    #[test]
    fn messages_that_are_never_answered_are_suspected_and_a_failed_connect_acquits_none() {
        let mut outages = outages();
        for outage in [
            Outage { unanswered: true, ..closed() },
            unconnected(),
            Outage { unanswered: true, ..closed() },
        ] {
            outages.record(&outage, SHORT);
        }
        assert_eq!(outages.unanswered(), 2);
        assert!(described(&outages).contains("without answering a message, 2 times in a row"));
        outages.record(&Outage { answered: 1, ..closed() }, SHORT);
        assert_eq!(outages.unanswered(), 0);
    }

    #[test]
    fn a_connection_of_use_starts_the_count_of_failures_anew() {
        let mut outages = outages();
        outages.record(&unconnected(), SHORT);
        outages.record(&unconnected(), SHORT);
        assert_eq!(outages.failures(), 2);
        outages.record(&closed(), LONG);
        assert_eq!(outages.failures(), 1);
        outages.record(&Outage { answered: 1, ..closed() }, SHORT);
        assert_eq!(outages.failures(), 1);
        let too_large = LinkError::TooLarge { bytes: 2, limit: 1 };
        let failure = ConnectionFailure::Broken(too_large);
        outages.record(&Outage { failure, answered: 1, unanswered: false }, LONG);
        assert_eq!(outages.failures(), 2);
    }
}
