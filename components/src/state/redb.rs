//! `state.redb`: state in the node's store. The component's name is its namespace there.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use store_forward::Error;
use store_forward::record::{Condition, Op};
use store_forward::store::{Row, Store};

use crate::Refusal;
use crate::context::{Building, Context};
use crate::port::state::{EtagCondition, Item, StateError, StateFeatures, StateOp, StateStore};
use crate::port::{Component, Local};

/// The type's name.
pub(crate) const KIND: &str = "state.redb";

/// Builds one on the node's store. The type has no settings.
pub(crate) fn build(context: Context) -> Building<dyn StateStore> {
    Box::pin(async move {
        let Context { name, metadata, embedded, .. } = context;
        metadata.finish()?;
        let store = embedded.open().await?.clone();
        Ok(StateOnStore::open(&name, store, true))
    })
}

/// Maximum operations of one transaction. They are applied under one lock, for which other writes wait.
const MAX_OPERATIONS: NonZeroUsize = NonZeroUsize::new(1000).unwrap();

/// A state store on a [`Store`].
pub(super) struct StateOnStore {
    local: Local,
    durable: bool,
}

impl StateOnStore {
    /// Creates a component on `store`. One that is not `durable` owns the store, and closes it.
    pub(super) fn open(component: &str, store: Store, durable: bool) -> Arc<dyn StateStore> {
        Arc::new(Self { local: Local { store, component: component.into() }, durable })
    }

    fn op(&self, op: StateOp) -> Result<Op, StateError> {
        let component = self.local.component.to_string();
        Ok(match op {
            StateOp::Set { key, value, condition, ttl } => {
                Op::Set { component, key, value, when: when(condition)?, ttl_ms: ttl.map(millis) }
            }
            StateOp::Delete { key, condition } => {
                Op::Delete { component, key, when: when(condition)? }
            }
        })
    }
}

#[async_trait]
impl Component for StateOnStore {
    async fn close(&self) {
        if !self.durable {
            self.local.store.close().await;
        }
    }
}

#[async_trait]
impl StateStore for StateOnStore {
    fn features(&self) -> StateFeatures {
        StateFeatures {
            etag: true,
            ttl: true,
            transaction: Some(MAX_OPERATIONS),
            query: false,
            durable: self.durable,
        }
    }

    async fn get(&self, keys: &[String]) -> Vec<Result<Option<Item>, Refusal>> {
        let Local { store, component } = &self.local;
        keys.iter().map(|key| Ok(store.get(component, key)?.map(item))).collect()
    }

    async fn write(&self, ops: Vec<StateOp>) -> Result<(), StateError> {
        let ops = ops.into_iter().map(|op| self.op(op)).collect::<Result<_, _>>()?;
        self.local.store.commit(ops).await?;
        Ok(())
    }

    fn local(&self) -> Option<&Local> {
        Some(&self.local)
    }
}

fn item(row: Row) -> Item {
    let Row { value, etag, expires_in_ms } = row;
    Item { value, etag: etag.to_string(), expires_in: expires_in_ms.map(Duration::from_millis) }
}

/// Converts a condition. Entity tags are the decimal log sequence number of the last write.
fn when(condition: EtagCondition) -> Result<Condition, StateError> {
    match condition {
        EtagCondition::Any => Ok(Condition::Any),
        EtagCondition::FirstWrite => Ok(Condition::Absent),
        EtagCondition::Matches(etag) => match etag.parse() {
            // The parser accepts a sign, which no tag has.
            Ok(number) if !etag.starts_with('+') => Ok(Condition::Etag(number)),
            _ => Err(StateError::EtagInvalid { etag }),
        },
    }
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

impl From<Error> for StateError {
    fn from(error: Error) -> Self {
        match error {
            Error::Conflict { op, key, expected, found } => Self::EtagMismatch {
                op,
                key,
                expected: expected.map(|etag| etag.to_string()),
                found: found.map(|etag| etag.to_string()),
            },
            error => Self::Refused(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_a_decimal_number_without_a_sign() {
        let matches = |etag: &str| when(EtagCondition::Matches(etag.to_owned()));
        assert!(matches!(matches("17"), Ok(Condition::Etag(17))));
        for etag in ["", "+17", "-1", "0x11", "abc", "18446744073709551616", "\"17\""] {
            let refused = matches(etag);
            assert!(matches!(refused, Err(StateError::EtagInvalid { .. })), "{etag}");
        }
    }

    #[test]
    fn first_write_asks_for_an_absent_key() {
        assert!(matches!(when(EtagCondition::FirstWrite), Ok(Condition::Absent)));
        assert!(matches!(when(EtagCondition::Any), Ok(Condition::Any)));
    }

    #[test]
    fn a_conflict_becomes_an_etag_mismatch_in_daprs_words() {
        let conflict = Error::Conflict { op: 2, key: "k".into(), expected: Some(1), found: None };
        let error = StateError::from(conflict);
        assert!(error.to_string().starts_with("possible etag mismatch. error from state store"));
        assert!(matches!(error, StateError::EtagMismatch { op: 2, .. }));
    }
}
