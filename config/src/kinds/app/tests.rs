use crate::model::{App, HealthCheck, Secret};
use crate::tests::{error, errors, resources};

fn text(name: &str, spec: &str) -> String {
    let head = "apiVersion: pannier.dev/v1\nkind: App\n";
    format!("{head}metadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

fn app(spec: &str) -> App {
    resources(&text("a", spec)).apps.remove(0)
}

#[test]
fn an_app_is_known_by_its_id_or_else_its_name() {
    assert_eq!(app("").id, "a");
    assert_eq!(app("id: b").id, "b");
    let nameless = "apiVersion: pannier.dev/v1\nkind: App\nspec: {id: b}\n";
    assert_eq!(resources(nameless).apps[0].id, "b");
    assert!(error("apiVersion: pannier.dev/v1\nkind: App\n").contains("metadata: is missing"));
}

#[test]
fn two_apps_share_neither_id_nor_port() {
    let ids = error(&format!("{}---\n{}", text("a", ""), text("b", "id: a")));
    assert!(ids.starts_with("9: spec.id: App \"a\" is defined in a.yaml:3 too"), "{ids}");
    let ports = format!("{}---\n{}", text("a", "httpPort: 3501"), text("b", "httpPort: 3501"));
    let ports = error(&ports);
    assert!(ports.starts_with("9: spec.httpPort: httpPort \"3501\" is defined"), "{ports}");
    let any = format!("{}---\n{}", text("a", "httpPort: 0"), text("b", "httpPort: 0"));
    assert_eq!(resources(&any).apps.len(), 2);
}

#[test]
fn only_http_is_spoken_to_apps() {
    for protocol in ["grpc", "grpcs", "https", "h2c"] {
        let shown = error(&text("a", &format!("protocol: {protocol}")));
        assert!(shown.contains("this version speaks http to apps"), "{shown}");
    }
    assert!(error(&text("a", "protocol: smtp")).contains("is not a protocol"));
}

#[test]
fn tokens_come_from_a_text_a_variable_or_a_file() {
    assert_eq!(app("apiToken: 12345").api_token, Some(Secret::Literal("12345".into())));
    assert_eq!(app("apiToken: {env: T}").api_token, Some(Secret::Env("T".into())));
    assert_eq!(app("appToken: {file: /t}").app_token, Some(Secret::File("/t".into())));
    for wrong in ["{env: T, file: /t}", "{}"] {
        let shown = error(&text("a", &format!("apiToken: {wrong}")));
        assert!(shown.contains("a secret comes from one place"), "{shown}");
    }
}

#[test]
fn health_checks_have_daprs_defaults_and_can_be_switched_off() {
    assert_eq!(app("").health, None);
    assert_eq!(app("healthCheck: {}").health, Some(HealthCheck::default()));
    assert_eq!(app("healthCheck: {enabled: false, path: /h}").health, None);
    let shown = error(&text("a", "healthCheck: {interval: 1s, timeout: 2s}"));
    assert!(shown.contains("the timeout (2s) is over the interval (1s)"), "{shown}");
}

#[test]
fn ports_are_numbers_within_range() {
    for port in ["0", "65536", "-1", "http", "'80'", "8.5"] {
        let shown = errors(&text("a", &format!("port: {port}")));
        assert!(shown[0].starts_with("4: spec.port: "), "{shown:?}");
    }
    assert!(error(&text("a", "address: 'localhost:80'")).contains("the port goes to port"));
}
