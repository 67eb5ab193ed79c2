//! The kinds of resources: one file each, and the table that lists them.

use crate::model::Resources;
use crate::near::nearest;
use crate::reader::{Field, Fields};
use crate::rules;

mod app;
mod component;
mod configuration;
mod node;
mod subscription;
mod uplink;

const DAPR: &str = "dapr.io/v1alpha1";
const DAPR_2: &str = "dapr.io/v2alpha1";
const OURS: &str = "pannier.dev/v1";

type Read = fn(&Fields<'_>, &mut Resources);

/// Every kind that is known.
const KINDS: [(&str, &str, Read); 9] = [
    (DAPR, "Component", component::read),
    (DAPR, "Configuration", configuration::read),
    (DAPR, "Resiliency", not_acted_on),
    (DAPR, "Subscription", subscription::read_v1),
    (DAPR_2, "Subscription", subscription::read_v2),
    (DAPR, "HTTPEndpoint", not_acted_on),
    (OURS, "Node", node::read),
    (OURS, "App", app::read),
    (OURS, "Uplink", uplink::read),
];

/// Reads one document. JSON files of other programs may lie beside ours (a secret store's, say):
/// they are known by having neither an `apiVersion` nor a `kind`.
pub(crate) fn read(document: &Field<'_>, json: bool, resources: &mut Resources) {
    if json && !document.is_map() {
        return document.warn("no resource: it is not a map");
    }
    let Some(fields) = document.fields() else { return };
    if json && fields.get("apiVersion").is_none() && fields.get("kind").is_none() {
        return document.warn("no resource: it has neither an apiVersion nor a kind");
    }
    let version_field = fields.need("apiVersion", &format!("apiVersion: {OURS}"));
    let kind_field = fields.need("kind", "kind: Component");
    let (Some(version_field), Some(kind_field)) = (version_field, kind_field) else { return };
    let (Some(version), Some(kind)) = (version_field.text(), kind_field.text()) else { return };
    let found = KINDS.iter().find(|known| (known.0, known.1) == (&*version, &*kind));
    match found {
        Some((_, _, read)) => {
            resources.documents += 1;
            read(&fields, resources);
        }
        None => unknown(&version_field, &version, &kind_field, &kind),
    }
}

fn unknown(version_field: &Field<'_>, version: &str, kind_field: &Field<'_>, kind: &str) {
    let group = version.split('/').next().unwrap_or_default();
    let of_group = || KINDS.iter().filter(|known| known.0.split('/').next() == Some(group));
    if of_group().next().is_none() {
        let problem = format!("unknown apiVersion {version:?}");
        let remedy = format!("write {DAPR}, {DAPR_2} or {OURS}, or move the file elsewhere");
        version_field.refuse::<()>(problem, remedy);
    } else if let Some((right, _, _)) = of_group().find(|known| known.1 == kind) {
        let problem = format!("{kind} is not of {version:?}");
        version_field.refuse::<()>(problem, format!("write {right}"));
    } else if let Some(meant) = nearest(kind, of_group().map(|known| known.1)) {
        kind_field.refuse::<()>(format!("unknown kind {kind:?}"), format!("did you mean {meant}?"));
    } else if group == "dapr.io" {
        kind_field.warn(&format!("unknown kind {kind:?}, not acted on"));
    } else {
        let kinds: Vec<_> = of_group().map(|known| known.1).collect();
        let remedy = format!("known kinds are {}", kinds.join(", "));
        kind_field.refuse::<()>(format!("unknown kind {kind:?}"), remedy);
    }
}

fn not_acted_on(document: &Fields<'_>, _: &mut Resources) {
    let kind = document.get("kind").and_then(|kind| kind.text()).unwrap_or_default();
    document.whole().warn(&format!("this version does not act on a {kind}"));
}

/// `metadata.name`, unique within its kind.
fn unique_name(document: &Fields<'_>, what: &'static str) -> Option<String> {
    let metadata = document.need("metadata", "metadata: {name: ...}")?.fields()?;
    let field = metadata.need("name", "name: my-name");
    close_metadata(document, &metadata);
    let field = field?;
    let name = rules::name(&field)?;
    field.claim(what, &name, "rename or remove one of them")?;
    Some(name)
}

/// Ends `metadata`: these fields may be there in every kind, and say nothing to us.
fn close_metadata(document: &Fields<'_>, metadata: &Fields<'_>) {
    metadata.know(&["name", "namespace", "labels", "annotations"]);
    let version = document.get("apiVersion").and_then(|version| version.text());
    match version.as_deref() {
        Some(OURS) => metadata.refuse_others(),
        _ => metadata.warn_of_others(&[]),
    }
}

/// Ends a document of Dapr's kinds.
fn close_dapr(document: &Fields<'_>, not_acted_on: &[&str]) {
    document.know(&["apiVersion", "kind", "metadata", "spec"]);
    document.warn_of_others(not_acted_on);
}

/// Ends a document of our kinds.
fn close_ours(document: &Fields<'_>) {
    document.know(&["apiVersion", "kind", "metadata", "spec"]);
    document.refuse_others();
}

/// The top-level `scopes`: app ids; empty means all.
fn scopes(document: &Fields<'_>) -> Option<Vec<String>> {
    document.read_or("scopes", Vec::new(), |scopes| scopes.texts())
}
