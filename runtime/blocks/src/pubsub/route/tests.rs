#![allow(clippy::unwrap_used)]

use components::port::pubsub::{Epoch, Identity, Message, NodeId, StreamId, Topic};
use proptest::prelude::*;

use super::*;
use crate::pubsub::cloudevent::EventSource;

/// Returns the path of an order with this data.
fn route<'r>(routes: &'r Routes, data: &str) -> Option<&'r str> {
    let message = Message {
        content_type: Some("application/json".into()),
        attributes: vec![("type".into(), "order".into())],
        data: data.as_bytes().to_vec(),
        ..Message::default()
    };
    let identity = Identity { node: NodeId("n".into()), epoch: Epoch(1) };
    let source = EventSource { identity: &identity, stream: StreamId(1) };
    let topic = Topic::new("p", "t");
    routes.route(&CloudEvent::of(&topic, &message, source, 0))
}

fn routes(rules: &[(&str, &str)], default_route: Option<&str>) -> Result<Routes, RouteError> {
    let rules: Vec<Rule> = rules
        .iter()
        .map(|(matches, path)| Rule { matches: (*matches).into(), path: (*path).into() })
        .collect();
    Routes::compile("p/t", &rules, default_route)
}

fn matches(rule: &str, data: &str) -> bool {
    route(&routes(&[(rule, "/a")], None).unwrap(), data).is_some()
}

#[test]
fn the_first_rule_that_matches_wins() {
    let routes = routes(
        &[
            (r#"event.type == "other""#, "/other"),
            (r#"event.type == "order" && event.data.total > 100"#, "big"),
            (r#"event.type == "order""#, "/order"),
        ],
        Some("/rest"),
    )
    .unwrap();
    assert_eq!(route(&routes, r#"{"total":101}"#), Some("/big"));
    assert_eq!(route(&routes, r#"{"total":1}"#), Some("/order"));
}

#[test]
fn an_empty_match_is_the_default_wherever_it_stands() {
    let routes = routes(&[("  ", "/first"), ("true", "/second")], Some("/last")).unwrap();
    assert_eq!(route(&routes, "1"), Some("/first"));
}

#[test]
fn without_a_match_and_a_default_there_is_no_route() {
    assert!(!matches("false", "{}"));
}

#[test]
fn a_rule_that_cannot_be_evaluated_does_not_match() {
    for rule in ["event.missing == 1", "event.data.a.b.c", "1", "nothing", "1 / 0 == 1", "f(1)"] {
        let routes = routes(&[(rule, "/a")], Some("/default")).unwrap();
        assert_eq!(route(&routes, "{}"), Some("/default"), "{rule}");
    }
}

#[test]
fn the_ways_that_rules_are_written_work() {
    let data = r#"{"important":true,"n":5,"f":1.5,"tags":["a","b"],"who":{"name":"x"}}"#;
    for rule in [
        "event.data.important == true",
        "event.data.important",
        "event.data.n == 5",
        "event.data.n > 4.5",
        "event.data.f < 2",
        "int(event.data.n) >= 5",
        r#""a" in event.data.tags"#,
        "has(event.data.who) && !has(event.data.nobody)",
        r#"event.data.who.name == "x""#,
        r#"event.type.startsWith("ord")"#,
        r#"event["type"] == "order""#,
        r#"event.data.tags.exists(tag, tag == "b")"#,
        "size(event.data.tags) == 2",
        r#"event.topic == "t" && event.pubsubname == "p""#,
        r#"event.data.n == 5 ? event.type != "x" : false"#,
    ] {
        assert!(matches(rule, data), "{rule}");
    }
}

#[test]
fn an_error_names_the_subscription_the_rule_and_the_remedy() {
    let error = routes(&[("event.type ==", "/a")], None).unwrap_err().to_string();
    for part in ["p/t", "event.type ==", "compare `event`"] {
        assert!(error.contains(part), "{error}");
    }
    let error = routes(&[("true", "/a b")], None).unwrap_err();
    assert!(matches!(error, RouteError::Path { .. }));
}

#[test]
fn rules_are_bounded_in_length_nesting_and_number() {
    let long = format!("\"{}\" == \"\"", "x".repeat(MAX_RULE_BYTES));
    assert!(matches!(routes(&[(&long, "/")], None), Err(RouteError::TooLong { .. })));
    let deep = format!("{}1{} == 1", "[".repeat(300), "]".repeat(300));
    assert!(matches!(routes(&[(&deep, "/")], None), Err(RouteError::Syntax { .. })));
    let many = vec![("true", "/"); MAX_RULES + 1];
    assert!(matches!(routes(&many, None), Err(RouteError::TooMany { .. })));
}

#[test]
fn loops_in_loops_end_at_the_limit_of_work() {
    let digits = "[0,1,2,3,4,5,6,7,8,9]";
    let mut rule = "x == 11".to_owned();
    for _ in 0..9 {
        rule = format!("{digits}.exists(x, {rule})");
    }
    assert!(!matches(&rule, "{}"), "a thousand million turns would have been taken");
    let items = format!("{:?}", vec![1; 3000]);
    assert!(matches("event.data.all(x, x == 1)", &items));
    assert!(!matches("event.data.all(x, event.data.all(y, y == 1))", &items));
}

#[test]
fn sums_and_lists_of_large_parts_end_at_the_limit_of_work() {
    let text = format!("{:?}", "x".repeat(MAX_RULE_WORK / 4));
    assert!(matches("event.data != ''", &text));
    assert!(matches("event.data + 'x' != ''", &text));
    for rule in [
        "event.data + event.data + event.data != ''",
        "[event.data, event.data, event.data, event.data] != []",
        "{1: event.data, 2: [event.data], 3: [event.data]} != {}",
        "[event.data].map(a, [a, a].map(b, [b, b].map(c, c + c))) != []",
    ] {
        assert!(!matches(rule, &text), "{rule}");
    }
}

#[test]
fn each_rule_has_its_own_limit_of_work() {
    let rule = "event.data.exists(x, event.data.exists(y, y == 2))";
    let rules = [(rule, "/a"), ("event.data.all(x, x == 1)", "/b")];
    let items = format!("{:?}", vec![1; 3000]);
    assert_eq!(route(&routes(&rules, None).unwrap(), &items), Some("/b"));
}

#[test]
fn counting_changes_no_result() {
    let data = r#"{"n":[1,2,3],"s":"ab","m":{"k":[1]}}"#;
    for rule in [
        "event.data.n.map(x, x * 2) == [2, 4, 6]",
        "event.data.n.map(x, x > 1, x * 2) == [4, 6]",
        "event.data.n.filter(x, x > 1) == [2, 3]",
        "event.data.n.exists_one(x, x == 2)",
        "event.data.n.map(x, event.data.n.map(y, x + y)) == [[2, 3, 4], [3, 4, 5], [4, 5, 6]]",
        "event.data.s + 'c' == 'abc'",
        "event.data.n + [4] == [1, 2, 3, 4]",
        "event.data.m.map(k, k) == ['k']",
        "{'a': event.data.m}.a.k[0] == 1",
        "type(event.data.s) in [int, string]",
        "[1, 'x'].exists(event, event == 'x')",
    ] {
        assert!(matches(rule, data), "{rule}");
    }
}

#[test]
fn no_expression_or_event_panics() {
    let chain = format!("1{} > 0", "+1".repeat(500));
    let negations = format!("{}true", "!".repeat(1000));
    let minus = format!("{}1 == 1", "-".repeat(1000));
    let index = format!("event{}", "[0]".repeat(300));
    let select = format!("event{}", ".a".repeat(400));
    let lists = format!("{}{}", "[".repeat(400), "]".repeat(400));
    let ternary = format!("{}true", "true ? true : ".repeat(60));
    let ugly = [
        chain.as_str(),
        &negations,
        &minus,
        &index,
        &select,
        &lists,
        &ternary,
        "99999999999999999999",
        "0x",
        "0xfffffffffffffffffff",
        "1e999",
        "-9223372036854775808 / -1 == 0",
        "-9223372036854775808 % -1 == 0",
        "9223372036854775807 + 1 == 0",
        "-(-9223372036854775808) == 0",
        "9223372036854775807 * 2 == 0",
        "18446744073709551615u + 1u == 0u",
        "0u - 1u == 0u",
        "int(1e300) == 0",
        "int('x') == 0",
        "uint(-1) == 0u",
        "double('x') == 0.0",
        "string(event) == ''",
        "'\\ud800' == ''",
        "'\\u{110000}'",
        "'\\777'",
        "'\\xzz'",
        "b'\\xff' == b''",
        "r'\\'",
        "'''",
        "\"",
        "'é'[0] == 'é'",
        "'abc'[99] == 'a'",
        "[1,2][9999999999] == 1",
        "[1][-1] == 1",
        "{1:2}[3] == 2",
        "{1:1, 1:2}.size() == 1",
        "size() == 1",
        "has(event)",
        "has()",
        "event.map(x)",
        "event.map(x, x)",
        "event.map(1, x)",
        "event.all(x, y, z, w)",
        "event.data.matches('(')",
        "matches(1)",
        "event.exists(event, event == event)",
        "[1].map(x, [x].map(y, [y].map(z, z))) == 1",
        "duration('x') == 1",
        "timestamp('x') == 1",
        "timestamp(0)",
        "type(event) == map",
        "dyn(event) == 1",
        "event == event",
        "event < event",
        "event + event",
        "!event",
        "-event",
        "event in event",
        "null == null",
        "null < null",
        "''.size() == 0",
        "'a'.contains()",
        "'a'.startsWith(1)",
        "a.b.c.d()",
        "a{b: 1}",
        "google.protobuf.Duration{seconds: 1}",
        ".event",
        "event.`data`",
        "event?.data",
        "event[?'data']",
        "optional.of(1)",
        "in",
        "if",
        "?",
        ":",
        ",",
        ";",
        "//",
        "/*",
        "#",
        "\\",
        "\0",
        "event\u{feff}",
        "ｅvent",
        "🦀 == 🦀",
        "__not_strictly_false__(1)",
        "_+_(1, 2)",
        "@in(1, 2)",
        "1 ? 2 : 3",
        "true && 1",
        "1 || true",
        "false || error()",
        "1.0 / 0.0 == 1.0",
        "1 % 0 == 1",
    ];
    let nested = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let data = [r#"{"a":{"a":null}}"#, "null", "[]", "\"\\ud800\"", "1e999", "-0", &nested];
    for rule in ugly {
        if let Ok(routes) = routes(&[(rule, "/a")], Some("/default")) {
            for data in data {
                assert!(route(&routes, data).is_some(), "{rule}");
            }
        }
    }
}

const TOKENS: [&str; 44] = [
    "event",
    ".",
    "data",
    "type",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "'a'",
    "\"",
    "'",
    "1",
    "-",
    "+",
    "*",
    "/",
    "%",
    "==",
    "!=",
    "<",
    ">=",
    "&&",
    "||",
    "!",
    "?",
    ":",
    ",",
    "in",
    "has(",
    "size(",
    "all(",
    "map(",
    "x",
    "null",
    "true",
    "1u",
    "1.5",
    "9223372036854775807",
    "b'",
    "r\"",
    "\\",
    " ",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_sequence_of_tokens_panics(
        tokens in prop::collection::vec(prop::sample::select(&TOKENS[..]), 0..24),
    ) {
        if let Ok(routes) = routes(&[(&tokens.concat(), "/a")], None) {
            let _ = route(&routes, r#"{"x":[1,"a"],"type":{}}"#);
        }
    }

    #[test]
    fn no_text_panics(rule in "\\PC{0,60}") {
        if let Ok(routes) = routes(&[(&rule, "/a")], None) {
            let _ = route(&routes, "{}");
        }
    }
}
