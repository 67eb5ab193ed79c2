//! Circles of modules: siblings that need one another, directly or by way of other siblings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

use crate::modules::Reference;

/// Modules with the same parent, each of which needs all others.
#[derive(Debug)]
pub(crate) struct Circle {
    /// `crate::parent: one <-> other`.
    pub(crate) name: String,
    /// Each edge of the circle, with a path in the source that makes it one.
    pub(crate) edges: Vec<String>,
}

impl Display for Circle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    {}", self.name, self.edges.join("\n    "))
    }
}

/// Finds the circles in the crate of that name, where a module stands for all that is inside of it.
pub(crate) fn find(crate_name: &str, references: &[Reference]) -> Vec<Circle> {
    let mut parents: BTreeMap<&[String], Needs<'_>> = BTreeMap::new();
    for reference in references {
        let shared = reference.from.iter().zip(&reference.to).take_while(|(a, b)| a == b).count();
        let needs = parents.entry(&reference.from[..shared]).or_default();
        let by = needs.entry(&reference.from[shared]).or_default();
        by.entry(&reference.to[shared]).or_insert(reference);
    }
    let mut circles = Vec::new();
    for (parent, needs) in &parents {
        let parent = [&[crate_name.to_owned()], *parent].concat().join("::");
        circles.extend(among(needs).iter().map(|members| describe(&parent, members, needs)));
    }
    circles
}

/// For each module, the siblings that it needs, with one reference for each.
type Needs<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a Reference>>;

/// Returns the members of each circle.
fn among<'a>(needs: &Needs<'a>) -> BTreeSet<Vec<&'a str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        needs.keys().map(|module| (*module, reach(module, needs))).collect();
    let mut circles = BTreeSet::new();
    for (module, others) in &reached {
        // A module that reaches itself is part of a circle, with all that reach it in turn.
        if others.contains(module) {
            let back = |other: &&&str| reached.get(**other).is_some_and(|all| all.contains(module));
            circles.insert(others.iter().filter(back).copied().collect::<Vec<_>>());
        }
    }
    circles
}

/// Returns all siblings that a module needs, directly or not: itself too if it is part of a circle.
fn reach<'a>(module: &str, needs: &Needs<'a>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![module];
    while let Some(module) = open.pop() {
        for needed in needs.get(module).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(*needed) {
                open.push(needed);
            }
        }
    }
    reached
}

fn describe(parent: &str, members: &[&str], needs: &Needs<'_>) -> Circle {
    let mut edges = Vec::new();
    for from in members {
        for (to, reference) in needs[from].iter().filter(|(to, _)| members.contains(to)) {
            let Reference { from: module, path, .. } = reference;
            edges.push(format!("{from} -> {to}, by {path} in {}", module.join("::")));
        }
    }
    Circle { name: format!("{parent}: {}", members.join(" <-> ")), edges }
}

#[cfg(test)]
mod tests {
    use crate::modules::ModulePath;

    use super::*;

    fn path(text: &str) -> ModulePath {
        text.split("::").map(str::to_owned).collect()
    }

    /// Circles of a crate with these edges.
    fn circles(edges: &[&str]) -> Vec<Circle> {
        let references = edges.iter().map(|edge| {
            let (from, to) = edge.split_once(" -> ").unwrap();
            Reference { from: path(from), to: path(to), path: format!("crate::{to}") }
        });
        find("x", &references.collect::<Vec<_>>())
    }

    fn names(edges: &[&str]) -> Vec<String> {
        circles(edges).into_iter().map(|circle| circle.name).collect()
    }

    #[test]
    fn siblings_in_layers_make_no_circle() {
        assert!(names(&["api -> app", "api -> text", "app -> text"]).is_empty());
    }

    #[test]
    fn two_siblings_that_need_one_another_are_a_circle() {
        assert_eq!(names(&["app -> pubsub", "pubsub -> app", "api -> app"]), ["x: app <-> pubsub"]);
    }

    #[test]
    fn a_circle_may_lead_through_other_siblings() {
        let edges = ["a -> b", "b -> c", "c -> a", "c -> d", "e -> a"];
        assert_eq!(names(&edges), ["x: a <-> b <-> c"]);
    }

    #[test]
    fn a_module_stands_for_all_that_is_inside_of_it() {
        assert_eq!(names(&["app::start -> pubsub::route", "pubsub -> app"]), ["x: app <-> pubsub"]);
    }

    #[test]
    fn siblings_inside_of_a_module_are_looked_at_too() {
        let edges = ["uplink::sink -> uplink::acks", "uplink::acks -> uplink::sink::slot"];
        assert_eq!(names(&edges), ["x::uplink: acks <-> sink"]);
    }

    #[test]
    fn each_circle_is_found_once() {
        assert_eq!(names(&["a -> b", "b -> a", "c -> d", "d -> c"]), ["x: a <-> b", "x: c <-> d"]);
    }

    #[test]
    fn an_edge_is_named_with_the_path_that_makes_it_one() {
        let found = circles(&["app::start -> pubsub", "pubsub -> app", "pubsub -> text"]);
        let expected = [
            "app -> pubsub, by crate::pubsub in app::start",
            "pubsub -> app, by crate::app in pubsub",
        ];
        assert_eq!(found[0].edges, expected);
    }
}
