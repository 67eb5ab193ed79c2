//! Checks for loops and overlaps between the routes and downlinks of one uplink.

use crate::model::{Downlink, MqttVersion, Route};
use crate::reader::{Field, Fields};
use crate::rules::overlap::{self, matched_part};

/// Refuses routes whose messages would come down again, and warns of downlinks that overlap.
pub(super) fn check(
    spec: &Fields<'_>,
    version: MqttVersion,
    routes: &[Route],
    downlinks: &[Downlink],
) {
    for (field, route) in items(spec, "routes").iter().zip(routes) {
        let comes_back = |downlink: &&Downlink| comes_back(version, route, downlink);
        if let Some(downlink) = downlinks.iter().find(comes_back) {
            refuse(field, version, route, downlink);
        }
    }
    for (index, field) in items(spec, "downlinks").iter().enumerate() {
        let Some(downlink) = downlinks.get(index) else { return };
        let meets = |other: &Downlink| {
            overlap::filters(matched_part(&other.from), matched_part(&downlink.from))
        };
        if let Some(other) = downlinks[..index].iter().position(meets) {
            warn(field, other, &downlinks[other], downlink);
        }
    }
}

fn items<'a>(spec: &Fields<'a>, name: &'static str) -> Vec<Field<'a>> {
    spec.get(name).and_then(|list| list.items()).unwrap_or_default()
}

/// Returns whether the broker sends a route's messages down again. With MQTT 5 the No Local option
/// prevents it, except in shared subscriptions (MQTT 5, section 3.8.3.1).
fn comes_back(version: MqttVersion, route: &Route, downlink: &Downlink) -> bool {
    let is_shared = downlink.from.starts_with("$share/");
    (version != MqttVersion::V5 || is_shared)
        && overlap::template(&route.to, &route.topic, &route.pubsub, matched_part(&downlink.from))
}

fn refuse(route_field: &Field<'_>, version: MqttVersion, route: &Route, downlink: &Downlink) {
    let field = route_field.fields().and_then(|fields| fields.get("to"));
    let problem = format!(
        "{:?} can make topics that the downlink from {:?} matches: messages that go up would come down again",
        route.to, downlink.from
    );
    let other_way = match version {
        MqttVersion::V5 => "write that downlink without $share",
        MqttVersion::V311 => "use version: \"5\"",
    };
    let remedy = format!("write another to, for example \"up/{{node}}/{{topic}}\", or {other_way}");
    field.as_ref().unwrap_or(route_field).refuse::<()>(problem, remedy);
}

fn warn(field: &Field<'_>, index: usize, other: &Downlink, downlink: &Downlink) {
    let effect = if (&other.pubsub, &other.to) == (&downlink.pubsub, &downlink.to) {
        "a message that both match is stored twice"
    } else {
        "a message that both match is stored for each of them"
    };
    field.warn(&format!(
        "{:?} overlaps with downlinks[{index}] (from {:?}): {effect}",
        downlink.from, other.from
    ));
}
