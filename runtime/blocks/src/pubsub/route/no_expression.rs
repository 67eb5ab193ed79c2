//! Stands in for [`expression`](super::expression) where the program is built without it.

use super::Unmatched;
use crate::pubsub::cloudevent::CloudEvent;

/// An expression, of which this edition has none.
#[derive(Debug)]
pub(super) enum Expression {}

/// The error of every rule in this edition.
#[derive(Debug, thiserror::Error)]
#[error("can't be used: this is the minimal edition, which has no rules; use the full one")]
pub struct ExpressionError;

#[derive(Default)]
pub(super) struct EventContext();

impl Expression {
    pub(super) fn parse(_: &str) -> Result<Self, ExpressionError> {
        Err(ExpressionError)
    }

    pub(super) fn matches(&self, _: &CloudEvent, _: &mut EventContext) -> Result<bool, Unmatched> {
        match *self {}
    }
}
