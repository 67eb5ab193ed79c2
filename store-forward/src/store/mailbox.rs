//! Who has news: the writer thread leaves a note for each consumer of a stream that has grown.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::Notify;

use crate::ids::{ConsumerId, StreamId};

/// The streams with news for one consumer.
#[derive(Default)]
pub(super) struct Mailbox {
    streams: Mutex<BTreeSet<StreamId>>,
    notify: Notify,
}

impl Mailbox {
    pub(super) async fn take(&self) -> Vec<StreamId> {
        loop {
            let notified = self.notify.notified();
            let streams = std::mem::take(&mut *lock(&self.streams));
            if !streams.is_empty() {
                return streams.into_iter().collect();
            }
            notified.await;
        }
    }

    fn put(&self, streams: impl IntoIterator<Item = StreamId>) {
        lock(&self.streams).extend(streams);
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
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
