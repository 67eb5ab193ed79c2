use std::time::Duration;

use crate::model::{Downlink, Format, MqttVersion, Route, Uplink};
use crate::tests::{error, errors, resources};

/// Returns an uplink with these fields of `mqtt` and of `spec`.
fn text(mqtt: &str, spec: &str) -> String {
    let head = "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {name: up}\n";
    format!("{head}spec:\n  mqtt: {{{mqtt}}}\n{spec}")
}

const ROUTE: &str = "  routes: [{topic: a}]\n";

fn with_mqtt(mqtt: &str) -> Uplink {
    resources(&text(mqtt, ROUTE)).uplinks.remove(0)
}

fn with_spec(spec: &str) -> Uplink {
    resources(&text("url: mqtt://host", spec)).uplinks.remove(0)
}

#[test]
fn urls_stand_for_host_port_and_tls() {
    struct Case {
        url: &'static str,
        host: &'static str,
        port: u16,
        tls: bool,
    }
    let cases = [
        Case { url: "mqtt://host", host: "host", port: 1883, tls: false },
        Case { url: "tcp://10.0.0.1:1884/", host: "10.0.0.1", port: 1884, tls: false },
        Case { url: "mqtts://broker.example", host: "broker.example", port: 8883, tls: true },
        Case { url: "ssl://[::1]:8884", host: "::1", port: 8884, tls: true },
    ];
    for Case { url, host, port, tls } in cases {
        let mqtt = with_mqtt(&format!("url: '{url}'")).mqtt;
        assert_eq!(mqtt.host, host, "{url}");
        assert_eq!(mqtt.port, port, "{url}");
        assert_eq!(mqtt.tls, tls, "{url}");
    }
}

#[test]
fn other_urls_are_refused() {
    let urls = [
        "host",
        "ws://host",
        "mqtt://",
        "mqtt://host:0",
        "mqtt://host:99999",
        "mqtt://host/path",
        "mqtt://user:secret@host",
        "mqtt://[::1",
        "mqtt://[host]",
        "mqtt://a b",
    ];
    for url in urls {
        let shown = error(&text(&format!("url: '{url}'"), ROUTE));
        assert!(shown.starts_with("5: spec.mqtt.url: "), "{shown}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn fields_that_need_each_other_say_so() {
    let tls = "url: 'mqtts://host', ";
    let cases = [
        (format!("{tls}clientCert: /c"), "5: spec.mqtt.clientCert: needs clientKey too"),
        (format!("{tls}clientKey: /k"), "5: spec.mqtt.clientKey: needs clientCert too"),
        (format!("{tls}password: p"), "5: spec.mqtt.password: needs username too"),
        ("url: 'mqtt://host', caCert: /c".into(), "5: spec.mqtt.caCert: has no effect"),
    ];
    for (mqtt, expected) in cases {
        let shown = error(&text(&mqtt, ROUTE));
        assert!(shown.starts_with(expected), "{shown}");
    }
}

#[test]
fn the_connection_has_defaults_and_bounds() {
    let mqtt = with_mqtt("url: 'mqtt://host'").mqtt;
    assert_eq!((mqtt.version, mqtt.keep_alive), (MqttVersion::V5, Duration::from_secs(30)));
    assert_eq!(with_mqtt("url: 'mqtt://host', version: 3.1.1").mqtt.version, MqttVersion::V311);
    for wrong in ["keepAlive: 4s", "keepAlive: 24h", "version: 4", "connectTimeout: 0s"] {
        let shown = error(&text(&format!("url: 'mqtt://host', {wrong}"), ROUTE));
        assert!(shown.starts_with("5: spec.mqtt."), "{shown}");
    }
}

#[test]
fn routes_and_downlinks_have_defaults() {
    let uplink = with_spec("  routes: [{topic: '#'}]\n  downlinks: [{from: 'c/{node}/#'}]\n");
    let route = Route {
        pubsub: "pubsub".into(),
        topic: "#".into(),
        to: "{topic}".into(),
        format: Format::CloudEvent,
        retain: false,
    };
    let downlink =
        Downlink { from: "c/{node}/#".into(), pubsub: "pubsub".into(), to: "{topic}".into() };
    assert_eq!((uplink.routes, uplink.downlinks), (vec![route], vec![downlink]));
    assert_eq!((uplink.window, uplink.max_attempts, uplink.dead_letter), (100, None, None));
}

#[test]
fn an_uplink_that_carries_nothing_is_refused() {
    for spec in ["", "  routes: []\n", "  routes:\n  downlinks:\n"] {
        let shown = error(&text("url: 'mqtt://host'", spec));
        assert!(shown.starts_with("4: spec: carries nothing"), "{shown}");
    }
}

#[test]
fn wildcards_stand_where_mqtt_lets_them() {
    for topic in ["#", "a/#", "+", "+/a/+", "a/+/b", "a", "/a", "a//b"] {
        assert_eq!(
            with_spec(&format!("  routes: [{{topic: '{topic}'}}]\n")).routes[0].topic,
            topic
        );
    }
    for topic in ["a#", "#/a", "a/#/b", "a+", "a/b+/c", "##", ""] {
        let shown = error(&text("url: 'mqtt://h'", &format!("  routes: [{{topic: '{topic}'}}]\n")));
        assert!(shown.starts_with("6: spec.routes[0].topic: "), "{shown}");
    }
}

#[test]
fn templates_know_four_names_and_no_wildcards() {
    let route = |to: &str| format!("  routes: [{{topic: a, to: '{to}'}}]\n");
    with_spec(&route("{node}/{pubsub}/{topic}"));
    for to in ["{topik}", "{topic", "topic}", "{}", "up/#", "+/{topic}", "{{topic}}"] {
        let shown = error(&text("url: 'mqtt://host'", &route(to)));
        assert!(shown.starts_with("6: spec.routes[0].to: "), "{shown}");
    }
}

#[test]
fn downlinks_know_the_node_and_shared_subscriptions() {
    let downlink = |from: &str| format!("  downlinks: [{{from: '{from}'}}]\n");
    with_spec(&downlink("$share/group/commands/{node}/#"));
    for from in ["c/{topic}", "$share/group", "$share/group/", "$share/+/a", "$share//a"] {
        let shown = error(&text("url: 'mqtt://host'", &downlink(from)));
        assert!(shown.starts_with("6: spec.downlinks[0].from: "), "{shown}");
    }
}

#[test]
fn the_rest_needs_a_wildcard_to_be_the_rest_of() {
    with_spec("  routes: [{topic: 'sensors/#', to: 'fleet/{rest}'}]\n");
    with_spec("  routes: [{topic: 'sensors/+/speed', to: 'fleet/{rest}'}]\n");
    with_spec("  downlinks: [{from: '$share/g/fleet/{node}/#', to: 'commands/{rest}'}]\n");
    for (spec, place) in [
        ("  routes: [{topic: sensors, to: 'fleet/{rest}'}]\n", "6: spec.routes[0].to: "),
        ("  downlinks: [{from: '$share/g/a', to: '{rest}'}]\n", "6: spec.downlinks[0].to: "),
    ] {
        let shown = error(&text("url: 'mqtt://host'", spec));
        assert!(shown.starts_with(place) && shown.contains("end with /#"), "{shown}");
    }
}

/// Returns an uplink that mirrors everything both ways.
fn mirror(mqtt: &str, from: &str) -> String {
    let mqtt = format!("url: 'mqtt://host'{mqtt}");
    text(&mqtt, &format!("  routes: [{{topic: '#'}}]\n  downlinks: [{{from: '{from}'}}]\n"))
}

#[test]
fn a_route_whose_messages_would_come_down_again_is_refused() {
    resources(&mirror("", "#"));
    let shown = error(&mirror(", version: 3.1.1", "#"));
    assert!(shown.starts_with("6: spec.routes[0]: \"{topic}\" can make topics"), "{shown}");
    assert!(shown.contains("come down again") && shown.contains("version: \"5\""), "{shown}");
    let shown = error(&mirror("", "$share/all/#"));
    assert!(shown.contains("without $share"), "{shown}");
    let apart = "  routes: [{topic: '#', to: 'up/{node}/{topic}'}]\n  \
                 downlinks: [{from: 'down/{node}/#', to: '{rest}'}]\n";
    resources(&text("url: 'mqtt://host', version: 3.1.1", apart));
}

#[test]
fn downlinks_that_overlap_are_warned_about() {
    let with = |more: &str| {
        let text = format!("  downlinks:\n    - {{from: 'a/#'}}\n    - {{from: 'b'}}\n{more}");
        resources(&self::text("url: 'mqtt://host'", &text)).warnings
    };
    assert_eq!(with("    - {from: 'c/#'}\n"), Vec::<String>::new());
    let warnings = with("    - {from: '$share/g/a/+', to: x}\n");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("a.yaml:9: spec.downlinks[2]: "), "{warnings:?}");
    assert!(warnings[0].contains("stored for each of them"), "{warnings:?}");
    assert!(with("    - {from: 'a/+'}\n")[0].contains("stored twice"));
}

#[test]
fn an_uplink_has_a_thousand_routes_at_most() {
    let routes = |count| format!("  routes: [{}]\n", "{topic: a}, ".repeat(count));
    assert_eq!(with_spec(&routes(1000)).routes.len(), 1000);
    let shown = error(&text("url: 'mqtt://host'", &routes(1001)));
    assert!(shown.starts_with("6: spec.routes: has 1001 entries"), "{shown}");
}

/// Returns two uplinks, and a node with this field.
fn two(node: &str, first: &str, second: &str) -> String {
    let uplink = |name, mqtt| {
        format!(
            "apiVersion: pannier.dev/v1\nkind: Uplink\nmetadata: {{name: {name}}}\nspec:\n  \
             mqtt: {{{mqtt}}}\n  routes: [{{topic: a}}]\n"
        )
    };
    let node = format!("apiVersion: pannier.dev/v1\nkind: Node\nspec: {{{node}}}\n");
    format!("{}---\n{}---\n{node}", uplink("one", first), uplink("two", second))
}

#[test]
fn two_uplinks_do_not_share_a_client_id() {
    let named = "url: 'mqtt://host', clientId: x";
    let shown = error(&two("id: n", named, "url: 'mqtts://HOST', clientId: x"));
    assert!(shown.contains("spec.mqtt.clientId: uplink \"one\" has the client id \"x\" too"));
    assert!(shown.starts_with("8: ") && shown.ends_with("give each uplink its own clientId"));
    let shown = error(&two("id: n", "url: 'mqtt://host'", "url: 'mqtt://host', clientId: n-one"));
    assert!(shown.contains("\"n-one\" too"), "{shown}");
    resources(&two("", "url: 'mqtt://host'", "url: 'mqtt://host', clientId: n-one"));
    resources(&two("id: n", "url: 'mqtt://host'", "url: 'mqtt://host'"));
    let apart = resources(&two("id: n", named, "url: 'mqtt://other', clientId: x"));
    assert!(apart.warnings[0].contains("same broker"), "{:?}", apart.warnings);
}

#[test]
fn windows_attempts_and_backoff_are_bounded() {
    for wrong in ["window: 0", "window: 65536", "maxAttempts: 0", "backoff: {initial: 0s}"] {
        let shown = error(&text("url: 'mqtt://host'", &format!("{ROUTE}  {wrong}\n")));
        assert!(shown.starts_with("7: spec."), "{shown}");
    }
    let shown =
        error(&text("url: 'mqtt://h'", &format!("{ROUTE}  backoff: {{initial: 9s, max: 1s}}\n")));
    assert!(shown.contains("initial (9s) is over max (1s)"), "{shown}");
    let backoff = with_spec(&format!("{ROUTE}  backoff: {{initial: 2m}}\n")).backoff;
    assert_eq!(
        (backoff.initial, backoff.max),
        (Duration::from_secs(120), Duration::from_secs(120))
    );
}

#[test]
fn the_dead_letter_topic_is_one_topic() {
    let shown =
        error(&text("url: 'mqtt://h'", &format!("{ROUTE}  deadLetter: {{topic: 'a/#'}}\n")));
    assert!(shown.starts_with("7: spec.deadLetter.topic: \"a/#\" has a wildcard"), "{shown}");
}

#[test]
fn errors_of_unknown_fields_name_the_known_ones() {
    let shown =
        errors(&text("url: 'mqtt://host', client_id: x", &format!("{ROUTE}  priority: 1\n")));
    assert_eq!(shown[0], "5: spec.mqtt.client_id: unknown field; did you mean clientId?");
    assert!(
        shown[1].starts_with("7: spec.priority: unknown field; remove it; known here: backoff")
    );
}
