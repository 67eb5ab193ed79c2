//! Names the consumer that holds most of the space when a write is refused for lack of it.

use std::collections::HashMap;

use crate::error::{Error, Holder};
use crate::tables::Index;

/// How long an answer is reused, in milliseconds: to look at every stream for every refused message
/// would cost more than to store the message.
const KNOWN_MS: u64 = 1000;
/// Answers that are remembered.
const MOST_KNOWN: usize = 64;
/// Between two lines of the log about the same, in milliseconds.
const TELL_AGAIN_MS: u64 = 60_000;

/// What was found out lately, by what is full: a component, or everything.
#[derive(Default)]
pub(super) struct Crowding {
    known: HashMap<Option<String>, (u64, Option<Holder>)>,
    told: HashMap<Option<String>, u64>,
}

impl Crowding {
    /// Adds to a refusal who holds the space, and tells the log from time to time.
    pub(super) fn explain(&mut self, error: Error, index: &Index, now_ms: u64) -> Error {
        let scope = match &error {
            Error::Full { topic, .. } => Some(topic.component.clone()),
            Error::NodeFull { .. } | Error::DiskFull { .. } => None,
            _ => return error,
        };
        let found = self.holder(&scope, index, now_ms);
        let mut error = error;
        if let Error::Full { holder, .. }
        | Error::NodeFull { holder, .. }
        | Error::DiskFull { holder, .. } = &mut error
        {
            *holder = found.map(Box::new);
        }
        self.tell(scope, &error, now_ms);
        error
    }

    fn holder(&mut self, scope: &Option<String>, index: &Index, now_ms: u64) -> Option<Holder> {
        if let Some((at_ms, holder)) = self.known.get(scope)
            && now_ms.saturating_sub(*at_ms) < KNOWN_MS
        {
            return holder.clone();
        }
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        let holder = index.holder(|topic| scope.as_ref().is_none_or(|c| *c == topic.component));
        self.known.insert(scope.clone(), (now_ms, holder.clone()));
        holder
    }

    fn tell(&mut self, scope: Option<String>, error: &Error, now_ms: u64) {
        let told = self.told.get(&scope);
        if told.is_some_and(|told| now_ms.saturating_sub(*told) < TELL_AGAIN_MS) {
            return;
        }
        if self.told.len() >= MOST_KNOWN {
            self.told.clear();
        }
        self.told.insert(scope, now_ms);
        tracing::warn!(%error, "no room, what needs it is refused");
    }
}
