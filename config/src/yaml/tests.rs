#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

/// Returns the only document of a text without faults.
fn document(text: &str) -> YamlNode {
    let (mut documents, faults) = read(text);
    assert_eq!(faults, Vec::new());
    assert_eq!(documents.len(), 1, "{documents:?}");
    documents.remove(0)
}

/// Returns the only fault of a text, as `line: problem`.
fn fault(text: &str) -> String {
    let (_, faults) = read(text);
    assert_eq!(faults.len(), 1, "{faults:?}");
    format!("{}: {}", faults[0].line, faults[0].problem)
}

fn entries(node: &YamlNode) -> &[MapEntry] {
    let YamlValue::Map(entries) = &node.value else { panic!("not a map: {node:?}") };
    entries
}

/// Returns an entry whose key and value are on the same line.
fn entry(line: usize, key: &str, value: YamlValue) -> MapEntry {
    MapEntry { line, key: key.into(), value: YamlNode { line, value } }
}

fn plain(text: &str) -> YamlValue {
    YamlValue::Scalar { text: text.into(), quoted: false }
}

#[test]
fn every_entry_has_its_line() {
    let node = document("a: 1\n\n# a comment\nb: ~\nc: '5'\n");
    let quoted = YamlValue::Scalar { text: "5".into(), quoted: true };
    assert_eq!(
        entries(&node),
        [entry(1, "a", plain("1")), entry(4, "b", YamlValue::Null), entry(5, "c", quoted)]
    );
}

#[test]
fn documents_are_split_and_empty_ones_left_out() {
    let (documents, faults) = read("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n...\n");
    assert_eq!((documents.len(), faults.len()), (2, 0));
    assert_eq!(documents[1].line, 7);
    assert_eq!(read(""), (Vec::new(), Vec::new()));
    assert_eq!(read("# only a comment\n"), (Vec::new(), Vec::new()));
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_do_no_harm() {
    let node = document("\u{feff}a: 1\r\nb: 2\r\n");
    assert_eq!(entries(&node), [entry(1, "a", plain("1")), entry(2, "b", plain("2"))]);
}

#[test]
fn a_fault_in_one_document_does_not_hide_the_next() {
    let (documents, faults) = read("a: [1\n---\nb: 2\n---\nc: }\n---\nd: 4\n");
    let lines: Vec<_> = documents.iter().map(|node| node.line).collect();
    assert_eq!(lines, [3, 7], "{faults:?}");
    assert_eq!(faults.len(), 2, "{faults:?}");
}

#[test]
fn a_fault_on_a_document_marker_is_reported_once() {
    let (documents, faults) = read("a: 1\n--- }\n---\nb: 2\n");
    assert_eq!((documents.len(), faults.len()), (2, 1), "{faults:?}");
    assert_eq!(faults[0].line, 2);
}

#[test]
fn tabs_in_the_indentation_are_named() {
    assert_eq!(fault("a:\n\tb: 1\n"), "2: a tab in the indentation");
    assert_eq!(fault("a:\n  b: 1\n  \tc: 2\n"), "3: a tab in the indentation");
    assert_eq!(fault("x: 1\n---\na:\n\tb: 1\n"), "4: a tab in the indentation");
}

#[test]
fn duplicate_keys_name_both_lines() {
    assert_eq!(
        fault("a: 1\nb:\n  c: 1\n  c: 2\n"),
        "4: the key \"c\" is written twice; it is on line 3 too"
    );
}

#[test]
fn aliases_are_copies_of_their_anchors() {
    let node = document("a: &x {b: 1}\nc: *x\n");
    let all = entries(&node);
    assert_eq!(all[0].value.value, all[1].value.value);
}

#[test]
fn aliases_do_not_reach_into_other_documents_or_into_themselves() {
    assert!(fault("a: &x 1\n---\nb: *x\n").starts_with("3: an alias"));
    assert!(fault("a: &x [*x]\n").starts_with("1: an alias"));
}

#[test]
fn a_billion_laughs_are_refused() {
    let mut text = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..12 {
        let before = format!("*a{},", level - 1).repeat(9);
        writeln!(text, "a{level}: &a{level} [{before}]").unwrap();
    }
    assert!(fault(&text).contains("MiB of memory"));
}

#[test]
fn a_long_text_is_not_copied_without_end() {
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a, ".repeat(1_000));
    assert!(fault(&text).contains("MiB of memory"));
}

#[test]
fn nesting_is_bounded_with_and_without_aliases() {
    assert!(fault(&"[".repeat(200)).contains("nested deeper than 32 levels"));
    assert!(fault(&"- ".repeat(20_000)).contains("nested deeper"));
    let mut text = String::from("- &a0 []\n");
    for level in 1..100 {
        writeln!(text, "- &a{level} [*a{}]", level - 1).unwrap();
    }
    assert!(fault(&text).contains("nested deeper"));
}

#[test]
fn merge_keys_odd_keys_and_foreign_tags_are_refused() {
    assert!(fault("a: &x {b: 1}\nc:\n  <<: *x\n").starts_with("3: merge keys"));
    assert!(fault("? [a]\n: 1\n").contains("a key that is a list or a map"));
    assert!(fault("a: !ruby/object 1\n").starts_with("1: the tag"));
    assert_eq!(document("a: !!str 5\n"), document("a: '5'\n"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        read(&text);
    }

    #[test]
    fn no_text_of_yaml_signs_makes_it_panic(text in "[-a: \t\n&*<{}\\[\\],'\"|>?!%#~]{0,80}") {
        read(&text);
    }
}
