//! Rules that hold between uplinks, checked once all files are read.

use crate::model::{Resources, Uplink};
use crate::report::Report;

/// Refuses two uplinks with one client id at one host: the broker would disconnect each when the other
/// connects. Different hosts may be different brokers, so these are only warned about.
pub(crate) fn check_client_ids(report: &Report, resources: &Resources) {
    let node = resources.node.as_ref().and_then(|node| node.id.as_deref());
    let all = &resources.uplinks;
    for (index, uplink) in all.iter().enumerate() {
        let Some(id) = client_id(uplink, node) else { continue };
        let has_same_id = |other: &&Uplink| client_id(other, node).as_ref() == Some(&id);
        let Some(first) = all[..index].iter().find(has_same_id) else { continue };
        let problem = format!("uplink {:?} has the client id {id:?} too", first.name);
        let field = "spec.mqtt.clientId";
        if first.mqtt.host.eq_ignore_ascii_case(&uplink.mqtt.host) {
            let problem = format!("{problem}, and a broker lets in only one of them at a time");
            report.error(&uplink.origin, field, problem, "give each uplink its own clientId");
        } else {
            let text = format!("{problem}: they can't both be connected to the same broker");
            report.warning(&uplink.origin, field, &text);
        }
    }
}

/// Returns the client id; `None` where it is the default and the files hold no node id to make it of.
fn client_id(uplink: &Uplink, node: Option<&str>) -> Option<String> {
    let default = || node.map(|node| format!("{node}-{}", uplink.name));
    uplink.mqtt.client_id.clone().or_else(default)
}
