//! Error messages for invalid JSON, in terms of JSON rather than Rust.

/// Explains an error of parsing JSON. Types name what they expect by serde's `expecting`.
#[must_use]
pub fn explain(error: &serde_json::Error) -> String {
    let told = error.to_string();
    in_json_terms(&told).unwrap_or(told)
}

/// Translates, for example, `invalid type: map, expected a sequence at line 1 column 0`.
fn in_json_terms(told: &str) -> Option<String> {
    let (found, rest) = told.rsplit_once(", expected ")?;
    let (expected, place) = rest.rsplit_once(" at line ").unwrap_or((rest, ""));
    let found = match found.split_once(": ") {
        Some((_, "sequence")) => "an array",
        Some((_, "map")) => "an object",
        Some((_, scalar)) => scalar,
        // An array that is too short stands in place of an object.
        None => found.strip_prefix("invalid length").map(|_| "an array")?,
    };
    let expected = match expected {
        "a sequence" => "an array",
        "a map" => "an object",
        "i64" => "a whole number",
        other => other,
    };
    let place = if place.is_empty() { String::new() } else { format!(" at line {place}") };
    Some(format!("expected {expected}, found {found}{place}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(expecting = "an object with a name")]
    #[expect(dead_code, reason = "it is read to fail")]
    struct Named {
        name: String,
        age: Option<i64>,
        tags: Option<BTreeMap<String, String>>,
    }

    fn told(json: &str) -> String {
        explain(&serde_json::from_str::<Vec<Named>>(json).unwrap_err())
    }

    #[test]
    fn a_wrong_type_is_named_in_terms_of_json() {
        for (json, expected) in [
            ("{}", "expected an array, found an object at line 1 column 0"),
            ("7", "expected an array, found integer `7` at line 1 column 1"),
            ("null", "expected an array, found null at line 1 column 4"),
            ("[7]", "expected an object with a name, found integer `7` at line 1 column 2"),
            ("[[]]", "expected an object with a name, found an array at line 1 column 3"),
            (r#"[{"name":{}}]"#, "expected a string, found an object at line 1 column 9"),
            (
                r#"[{"name":"a","age":1.5}]"#,
                "expected a whole number, found floating point `1.5` at line 1 column 22",
            ),
            (r#"[{"tags":[]}]"#, "expected an object, found an array at line 1 column 9"),
        ] {
            assert_eq!(told(json), expected, "{json}");
        }
    }

    #[test]
    fn the_error_of_invalid_syntax_stays_as_it_is() {
        assert_eq!(told("[{"), "EOF while parsing an object at line 1 column 2");
        assert_eq!(told("["), "EOF while parsing a list at line 1 column 1");
        assert_eq!(told("[{}]"), "missing field `name` at line 1 column 3");
    }
}
