//! Extractors of handlers: path, query and body, each with an error in Dapr's words.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::ApiState;
use super::error::ApiError;
use crate::serve::Stalled;

/// The one parameter of a path.
pub(super) struct PathParameter(pub(super) String);

/// A state store and a key of it.
#[derive(Deserialize)]
pub(super) struct KeyTarget {
    pub(super) store: String,
    /// Left out where the path has it as a word of its own (`bulk`).
    #[serde(default)]
    pub(super) key: String,
}

impl FromRequestParts<ApiState> for PathParameter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let Path(first) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::malformed(error.body_text()))?;
        Ok(Self(first))
    }
}

impl FromRequestParts<ApiState> for KeyTarget {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let Path(mut target) = Path::<Self>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::malformed(error.body_text()))?;
        if target.key.is_empty() {
            let last = parts.uri.path().rsplit('/').next();
            target.key = last.unwrap_or_default().to_owned();
        }
        Ok(target)
    }
}

/// The body, within the limit.
pub(super) struct Body(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        // Copied together: a body that comes in bytes would hold a buffer of hyper's for each.
        let read = BytesMut::from_request(request, state).await;
        read.map(|body| Self(body.freeze())).map_err(|error| match error.status() {
            // The limit is named where it is known.
            StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            _ if Stalled::is_cause_of(&error) => ApiError::stalled(Stalled).into_response(),
            status => ApiError::new(status, "ERR_BODY_READ", error.body_text()).into_response(),
        })
    }
}

/// The query's parameters, decoded, in their order.
pub(super) struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Query {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((unescape(name)?, unescape(value)?))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Returns the first value of that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns the `metadata.<name>` parameters; the first of a name counts.
    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::new();
        for (name, value) in &self.0 {
            if let Some(name) = name.strip_prefix("metadata.") {
                metadata.entry(name.to_owned()).or_insert_with(|| value.clone());
            }
        }
        metadata
    }
}

/// Returns whether each `%` is followed by two hexadecimal digits.
pub(super) fn is_escaped_well(text: &str) -> bool {
    let digits = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    text.split('%').skip(1).all(digits)
}

fn unescape(text: &str) -> Result<String, ApiError> {
    let spaced = text.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) if is_escaped_well(text) => Ok(decoded.into_owned()),
        _ => Err(ApiError::malformed(format!("the query's {text:?} is no escaped UTF-8 text"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_query_is_unescaped_and_its_first_value_counts() {
        let query =
            Query::parse("metadata.a+b=%C3%A4&metadata.a%20b=2&consistency=strong&x").unwrap();
        assert_eq!(query.get("consistency"), Some("strong"));
        assert_eq!(query.get("x"), Some(""));
        assert_eq!(query.metadata(), BTreeMap::from([("a b".to_owned(), "ä".to_owned())]));
    }

    #[test]
    fn a_query_that_is_no_text_is_refused() {
        for query in ["a=%zz", "a=%ff", "a=%", "%2=1"] {
            assert!(Query::parse(query).is_err(), "{query}");
        }
    }
}
