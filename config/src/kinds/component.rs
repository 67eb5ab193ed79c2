//! Dapr's `Component`.

use std::collections::BTreeSet;

use super::{Owner, scopes, unique_name};
use crate::model::{Component, MetadataItem, MetadataValue, Resources};
use crate::reader::{Field, Fields};

/// The default of `spec.version`, Dapr's.
const DEFAULT_VERSION: &str = "v1";

pub(super) fn read(document: &Fields<'_>, resources: &mut Resources) {
    resources.components.extend(component(document));
}

fn component(document: &Fields<'_>) -> Option<Component> {
    let name = unique_name(document, Owner::Dapr, "Component");
    let secret_store = secret_store(document);
    let scopes = scopes(document);
    let spec = document.need("spec", "spec: {type: state.redb, version: v1}");
    Owner::Dapr.close_document(document);
    let spec = spec?.fields()?;
    let kind = spec.need("type", "type: state.redb").and_then(|kind| type_name(&kind));
    let version = spec.read_or("version", DEFAULT_VERSION.into(), |version| version.text());
    let ignore_errors = spec.read_or("ignoreErrors", false, |ignore| ignore.flag());
    let metadata = spec.read_or("metadata", Vec::new(), |metadata| items(&metadata));
    spec.warn_of_others(&["initTimeout"]);
    let metadata = metadata?;
    let secret_store = secret_store?;
    check_secret_store(document, &metadata, secret_store.as_deref())?;
    Some(Component {
        name: name?,
        kind: kind?,
        version: version?,
        ignore_errors: ignore_errors?,
        metadata,
        scopes: scopes?,
        secret_store,
        origin: document.origin(),
    })
}

/// Reads a building block and an implementation. The registry decides whether they exist.
fn type_name(field: &Field<'_>) -> Option<String> {
    let name = field.text()?;
    let well_formed = name.split_once('.').is_some_and(|(block, rest)| {
        !block.is_empty() && !rest.is_empty() && !name.contains(char::is_whitespace)
    });
    match well_formed {
        true => Some(name),
        false => field.refuse(
            format!("{name:?} is not a component type"),
            "write a building block, a dot and an implementation, for example state.redb",
        ),
    }
}

fn secret_store(document: &Fields<'_>) -> Option<Option<String>> {
    document.read_or("auth", None, |auth| {
        let auth = auth.fields()?;
        let store = auth.read("secretStore", |store| store.text());
        auth.warn_of_others(&[]);
        store
    })
}

fn items(field: &Field<'_>) -> Option<Vec<MetadataItem>> {
    let mut names = BTreeSet::new();
    let mut all = Some(Vec::new());
    for field in field.items()? {
        let item = item(&field).and_then(|item| {
            // Dapr ignores the letter case of these names.
            if names.insert(item.name.to_lowercase()) {
                return Some(item);
            }
            field.refuse(format!("{:?} is given twice", item.name), "remove one of them")
        });
        all = all.zip(item).map(|(mut all, item)| {
            all.push(item);
            all
        });
    }
    all
}

fn item(field: &Field<'_>) -> Option<MetadataItem> {
    let fields = field.fields()?;
    let name = fields.need("name", "name: keyPrefix").and_then(|name| name.text());
    let literal = fields.written("value");
    let secret = fields.get("secretKeyRef");
    let env = fields.get("envRef");
    fields.warn_of_others(&[]);
    let value = match (literal, secret, env) {
        (Some(value), None, None) => value.any_text().map(MetadataValue::Literal),
        (None, Some(secret), None) => secret_ref(&secret),
        (None, None, Some(env)) => env_ref(&env),
        (None, None, None) => field.refuse(
            "has no value",
            "add value, secretKeyRef or envRef; an empty value is value: \"\"",
        ),
        _ => field.refuse("has more than one value", "keep one of value, secretKeyRef and envRef"),
    };
    Some(MetadataItem { name: name?, value: value?, line: field.origin().line })
}

fn secret_ref(field: &Field<'_>) -> Option<MetadataValue> {
    let fields = field.fields()?;
    let name = fields.need("name", "name: redis-secret").and_then(|name| name.text());
    let key = fields.read("key", |key| key.text());
    fields.warn_of_others(&[]);
    let name = name?;
    let key = key?.unwrap_or_else(|| name.clone());
    Some(MetadataValue::Secret { name, key })
}

/// Reads the name of a variable. Dapr's own hold its tokens, so no component may ask for them.
fn env_ref(field: &Field<'_>) -> Option<MetadataValue> {
    let name = field.text()?;
    if name.to_uppercase().starts_with("DAPR_") || name.to_uppercase() == "APP_API_TOKEN" {
        let problem = format!("the variable {name:?} is not for components");
        return field.refuse(problem, "use a variable that isn't DAPR_* or APP_API_TOKEN");
    }
    crate::rules::variable(field).map(MetadataValue::Env)
}

/// Refuses a `secretKeyRef` where no secret store is named.
fn check_secret_store(
    document: &Fields<'_>,
    metadata: &[MetadataItem],
    store: Option<&str>,
) -> Option<()> {
    let secret = |item: &&MetadataItem| matches!(item.value, MetadataValue::Secret { .. });
    match metadata.iter().find(secret) {
        Some(item) if store.is_none() => document.whole().refuse(
            format!("{:?} is a secretKeyRef, and no secret store is named", item.name),
            "add auth: {secretStore: NAME} beside spec",
        ),
        _ => Some(()),
    }
}

#[cfg(test)]
mod tests;
