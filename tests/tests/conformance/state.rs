//! The cases of state stores.

use std::sync::Arc;
use std::time::Duration;

use blocks::fault::Reason;
use blocks::registry::{Components, Registry};
use blocks::registry::{KeyPrefix, StateComponent};
use blocks::state::{self, Change, Operation, OperationKind};
use components::{EtagCondition, Item, StateError, StateOp};

use crate::subjects::{StateSubject, each_state_store};

impl StateSubject {
    async fn read(&self, key: &str) -> Option<Item> {
        self.store.get(&[key.to_owned()]).await.remove(0).unwrap()
    }

    async fn value(&self, key: &str) -> Option<String> {
        self.read(key).await.map(|item| String::from_utf8(item.value).unwrap())
    }

    async fn write(&self, ops: Vec<StateOp>) -> Result<(), StateError> {
        self.store.write(ops).await
    }

    async fn set(&self, key: &str, value: &str) {
        self.write(vec![set(key, value)]).await.unwrap();
    }
}

fn set(key: &str, value: &str) -> StateOp {
    set_if(key, value, EtagCondition::Any)
}

fn set_if(key: &str, value: &str, condition: EtagCondition) -> StateOp {
    StateOp::Set { key: key.to_owned(), value: value.into(), condition, ttl: None }
}

fn set_for(key: &str, value: &str, ttl: Duration) -> StateOp {
    let condition = EtagCondition::Any;
    StateOp::Set { key: key.to_owned(), value: value.into(), condition, ttl: Some(ttl) }
}

fn delete(key: &str, condition: EtagCondition) -> StateOp {
    StateOp::Delete { key: key.to_owned(), condition }
}

fn is_mismatch(result: &Result<(), StateError>, at: usize) -> bool {
    matches!(result, Err(StateError::EtagMismatch { op, .. }) if *op == at)
}

#[test]
fn a_value_is_read_as_it_was_set_until_it_is_deleted() {
    each_state_store(async |subject: &StateSubject| {
        assert_eq!(subject.read("k").await, None);
        let bytes = vec![0, 159, 146, 150];
        let condition = EtagCondition::Any;
        let binary = StateOp::Set { key: "k".into(), value: bytes.clone(), condition, ttl: None };
        subject.write(vec![binary]).await.unwrap();
        assert_eq!(subject.read("k").await.unwrap().value, bytes);
        subject.set("k", "other").await;
        assert_eq!(subject.value("k").await.as_deref(), Some("other"));
        subject.write(vec![delete("k", EtagCondition::Any)]).await.unwrap();
        assert_eq!(subject.read("k").await, None);
        subject.write(vec![delete("k", EtagCondition::Any)]).await.unwrap();
    });
}

#[test]
fn several_keys_are_read_in_the_order_in_which_they_are_asked_for() {
    each_state_store(async |subject: &StateSubject| {
        subject.set("a", "1").await;
        subject.set("b", "2").await;
        let read = subject.store.get(&["b", "absent", "a"].map(str::to_owned)).await;
        let values = read.into_iter().map(|item| item.unwrap().map(|item| item.value));
        let expected = [Some(b"2".to_vec()), None, Some(b"1".to_vec())];
        assert_eq!(values.collect::<Vec<_>>(), expected);
    });
}

#[test]
fn a_write_with_an_etag_needs_the_value_that_has_it() {
    each_state_store(async |subject: &StateSubject| {
        if !subject.store.features().etag {
            return;
        }
        subject.set("k", "1").await;
        let first = EtagCondition::Matches(subject.read("k").await.unwrap().etag);
        subject.write(vec![set_if("k", "2", first.clone())]).await.unwrap();
        let second = EtagCondition::Matches(subject.read("k").await.unwrap().etag);
        assert_ne!(first, second, "each write gives another etag");
        assert!(is_mismatch(&subject.write(vec![set_if("k", "3", first.clone())]).await, 0));
        assert!(is_mismatch(&subject.write(vec![delete("k", first.clone())]).await, 0));
        assert!(is_mismatch(&subject.write(vec![set_if("absent", "1", first)]).await, 0));
        assert_eq!(subject.value("k").await.as_deref(), Some("2"));
        subject.write(vec![delete("k", second)]).await.unwrap();
        assert_eq!(subject.read("k").await, None);
    });
}

#[test]
fn a_first_write_needs_an_absent_key() {
    each_state_store(async |subject: &StateSubject| {
        if !subject.store.features().etag {
            return;
        }
        subject.write(vec![set_if("k", "1", EtagCondition::FirstWrite)]).await.unwrap();
        let again = subject.write(vec![set_if("k", "2", EtagCondition::FirstWrite)]).await;
        assert!(is_mismatch(&again, 0));
        assert_eq!(subject.value("k").await.as_deref(), Some("1"));
        subject.write(vec![delete("k", EtagCondition::Any)]).await.unwrap();
        subject.write(vec![set_if("k", "3", EtagCondition::FirstWrite)]).await.unwrap();
    });
}

#[test]
fn a_value_is_gone_after_its_time_to_live() {
    each_state_store(async |subject: &StateSubject| {
        if !subject.store.features().ttl {
            return;
        }
        let ttl = Duration::from_secs(10);
        subject.write(vec![set_for("k", "1", ttl), set_for("kept", "1", ttl)]).await.unwrap();
        assert_eq!(subject.read("k").await.unwrap().expires_in, Some(ttl));
        subject.set("kept", "without a time").await;
        subject.clock.advance(ttl);
        assert_eq!(subject.read("k").await, None);
        assert_eq!(subject.read("kept").await.unwrap().expires_in, None);
        subject.write(vec![set_if("k", "2", EtagCondition::FirstWrite)]).await.unwrap();
    });
}

#[test]
fn a_transaction_takes_effect_as_a_whole_or_not_at_all() {
    each_state_store(async |subject: &StateSubject| {
        if subject.store.features().transaction.is_none() {
            return;
        }
        subject.set("old", "1").await;
        let good = vec![set("a", "1"), delete("old", EtagCondition::Any), set("a", "2")];
        subject.write(good).await.unwrap();
        assert_eq!(subject.value("a").await.as_deref(), Some("2"));
        assert_eq!(subject.read("old").await, None);
        let bad = vec![set("a", "3"), set("b", "1"), set_if("a", "4", EtagCondition::FirstWrite)];
        assert!(is_mismatch(&subject.write(bad).await, 2));
        assert_eq!(subject.value("a").await.as_deref(), Some("2"));
        assert_eq!(subject.read("b").await, None);
    });
}

fn upserts(count: usize) -> Vec<Operation> {
    let upsert = |key: usize| Operation {
        kind: OperationKind::Upsert,
        change: Change { key: key.to_string(), value: b"1".to_vec(), ..Change::default() },
    };
    (0..count).map(upsert).collect()
}

#[test]
fn a_transaction_has_as_many_operations_as_the_store_takes_and_no_more() {
    each_state_store(async |subject: &StateSubject| {
        let limit = subject.store.features().transaction.map_or(0, usize::from);
        let component = StateComponent {
            name: "subject".into(),
            store: Arc::clone(&subject.store),
            prefix: KeyPrefix::None,
            apps: Vec::new(),
        };
        let all = Components { state: vec![Arc::new(component)], ..Components::default() };
        let registry = Registry::for_app(&all, "app", "");
        let store = state::find(&registry, "subject").unwrap();
        let refused = store.transact(upserts(limit + 1), &Default::default()).await.unwrap_err();
        assert_eq!(refused.reason, Reason::StateTooManyTransactions);
        assert_eq!(subject.read("0").await, None);
        if limit > 0 {
            store.transact(upserts(limit), &Default::default()).await.unwrap();
            assert!(subject.read(&(limit - 1).to_string()).await.is_some());
        }
    });
}
