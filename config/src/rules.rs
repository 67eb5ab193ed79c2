//! The rules for names, topics and secrets.

use std::path::PathBuf;

use crate::model::Secret;
use crate::reader::Field;

pub(crate) mod mqtt;
pub(crate) mod overlap;
pub(crate) mod uplinks;

/// Bytes of a name: Kubernetes' limit, so that Dapr's names fit.
const MAX_NAME_BYTES: usize = 253;

/// Reads a name that can be part of a key, a path and a URL.
pub(crate) fn name(field: &Field<'_>) -> Option<String> {
    let name = field.text()?;
    let remedy = "use letters, digits, dashes and dots";
    if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return field.refuse("a name can't hold white space", remedy);
    }
    if name.contains('/') || name.contains("||") {
        return field.refuse("a name can't hold / or ||", remedy);
    }
    if name.len() > MAX_NAME_BYTES {
        let remedy = format!("shorten it to {MAX_NAME_BYTES} bytes");
        return field.refuse(format!("the name has {} bytes", name.len()), remedy);
    }
    Some(name)
}

/// Reads the name of an environment variable.
pub(crate) fn variable(field: &Field<'_>) -> Option<String> {
    let name = field.text()?;
    match name.contains(|c: char| c.is_whitespace() || c == '=' || c == '\0') {
        true => field.refuse(
            "not the name of an environment variable",
            "write a name without spaces and without =",
        ),
        false => Some(name),
    }
}

/// Reads a path. Relative ones are relative to the working directory.
pub(crate) fn path(field: &Field<'_>) -> Option<PathBuf> {
    match field.text()? {
        path if path.contains('\0') => field.refuse("a path can't hold NUL", "correct it"),
        path => Some(path.into()),
    }
}

/// Reads a secret: its text, `{env: NAME}` or `{file: PATH}`.
pub(crate) fn secret(field: &Field<'_>) -> Option<Secret> {
    if !field.is_map() {
        return field.text().map(Secret::Literal);
    }
    let fields = field.fields()?;
    let env = fields.read("env", |env| variable(&env));
    let file = fields.read("file", |file| path(&file));
    fields.refuse_others();
    match (env?, file?) {
        (Some(env), None) => Some(Secret::Env(env)),
        (None, Some(file)) => Some(Secret::File(file)),
        _ => field
            .refuse("a secret comes from one place", "write its text, {env: NAME} or {file: PATH}"),
    }
}
