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

/// A known kind of resource.
struct Kind {
    /// `apiVersion`.
    version: &'static str,
    /// `kind`.
    name: &'static str,
    /// Its reader; `None` where this version accepts the kind and doesn't act on it.
    read: Option<ReadKind>,
}

/// Reads a document of one kind into the resources.
type ReadKind = fn(&Fields<'_>, &mut Resources);

/// Every kind that is known.
const KINDS: [Kind; 9] = [
    Kind::new(DAPR, "Component", component::read),
    Kind::new(DAPR, "Configuration", configuration::read),
    Kind::without_effect(DAPR, "Resiliency"),
    Kind::new(DAPR, "Subscription", subscription::read_v1),
    Kind::new(DAPR_2, "Subscription", subscription::read_v2),
    Kind::without_effect(DAPR, "HTTPEndpoint"),
    Kind::new(OURS, "Node", node::read),
    Kind::new(OURS, "App", app::read),
    Kind::new(OURS, "Uplink", uplink::read),
];

impl Kind {
    const fn new(version: &'static str, name: &'static str, read: ReadKind) -> Self {
        Self { version, name, read: Some(read) }
    }

    const fn without_effect(version: &'static str, name: &'static str) -> Self {
        Self { version, name, read: None }
    }
}

/// Returns the group of an `apiVersion`, for example `dapr.io`.
fn group(version: &str) -> &str {
    version.split('/').next().unwrap_or_default()
}

/// Reads one document. A JSON document without `apiVersion` and `kind` is another program's (a secret
/// store's, say) and only warned of.
pub(crate) fn read(document: &Field<'_>, is_json: bool, resources: &mut Resources) {
    // Another program's JSON may have any form.
    if is_json && !document.is_map() {
        return document.warn("no resource: it is not a map");
    }
    let Some(fields) = document.fields() else { return };
    if is_json && fields.get("apiVersion").is_none() && fields.get("kind").is_none() {
        return document.warn("no resource: it has neither an apiVersion nor a kind");
    }

    // Both fields are asked for before either may end the reading, so that both errors are reported.
    let version_field = fields.need("apiVersion", &format!("apiVersion: {OURS}"));
    let kind_field = fields.need("kind", "kind: Component");
    let Some(version_field) = version_field else { return };
    let Some(kind_field) = kind_field else { return };
    let version = version_field.text();
    let kind = kind_field.text();
    let Some(version) = version else { return };
    let Some(kind) = kind else { return };

    let Some(known) = KINDS.iter().find(|known| known.version == version && known.name == kind)
    else {
        return report_unknown(&version_field, &version, &kind_field, &kind);
    };
    resources.documents += 1;
    match known.read {
        Some(read) => read(&fields, resources),
        None => document.warn(&format!("this version does not act on a {kind}")),
    }
}

/// Reports a kind that isn't in the table, with the most likely remedy.
fn report_unknown(version_field: &Field<'_>, version: &str, kind_field: &Field<'_>, kind: &str) {
    let of_group = || KINDS.iter().filter(|known| group(known.version) == group(version));
    if of_group().next().is_none() {
        let problem = format!("unknown apiVersion {version:?}");
        let remedy = format!("write {DAPR}, {DAPR_2} or {OURS}, or move the file elsewhere");
        version_field.refuse::<()>(problem, remedy);
    } else if let Some(right) = of_group().find(|known| known.name == kind) {
        let problem = format!("{kind} is not of {version:?}");
        version_field.refuse::<()>(problem, format!("write {}", right.version));
    } else if let Some(meant) = nearest(kind, of_group().map(|known| known.name)) {
        kind_field.refuse::<()>(format!("unknown kind {kind:?}"), format!("did you mean {meant}?"));
    } else if group(version) == group(DAPR) {
        kind_field.warn(&format!("unknown kind {kind:?}, not acted on"));
    } else {
        let kinds: Vec<_> = of_group().map(|known| known.name).collect();
        let remedy = format!("known kinds are {}", kinds.join(", "));
        kind_field.refuse::<()>(format!("unknown kind {kind:?}"), remedy);
    }
}

/// The project that defines a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Dapr. Its files may hold fields that this version doesn't know, so these are only warned of.
    Dapr,
    /// Pannier. Its unknown fields are errors.
    Pannier,
}

impl Owner {
    /// Ends the top level of a document.
    fn close_document(self, document: &Fields<'_>) {
        document.know(&["apiVersion", "kind", "metadata", "spec"]);
        self.close(document);
    }

    /// Ends `metadata`. Every kind may have these fields, which have no effect here.
    fn close_metadata(self, metadata: &Fields<'_>) {
        metadata.know(&["name", "namespace", "labels", "annotations"]);
        self.close(metadata);
    }

    fn close(self, fields: &Fields<'_>) {
        match self {
            Self::Dapr => fields.warn_of_others(&[]),
            Self::Pannier => fields.refuse_others(),
        }
    }
}

/// Reads `metadata.name`, which is unique within its kind.
fn unique_name(document: &Fields<'_>, owner: Owner, kind: &'static str) -> Option<String> {
    let metadata = document.need("metadata", "metadata: {name: ...}")?.fields()?;
    let field = metadata.need("name", "name: my-name");
    owner.close_metadata(&metadata);
    let field = field?;
    let name = rules::name(&field)?;
    field.claim(kind, &name, "rename or remove one of them")?;
    Some(name)
}

/// Reads the top-level `scopes`: app ids; empty means all.
fn scopes(document: &Fields<'_>) -> Option<Vec<String>> {
    document.read_or("scopes", Vec::new(), |scopes| scopes.texts())
}
