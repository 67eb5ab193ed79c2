//! Where an event goes within an app: rules in the Common Expression Language, then a default.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::objects::Key;
use cel::parser::PrattParser;
use cel::{Context, Env, IdedExpr, Value};
use config::model::Rule;

use super::cloudevent::Event;
use budget::Budget;

mod budget;

pub use budget::MAX_RULE_WORK;

/// Bytes of one expression: rules are written by hand, and each runs for every message.
pub const MAX_RULE_BYTES: usize = 1024;

/// Rules of one subscription.
pub const MAX_RULES: usize = 100;

/// Nesting of an expression: parsing and evaluation recurse.
const MAX_DEPTH: u16 = 32;

/// Parts of an expression: a chain of operators nests as deep as it is long.
const MAX_NODES: usize = 256;

static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Why a subscription's routes can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// An expression is no CEL.
    #[error(
        "rule {rule:?} of the subscription to {subscription} is no CEL expression ({cause}): compare `event` with something, as in event.type == \"order\""
    )]
    Syntax {
        /// The subscription, as `pubsub/topic`.
        subscription: String,
        /// The rule as written.
        rule: String,
        /// What the parser says.
        cause: String,
    },
    /// An expression is too long.
    #[error(
        "a rule of the subscription to {subscription} has {bytes} bytes, the limit is {MAX_RULE_BYTES}: shorten it, or split it into several rules of one path"
    )]
    TooLong {
        /// The subscription, as `pubsub/topic`.
        subscription: String,
        /// How long it is.
        bytes: usize,
    },
    /// There are too many rules.
    #[error(
        "the subscription to {subscription} has {rules} rules, the limit is {MAX_RULES}: join some with ||"
    )]
    TooMany {
        /// The subscription, as `pubsub/topic`.
        subscription: String,
        /// How many there are.
        rules: usize,
    },
    /// A path can't be posted to.
    #[error("path {path:?} of the subscription to {subscription} is no HTTP path: escape it")]
    Path {
        /// The subscription, as `pubsub/topic`.
        subscription: String,
        /// The path as written.
        path: String,
    },
}

/// The routes of one subscription, compiled.
#[derive(Debug)]
pub struct Routes {
    subscription: String,
    rules: Vec<Compiled>,
}

#[derive(Debug)]
struct Compiled {
    /// `None` matches everything.
    matches: Option<(String, IdedExpr)>,
    path: String,
}

impl Routes {
    /// Compiles the rules; `subscription` is what errors and logs call it (`pubsub/topic`).
    ///
    /// # Errors
    /// At the first rule or path that can't be used.
    pub fn compile(
        subscription: &str,
        rules: &[Rule],
        default_route: Option<&str>,
    ) -> Result<Self, RouteError> {
        if rules.len() > MAX_RULES {
            let subscription = subscription.to_owned();
            return Err(RouteError::TooMany { subscription, rules: rules.len() });
        }
        let default = default_route.map(|path| ("", path));
        let rules = rules
            .iter()
            .map(|rule| (rule.matches.trim(), rule.path.as_str()))
            .chain(default)
            .map(|(matches, path)| compile(subscription, matches, path))
            .collect::<Result<_, _>>()?;
        Ok(Self { subscription: subscription.to_owned(), rules })
    }

    /// The path of the first rule that matches. A rule that can't be evaluated doesn't match.
    #[must_use]
    pub fn route(&self, event: &Event) -> Option<&str> {
        let mut context = None;
        self.rules.iter().find(|rule| self.matches(rule, event, &mut context)).map(Compiled::path)
    }

    fn matches<'c>(
        &self,
        rule: &Compiled,
        event: &Event,
        context: &mut Option<(Context<'c, 'c>, Budget)>,
    ) -> bool {
        let Some((text, expression)) = &rule.matches else { return true };
        let (context, budget) = context.get_or_insert_with(|| context_of(event));
        budget.renew();
        match Value::resolve(expression, context) {
            Ok(Value::Bool(matches)) => matches,
            Ok(_) => {
                let (subscription, rule) = (&self.subscription, text);
                tracing::warn!(subscription, rule, "a routing rule gave no boolean");
                false
            }
            Err(_) if budget.is_spent() => {
                let (subscription, rule) = (&self.subscription, text);
                tracing::warn!(
                    subscription,
                    rule,
                    limit = MAX_RULE_WORK,
                    "a routing rule handles more bytes of an event than a rule may, it doesn't match"
                );
                false
            }
            Err(error) => {
                let (subscription, rule) = (&self.subscription, text);
                // The values in the error are the message's: they stay out of the log.
                let error = reason(&error);
                tracing::debug!(subscription, rule, error, "a routing rule can't be evaluated");
                false
            }
        }
    }
}

impl Compiled {
    fn path(&self) -> &str {
        &self.path
    }
}

fn compile(subscription: &str, matches: &str, path: &str) -> Result<Compiled, RouteError> {
    let subscription = || subscription.to_owned();
    let path = format!("/{}", path.trim_start_matches('/'));
    if path.parse::<http::uri::PathAndQuery>().is_err() {
        return Err(RouteError::Path { subscription: subscription(), path });
    }
    if matches.is_empty() {
        return Ok(Compiled { matches: None, path });
    }
    if matches.len() > MAX_RULE_BYTES {
        return Err(RouteError::TooLong { subscription: subscription(), bytes: matches.len() });
    }
    let expression = parse(matches).map_err(|cause| RouteError::Syntax {
        subscription: subscription(),
        rule: matches.to_owned(),
        cause,
    })?;
    Ok(Compiled { matches: Some((matches.to_owned(), expression)), path })
}

fn parse(matches: &str) -> Result<IdedExpr, String> {
    PrattParser::new()
        .max_recursion_depth(MAX_DEPTH)
        .max_expression_node_count(MAX_NODES)
        .parse(matches)
        .map(|mut expression| {
            budget::bound(&mut expression);
            expression
        })
        .map_err(|errors| errors.to_string().replace('\n', " "))
}

fn context_of<'c>(event: &Event) -> (Context<'c, 'c>, Budget) {
    let fields = event.fields().map(|(name, raw)| {
        // What nests too deep to be read is compared as text.
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

#[cfg(test)]
mod tests;
