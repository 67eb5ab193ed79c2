//! Who has news: the writer thread leaves a note for each consumer of a stream that has grown.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::ids::{ConsumerId, StreamId};

/// What is new for a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The streams that have something for it.
    pub streams: BTreeSet<StreamId>,
    /// It gave up its backlog: what was read of it is not to be delivered.
    pub skipped: bool,
}

impl News {
    fn is_none(&self) -> bool {
        self.streams.is_empty() && !self.skipped
    }
}

/// What is new for one consumer.
#[derive(Default)]
pub(super) struct Mailbox {
    news: Mutex<News>,
    notify: Notify,
}

impl Mailbox {
    pub(super) async fn take(&self) -> News {
        loop {
            let notified = self.notify.notified();
            let news = std::mem::take(&mut *lock(&self.news));
            if !news.is_none() {
                return news;
            }
            notified.await;
        }
    }

    fn put(&self, streams: impl IntoIterator<Item = StreamId>) {
        lock(&self.news).streams.extend(streams);
        self.notify.notify_one();
    }

    fn skip(&self) {
        lock(&self.news).skipped = true;
        self.notify.notify_one();
    }
}

/// All mailboxes. One for each consumer that is being driven.
#[derive(Default)]
pub(super) struct Mailboxes(RwLock<HashMap<ConsumerId, Arc<Mailbox>>>);

impl Mailboxes {
    pub(super) fn open(&self, consumer: ConsumerId) -> Arc<Mailbox> {
        let mut boxes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        boxes.entry(consumer).or_default().clone()
    }

    pub(super) fn put(&self, consumer: ConsumerId, streams: impl IntoIterator<Item = StreamId>) {
        let boxes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(mailbox) = boxes.get(&consumer) {
            mailbox.put(streams);
        }
    }

    /// A consumer gave up its backlog.
    pub(super) fn skip(&self, consumer: ConsumerId) {
        let boxes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(mailbox) = boxes.get(&consumer) {
            mailbox.skip();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
