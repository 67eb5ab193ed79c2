use crate::model::MetadataValue;
use crate::tests::{error, resources};

const HEAD: &str = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: s}\n";

/// A component with these metadata entries, which start on line 7.
fn with_metadata(items: &str) -> String {
    format!("{HEAD}spec:\n  type: state.redb\n  metadata:\n{items}")
}

fn values(items: &str) -> Vec<MetadataValue> {
    let mut read = resources(&with_metadata(items));
    read.components.remove(0).metadata.into_iter().map(|item| item.value).collect()
}

fn literal(text: &str) -> MetadataValue {
    MetadataValue::Literal(text.into())
}

#[test]
fn values_are_kept_as_they_were_written() {
    let items = "  - {name: a, value: 007}\n  - {name: b, value: True}\n  - {name: c, value: 1e3}\n  \
                 - {name: d, value: \"{appID}\"}\n  - {name: e, value: }\n";
    assert_eq!(
        values(items),
        [literal("007"), literal("True"), literal("1e3"), literal("{appID}"), literal("")]
    );
}

#[test]
fn the_key_of_a_secret_defaults_to_its_name() {
    let items = "  - {name: a, secretKeyRef: {name: n}}\n  \
                 - {name: b, secretKeyRef: {name: n, key: k}}\nauth: {secretStore: local}\n";
    let secret = |key: &str| MetadataValue::Secret { name: "n".into(), key: key.into() };
    assert_eq!(values(items), [secret("n"), secret("k")]);
}

#[test]
fn a_secret_needs_a_store() {
    let shown = error(&with_metadata("  - {name: a, secretKeyRef: {name: n}}\n"));
    assert!(shown.contains("add auth: {secretStore: NAME} beside spec"), "{shown}");
}

#[test]
fn the_runtimes_own_variables_are_not_for_components() {
    assert_eq!(values("  - {name: a, envRef: HOME}\n"), [MetadataValue::Env("HOME".into())]);
    for name in ["DAPR_API_TOKEN", "dapr_x", "APP_API_TOKEN", "MY VARIABLE"] {
        let shown = error(&with_metadata(&format!("  - {{name: a, envRef: {name}}}\n")));
        assert!(shown.starts_with("7: spec.metadata[0].envRef: "), "{shown}");
    }
}

#[test]
fn an_entry_has_one_value_and_a_name_of_its_own() {
    let two = error(&with_metadata("  - {name: a, value: 1, envRef: A}\n"));
    assert!(two.starts_with("7: spec.metadata[0]: has more than one value"), "{two}");
    let again = error(&with_metadata("  - {name: a, value: 1}\n  - {name: A, value: 2}\n"));
    assert!(again.starts_with("8: spec.metadata[1]: \"A\" is given twice"), "{again}");
    let map = error(&with_metadata("  - {name: a, value: {appID}}\n"));
    assert!(map.contains("expected text, found a map; put text with { or [ in quotes"), "{map}");
}

#[test]
fn names_are_unique_and_fit_into_keys() {
    let component = format!("{HEAD}spec: {{type: state.redb}}\n");
    let twice = error(&format!("{component}---\n{component}"));
    assert!(twice.starts_with("8: metadata.name: Component \"s\" is defined in a.yaml:3 too"));
    for name in ["a b", "a/b", "a||b", "\"\""] {
        let shown = error(&component.replace("name: s", &format!("name: {name}")));
        assert!(shown.starts_with("3: metadata.name: "), "{shown}");
    }
}

#[test]
fn fields_that_are_not_acted_on_are_warned_of_and_slips_are_errors() {
    let text = format!("{HEAD}spec: {{type: state.redb, initTimeout: 5s, colour: red}}\n");
    assert_eq!(
        resources(&text).warnings,
        [
            "a.yaml:4: spec.initTimeout: this version does not act on it",
            "a.yaml:4: spec.colour: unknown field, not acted on"
        ]
    );
    let slip = error(&format!("{HEAD}spec: {{type: state.redb}}\nscope: [a]\n"));
    assert_eq!(slip, "5: scope: unknown field; did you mean scopes?");
}
