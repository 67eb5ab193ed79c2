//! `state.redb`: state in the node's store. The component's name is its namespace there.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use store_forward::Error;
use store_forward::record::{Condition, Op};
use store_forward::store::{Row, Store};

use crate::port::state::{EtagCondition, Item, StateError, StateOp, StateStore};
use crate::registry::{BuildError, Context};

/// The type's name.
pub(crate) const KIND: &str = "state.redb";

/// On the node's store; it has no settings of its own.
pub(crate) fn build(context: Context) -> Result<Arc<dyn StateStore>, BuildError> {
    let Context { name, metadata, store, .. } = context;
    metadata.finish()?;
    Ok(Arc::new(OnStore::new(name, store)))
}

/// A state store on a [`Store`].
pub(super) struct OnStore {
    component: String,
    store: Store,
}

impl OnStore {
    pub(super) fn new(component: String, store: Store) -> Self {
        Self { component, store }
    }

    fn op(&self, op: StateOp) -> Result<Op, StateError> {
        let component = self.component.clone();
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
impl StateStore for OnStore {
    async fn get(&self, key: &str) -> Result<Option<Item>, StateError> {
        Ok(self.store.get(&self.component, key)?.map(item))
    }

    async fn write(&self, ops: Vec<StateOp>) -> Result<(), StateError> {
        let ops = ops.into_iter().map(|op| self.op(op)).collect::<Result<_, _>>()?;
        self.store.commit(ops).await?;
        Ok(())
    }

    fn features(&self) -> &'static [&'static str] {
        &["ETAG", "TRANSACTIONAL", "TTL"]
    }
}

fn item(row: Row) -> Item {
    let Row { value, etag, expires_in_ms } = row;
    Item { value, etag: etag.to_string(), expires_in: expires_in_ms.map(Duration::from_millis) }
}

/// Entity tags are the decimal log sequence number of the last write.
fn when(condition: EtagCondition) -> Result<Condition, StateError> {
    match condition {
        EtagCondition::Any => Ok(Condition::Any),
        EtagCondition::FirstWrite => Ok(Condition::Absent),
        EtagCondition::Matches(etag) => match etag.parse() {
            // The parser takes a sign, which we never give.
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
        assert_eq!(matches("17"), Ok(Condition::Etag(17)));
        for etag in ["", "+17", "-1", "0x11", "abc", "18446744073709551616", "\"17\""] {
            assert_eq!(matches(etag), Err(StateError::EtagInvalid { etag: etag.to_owned() }));
        }
    }

    #[test]
    fn first_write_asks_for_an_absent_key() {
        assert_eq!(when(EtagCondition::FirstWrite), Ok(Condition::Absent));
        assert_eq!(when(EtagCondition::Any), Ok(Condition::Any));
    }

    #[test]
    fn a_conflict_becomes_an_etag_mismatch_in_daprs_words() {
        let conflict = Error::Conflict { op: 2, key: "k".into(), expected: Some(1), found: None };
        let error = StateError::from(conflict);
        assert!(error.to_string().starts_with("possible etag mismatch. error from state store"));
        assert!(matches!(error, StateError::EtagMismatch { op: 2, .. }));
    }
}
