//! One rule's expression, in the Common Expression Language.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::objects::Key;
use cel::parser::{ParseErrors, PrattParser};
use cel::{Context, Env, IdedExpr, Value};

use super::Unmatched;
use super::budget::{self, Budget};
use crate::pubsub::cloudevent::CloudEvent;

/// Maximum nesting of an expression: parsing and evaluation recurse.
const MAX_DEPTH: u16 = 32;

/// Maximum parts of an expression: a chain of operators nests as deep as it is long.
const MAX_NODES: usize = 256;

static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A parsed expression.
#[derive(Debug)]
pub(super) struct Expression(IdedExpr);

/// A text that is no expression.
#[derive(Debug, thiserror::Error)]
#[error(
    "is not a CEL expression ({}): compare `event` with something, as in event.type == \"order\"",
    .0.to_string().replace('\n', " ")
)]
pub struct ExpressionError(#[source] ParseErrors);

/// An event as a variable of expressions, made for the first one that is evaluated.
#[derive(Default)]
pub(super) struct EventContext<'c>(Option<(Context<'c, 'c>, Budget)>);

impl Expression {
    pub(super) fn parse(text: &str) -> Result<Self, ExpressionError> {
        PrattParser::new()
            .max_recursion_depth(MAX_DEPTH)
            .max_expression_node_count(MAX_NODES)
            .parse(text)
            .map(|mut expression| {
                budget::bound(&mut expression);
                Self(expression)
            })
            .map_err(ExpressionError)
    }

    pub(super) fn matches(
        &self,
        event: &CloudEvent,
        context: &mut EventContext<'_>,
    ) -> Result<bool, Unmatched> {
        let (context, budget) = context.0.get_or_insert_with(|| context_of(event));
        budget.renew();
        match Value::resolve(&self.0, context) {
            Ok(Value::Bool(matches)) => Ok(matches),
            Ok(_) => Err(Unmatched::NoBoolean),
            Err(_) if budget.is_spent() => Err(Unmatched::TooMuchWork),
            Err(error) => Err(Unmatched::Failed(reason(&error))),
        }
    }
}

fn context_of<'c>(event: &CloudEvent) -> (Context<'c, 'c>, Budget) {
    let fields = event.fields().map(|(name, raw)| {
        // A value that nests too deep to be read is compared as text.
        let value = serde_json::from_str(raw.get()).map_or_else(|_| text(raw.get()), from_json);
        (Key::from(name.to_owned()), value)
    });
    let map: HashMap<Key, Value> = fields.collect();
    let mut context = Context::with_env(STANDARD.clone());
    context.add_variable_from_value("event", Value::Map(map.into()));
    let budget = Budget::default();
    budget.install(&mut context);
    (context, budget)
}

fn from_json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value),
            (None, Some(value)) => Value::UInt(value),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(value) => text(&value),
        serde_json::Value::Array(items) => {
            Value::List(Arc::new(items.into_iter().map(from_json).collect()))
        }
        serde_json::Value::Object(fields) => {
            let map: HashMap<Key, Value> =
                fields.into_iter().map(|(name, value)| (name.into(), from_json(value))).collect();
            Value::Map(map.into())
        }
    }
}

fn text(value: &str) -> Value {
    Value::String(Arc::new(value.to_owned()))
}

fn reason(error: &cel::ExecutionError) -> String {
    let text = format!("{error:?}");
    text.split(['(', '{']).next().unwrap_or_default().trim().to_owned()
}
