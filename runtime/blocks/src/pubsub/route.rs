//! The route of an event within an app: rules in the Common Expression Language, then a default.

use config::model::{Rule, SubscriptionSpec};

use super::cloudevent::CloudEvent;
use expression::{EventContext, Expression, ExpressionError};

#[cfg(feature = "cel")]
mod budget;
#[cfg(feature = "cel")]
mod expression;
#[cfg(not(feature = "cel"))]
#[path = "route/no_expression.rs"]
mod expression;

/// Bytes that one rule may loop over, add up and put into lists and maps for one event: some tens
/// of thousands of turns of a loop.
pub const MAX_RULE_WORK: usize = 1 << 20;

/// Bytes of one expression: rules are written by hand, and each runs for every message.
pub const MAX_RULE_BYTES: usize = 1024;

/// Rules of one subscription.
pub const MAX_RULES: usize = 100;

/// Routes of a subscription that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// An expression can't be used.
    #[error("rule {rule:?} of the subscription to {subscription} {source}")]
    Syntax {
        /// The subscription, as `pubsub/topic`.
        subscription: String,
        /// The rule as written.
        rule: String,
        /// The cause and the remedy.
        source: ExpressionError,
    },
    /// An expression is too long.
    #[error(
        "a rule of the subscription to {subscription} has {bytes} bytes, the limit is {MAX_RULE_BYTES}: shorten it, or split it into several rules of one path"
    )]
    TooLong {
        /// The subscription, as `pubsub/topic`.
        subscription: String,
        /// Its length.
        bytes: usize,
    },
    /// There are too many rules.
    #[error(
        "the subscription to {subscription} has {rules} rules, the limit is {MAX_RULES}: join some with ||"
    )]
    TooMany {
        /// The subscription, as `pubsub/topic`.
        subscription: String,
        /// The number of rules.
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
    rules: Vec<CompiledRule>,
}

/// An expression without a boolean result.
#[cfg_attr(not(feature = "cel"), expect(dead_code, reason = "there are no expressions"))]
enum Unmatched {
    NoBoolean,
    TooMuchWork,
    /// The name of the error. Its values come from the message, so they stay out of the log.
    Failed(String),
}

#[derive(Debug)]
struct CompiledRule {
    /// `None` matches everything.
    matches: Option<(String, Expression)>,
    path: String,
}

impl Routes {
    /// Compiles the rules; `subscription` is its name in errors and logs (`pubsub/topic`).
    ///
    /// # Errors
    ///
    /// At the first rule or path that can't be used.
    pub fn compile(
        subscription: &str,
        rules: &[Rule],
        default_route: Option<&str>,
    ) -> Result<Self, RouteError> {
        if rules.len() > MAX_RULES {
            return Err(too_many(subscription, rules));
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

    /// Returns all problems with the routes of a `Subscription` resource; each names the rule by its
    /// field.
    pub fn problems(subscription: &str, spec: &SubscriptionSpec) -> Vec<String> {
        let SubscriptionSpec { rules, default_route, .. } = spec;
        let too_many = (rules.len() > MAX_RULES).then(|| too_many(subscription, rules).to_string());
        let each = rules.iter().enumerate().filter_map(|(at, rule)| {
            let error = compile(subscription, rule.matches.trim(), &rule.path).err()?;
            Some(format!("spec.routes.rules[{at}]: {error}"))
        });
        let default = default_route.iter().filter_map(|path| {
            compile(subscription, "", path).err().map(|error| error.to_string())
        });
        too_many.into_iter().chain(each).chain(default).collect()
    }

    /// Returns the path of the first rule that matches. A rule that can't be evaluated doesn't match.
    #[must_use]
    pub fn route(&self, event: &CloudEvent) -> Option<&str> {
        let mut context = EventContext::default();
        let matching = self.rules.iter().find(|rule| self.matches(rule, event, &mut context));
        matching.map(|rule| rule.path.as_str())
    }

    fn matches(&self, rule: &CompiledRule, event: &CloudEvent, context: &mut EventContext) -> bool {
        let Some((text, expression)) = &rule.matches else { return true };
        let unmatched = match expression.matches(event, context) {
            Ok(matches) => return matches,
            Err(unmatched) => unmatched,
        };
        let subscription = &self.subscription;
        let rule = text;
        match unmatched {
            Unmatched::NoBoolean => {
                tracing::warn!(subscription, rule, "a routing rule gave no boolean");
            }
            Unmatched::TooMuchWork => tracing::warn!(
                subscription,
                rule,
                limit = MAX_RULE_WORK,
                "a routing rule handles more bytes of an event than a rule may, it doesn't match"
            ),
            Unmatched::Failed(error) => {
                tracing::debug!(subscription, rule, error, "a routing rule can't be evaluated");
            }
        }
        false
    }
}

fn too_many(subscription: &str, rules: &[Rule]) -> RouteError {
    RouteError::TooMany { subscription: subscription.to_owned(), rules: rules.len() }
}

/// Tells whether a text can be sent as the path of an HTTP request. Servers take more than RFC 9112
/// (section 3.2.1) allows, but no client sends spaces, control characters or the delimiters `<`, `>`
/// and `` ` ``.
#[must_use]
pub fn is_path(text: &str) -> bool {
    text.bytes().all(|byte| byte > b' ' && !b"<>`\x7f".contains(&byte))
}

fn compile(subscription: &str, matches: &str, path: &str) -> Result<CompiledRule, RouteError> {
    let subscription = || subscription.to_owned();
    let path = format!("/{}", path.trim_start_matches('/'));
    if !is_path(&path) {
        return Err(RouteError::Path { subscription: subscription(), path });
    }
    if matches.is_empty() {
        return Ok(CompiledRule { matches: None, path });
    }
    if matches.len() > MAX_RULE_BYTES {
        return Err(RouteError::TooLong { subscription: subscription(), bytes: matches.len() });
    }
    let expression = Expression::parse(matches).map_err(|source| RouteError::Syntax {
        subscription: subscription(),
        rule: matches.to_owned(),
        source,
    })?;
    Ok(CompiledRule { matches: Some((matches.to_owned(), expression)), path })
}

#[cfg(all(test, feature = "cel"))]
mod tests;
