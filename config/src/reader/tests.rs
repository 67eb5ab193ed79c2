#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;
use crate::yaml;

/// Reads the field `a` of a text. Returns its value and the errors.
fn with_field<T>(
    text: &str,
    read: impl FnOnce(Field<'_>) -> Option<T>,
) -> (Option<T>, Vec<String>) {
    let report = Report::default();
    let (documents, faults) = yaml::read(text);
    assert_eq!(faults, []);
    let document = Field::document(&report, Path::new("f"), &documents[0]);
    let value = document.fields().unwrap().get("a").and_then(read);
    let (errors, _) = report.finish();
    (value, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn text_is_taken_as_it_was_written() {
    for (yaml, text) in [("a: x", "x"), ("a: 0x10", "0x10"), ("a: true", "true"), ("a: '~'", "~")] {
        assert_eq!(with_field(yaml, |field| field.text()).0.as_deref(), Some(text));
    }
}

#[test]
fn a_field_without_a_value_counts_as_left_out() {
    let (value, errors) = with_field("a: ~\nb: 1\n", |field| field.text());
    assert_eq!((value, errors.len()), (None, 0));
}

#[test]
fn numbers_and_flags_are_not_written_in_quotes() {
    assert_eq!(with_field("a: 5", |field| field.number(1_u16..=9)).0, Some(5));
    assert_eq!(with_field("a: false", |field| field.flag()).0, Some(false));
    let (_, errors) = with_field("a: '5'", |field| field.number(1_u16..=9));
    assert_eq!(
        errors,
        [
            "f:1: a: expected a whole number, found text in quotes; write a number from 1 to 9, without quotes"
        ]
    );
    let (_, errors) = with_field("a: yes", |field| field.flag());
    assert_eq!(errors, ["f:1: a: expected true or false, found text; write true or false"]);
}

#[test]
fn numbers_beyond_any_type_are_out_of_range() {
    let (_, errors) = with_field("a: 99999999999999999999999", |field| field.number(0..=u64::MAX));
    assert!(errors[0].contains("is not within 0 to 18446744073709551615"), "{errors:?}");
}

#[test]
fn every_item_of_a_list_is_read_after_a_wrong_one() {
    let (value, errors) = with_field("a:\n- {}\n- x\n- []\n", |field| field.texts());
    assert_eq!(value, None);
    assert_eq!(errors.len(), 2);
    assert!(errors[0].starts_with("f:2: a[0]: expected text, found a map"), "{errors:?}");
    assert!(errors[1].starts_with("f:4: a[2]: expected text, found a list"), "{errors:?}");
}

#[test]
fn a_wrong_key_keeps_its_error_on_one_line() {
    let (_, errors) = with_field("a: {\"x\\ny\": 1}\n", |field| {
        let fields = field.fields()?;
        fields.know(&["known"]);
        fields.refuse_others();
        Some(())
    });
    assert_eq!(errors, ["f:1: a.x\\ny: unknown field; remove it; known here: known"]);
}
