//! What a simulation looks at: the committed store as a whole, and what a consumer may read.

use super::Engine;
use crate::consumer::Message;
use crate::error::Error;
use crate::ids::{ConsumerId, Epoch, Lsn, NodeId, Sequence, StreamId};
use crate::record::{ConsumerSpec, InactiveReason, Loss, Topic};
use crate::tables::{ConsumerRow, Cursor, Losses, Page, Row};

/// A key as it stands: component, key, entity tag, value.
pub type StateFacts = (String, String, u64, Vec<u8>);

/// A consumer as it stands.
pub type ConsumerFacts = (ConsumerId, ConsumerSpec, Option<(InactiveReason, bool)>);

/// A stream as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// Its number.
    pub id: StreamId,
    /// Its name.
    pub topic: Topic,
    /// The next sequence to give out.
    pub next: Sequence,
    /// How many messages are counted.
    pub count: u64,
    /// Bytes of their rows, as counted.
    pub bytes: u64,
    /// What left without being acknowledged.
    pub losses: Losses,
    /// The messages that are kept.
    pub messages: Vec<Message>,
    /// What is missing and why: inclusive ranges.
    pub gaps: Vec<(Sequence, Sequence, Loss)>,
}

impl Engine {
    /// Who the store is: the first two parts of every record's identity.
    #[must_use]
    pub fn identity(&self) -> (NodeId, Epoch) {
        let meta = &self.tables.index.meta;
        (meta.node.clone(), meta.epoch)
    }

    /// The last record that was given a number.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.next.0.saturating_sub(1))
    }

    /// Device time now, in milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.tables.index.device_ms(self.clock.read().up_ms)
    }

    /// Bytes that one call of [`Engine::commit`] may bring.
    #[must_use]
    pub fn commit_bytes(&self) -> usize {
        self.batch_bytes()
    }

    /// Reads a key; `None` when it is absent or expired.
    ///
    /// # Errors
    /// When the tables can't be read.
    pub fn get(&self, component: &str, key: &str) -> Result<Option<Row>, Error> {
        self.reader().state(component, key, self.now_ms())
    }

    /// Every key that is in the tables, expired ones too.
    ///
    /// # Errors
    /// When the tables can't be read.
    pub fn all_state(&self) -> Result<Vec<StateFacts>, Error> {
        self.reader().all_state()
    }

    /// Every stream.
    ///
    /// # Errors
    /// When the tables can't be read.
    pub fn stream_facts(&self) -> Result<Vec<StreamFacts>, Error> {
        let (reader, now_ms) = (self.reader(), self.now_ms());
        let facts = reader.streams()?.into_iter().map(|view| {
            let all = usize::MAX;
            let page = reader.page(view.id, Sequence(0), all, all, now_ms)?;
            Ok(StreamFacts {
                id: view.id,
                topic: view.topic,
                next: view.next,
                count: view.messages,
                bytes: view.bytes,
                losses: view.losses,
                messages: page.messages,
                gaps: reader.gaps(view.id)?,
            })
        });
        facts.collect()
    }

    /// The registered consumers, and of those that are inactive why, and whether they collect.
    ///
    /// # Errors
    /// When the tables can't be read.
    pub fn consumers(&self) -> Result<Vec<ConsumerFacts>, Error> {
        let facts = |(id, row): (ConsumerId, ConsumerRow)| {
            let inactive = row.inactive.map(|inactive| (inactive.reason, inactive.collecting));
            (id, row.spec, inactive)
        };
        Ok(self.reader().consumers()?.into_iter().map(facts).collect())
    }

    /// How far a consumer has come in a stream.
    ///
    /// # Errors
    /// When the tables can't be read.
    pub fn cursor(&self, consumer: ConsumerId, stream: StreamId) -> Result<Cursor, Error> {
        self.reader().cursor(consumer, stream)
    }

    /// The streams that a consumer reads and has not finished.
    #[must_use]
    pub fn backlog_of(&self, consumer: ConsumerId) -> Vec<StreamId> {
        self.index().backlog_of(consumer)
    }

    /// Reads at most `count` messages of a stream behind `after` and, but for the first, `bytes`;
    /// and whether there are more.
    ///
    /// # Errors
    /// When the tables can't be read.
    pub fn page(
        &self,
        stream: StreamId,
        after: Sequence,
        count: usize,
        bytes: usize,
    ) -> Result<(Vec<Message>, bool), Error> {
        let Page { messages, more } =
            self.reader().page(stream, after, count, bytes, self.now_ms())?;
        Ok((messages, more))
    }
}
