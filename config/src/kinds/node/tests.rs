#![allow(clippy::unwrap_used)]

use std::time::Duration;

use crate::model::Node;
use crate::tests::{error, resources};

const HEAD: &str = "apiVersion: pannier.dev/v1\nkind: Node\n";

fn node(spec: &str) -> Node {
    resources(&format!("{HEAD}spec: {spec}\n")).node.unwrap()
}

#[test]
fn fields_left_out_keep_their_defaults() {
    let empty = resources(HEAD).node.unwrap();
    assert_eq!(empty, Node { origin: empty.origin.clone(), ..Node::default() });
    assert_eq!(node("{limits: {disk: 512Mi}}").limits.disk, Some(512 << 20));
    assert_eq!(node("{limits: {disk: 512Mi}}").limits.cache, None);
}

#[test]
fn listeners_have_ports_and_addresses() {
    let listeners = node("{listeners: {http: {port: 0, addresses: [\"::\"]}}}").listeners;
    assert_eq!(listeners.http_port, Some(0));
    assert_eq!(listeners.http_addresses, [std::net::Ipv6Addr::UNSPECIFIED]);
    let shown =
        error(&format!("{HEAD}spec: {{listeners: {{http: {{addresses: [localhost]}}}}}}\n"));
    assert!(shown.contains("http.addresses[0]: \"localhost\" is not an IP address"), "{shown}");
}

#[test]
fn durations_need_a_unit_and_writes_do_not_wait_for_ever() {
    assert_eq!(node("{commitDelay: 0}").commit_delay, Some(Duration::ZERO));
    assert_eq!(node("{commitDelay: 5ms}").commit_delay, Some(Duration::from_millis(5)));
    for (delay, problem) in [("5", "5 has no unit"), ("1h", "3600s is too long")] {
        let shown = error(&format!("{HEAD}spec: {{commitDelay: {delay}}}\n"));
        assert!(shown.contains(problem), "{shown}");
    }
}

#[test]
fn the_id_can_stand_in_a_topic() {
    for id in ["a+b", "a#", "a/b", "a b"] {
        let shown = error(&format!("{HEAD}spec: {{id: '{id}'}}\n"));
        assert!(shown.starts_with("3: spec.id: "), "{shown}");
    }
}

#[test]
fn limits_that_leave_no_room_are_refused() {
    for limit in ["disk: 0", "maxStreams: 0", "checkpointInterval: 0s", "maxTopic: 64Ki"] {
        let shown = error(&format!("{HEAD}spec: {{limits: {{{limit}}}}}\n"));
        assert!(shown.starts_with("3: spec.limits."), "{shown}");
    }
    assert_eq!(node("{limits: {reserve: 0}}").limits.reserve, Some(0));
}
