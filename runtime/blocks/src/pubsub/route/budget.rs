//! Bounds the work of a rule: nested loops over a large message, and sums of sums, would otherwise take
//! unbounded time and memory.
//!
//! The parsed expression is changed so that it counts as it goes: whatever is looped over, added
//! up or put into a list or a map passes through [`SPEND`] first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, operators};
use cel::objects::Key;
use cel::{Context, ExecutionError, Value};

use super::MAX_RULE_WORK;

/// Bytes that a value costs beside its text.
const VALUE_BYTES: usize = 16;

/// The function that counts. No rule can write this name.
const SPEND: &str = "@spend";

/// The work that a rule may still do.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// Adds the function to `context`.
    pub(super) fn install(&self, context: &mut Context<'_, '_>) {
        let budget = self.clone();
        let spend = move |value: Value| {
            budget.spend(&value).then_some(value).ok_or_else(|| {
                ExecutionError::function_error(SPEND, "the rule handles more than a rule may")
            })
        };
        context.add_function(SPEND, spend).expect("no overload has this name");
    }

    /// Restores the full budget.
    pub(super) fn renew(&self) {
        self.0.store(MAX_RULE_WORK, Ordering::Relaxed);
    }

    /// Returns whether the rule has used up its budget.
    pub(super) fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Charges the cost of `value`. Returns whether the budget covers it and something is left.
    fn spend(&self, value: &Value) -> bool {
        let mut left = self.0.load(Ordering::Relaxed);
        let enough = charge(value, &mut left);
        self.0.store(if enough { left } else { 0 }, Ordering::Relaxed);
        enough && left > 0
    }
}

/// Subtracts the cost of `value` from `left`; stops and returns false where it exceeds that.
fn charge(value: &Value, left: &mut usize) -> bool {
    let own = VALUE_BYTES
        + match value {
            Value::String(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Map(map) => map.map.keys().map(key_bytes).sum(),
            _ => 0,
        };
    let Some(rest) = left.checked_sub(own) else { return false };
    *left = rest;
    match value {
        Value::List(items) => items.iter().all(|item| charge(item, left)),
        Value::Map(map) => map.map.values().all(|item| charge(item, left)),
        _ => true,
    }
}

fn key_bytes(key: &Key) -> usize {
    match key {
        Key::String(text) => VALUE_BYTES + text.len(),
        _ => VALUE_BYTES,
    }
}

/// Inserts the counting into an expression in which `event` is the only variable.
pub(super) fn bound(expression: &mut IdedExpr) {
    let mut variables = vec!["event".to_owned()];
    visit(expression, &mut variables);
}

fn visit(expression: &mut IdedExpr, variables: &mut Vec<String>) {
    match &mut expression.expr {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| visit(target, variables));
            call.args.iter_mut().for_each(|arg| visit(arg, variables));
            if call.func_name == operators::ADD {
                call.args.iter_mut().for_each(|arg| count(arg, variables));
            }
        }
        Expr::Comprehension(comprehension) => {
            visit(&mut comprehension.iter_range, variables);
            count(&mut comprehension.iter_range, variables);
            variables.push(comprehension.iter_var.clone());
            visit_step(&mut comprehension.loop_step, &comprehension.accu_var, variables);
            variables.pop();
        }
        Expr::List(list) => {
            for element in &mut list.elements {
                visit(element, variables);
                count(element, variables);
            }
        }
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    for part in [&mut entry.key, &mut entry.value] {
                        visit(part, variables);
                        count(part, variables);
                    }
                }
            }
        }
        Expr::Select(select) => visit(&mut select.operand, variables),
        _ => {}
    }
}

/// Visits the step of a loop. Appending to the result of `map` and `filter` keeps the shape that the
/// interpreter appends to without a copy.
fn visit_step(step: &mut IdedExpr, result: &str, variables: &mut Vec<String>) {
    let is_result = |part: &IdedExpr| matches!(&part.expr, Expr::Ident(name) if name == result);
    match &mut step.expr {
        Expr::Call(call) if call.func_name == operators::ADD && call.args.iter().any(is_result) => {
            call.args.iter_mut().for_each(|arg| visit(arg, variables));
        }
        Expr::Call(call) => call.args.iter_mut().for_each(|arg| visit_step(arg, result, variables)),
        _ => visit(step, variables),
    }
}

/// Wraps a part that may be large: neither a literal nor the name of a type.
fn count(part: &mut IdedExpr, variables: &[String]) {
    let small = match &part.expr {
        Expr::Literal(_) => true,
        Expr::Ident(name) => !variables.contains(name),
        _ => false,
    };
    if !small {
        let id = part.id;
        let args = vec![std::mem::take(part)];
        let call = CallExpr { func_name: SPEND.to_owned(), target: None, args };
        *part = IdedExpr { id, expr: Expr::Call(call) };
    }
}
