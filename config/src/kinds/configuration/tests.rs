use crate::tests::{error, resources};

const HEAD: &str = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\n";

#[test]
fn several_configurations_are_merged_and_the_later_one_wins() {
    let first = "spec: {metric: {enabled: true}, components: {deny: [a.b]}}\n";
    let second = "spec: {metrics: {enabled: false}, components: {deny: [c.d]}}\n";
    let read = resources(&format!("{HEAD}{first}---\n{HEAD}{second}")).configuration;
    assert_eq!(read.metrics_enabled, Some(false));
    assert_eq!(read.denied_components, ["a.b", "c.d"]);
}

#[test]
fn fields_without_effect_are_named_with_their_lines() {
    let text = format!("{HEAD}spec:\n  tracing:\n    samplingRate: '1'\n  metric: {{rules: []}}\n");
    assert_eq!(
        resources(&text).warnings,
        [
            "a.yaml:6: spec.metric.rules: this version does not act on it",
            "a.yaml:4: spec.tracing: this version does not act on it"
        ]
    );
}

#[test]
fn an_empty_configuration_is_read_and_a_wrong_type_refused() {
    assert_eq!(resources(HEAD).configuration.metrics_enabled, None);
    let shown = error(&format!("{HEAD}spec: {{metric: {{enabled: \"false\"}}}}\n"));
    assert!(shown.contains("expected true or false, found text in quotes"), "{shown}");
}
