//! The parts of a request that handlers read: path, query, headers and body, each with an error in
//! Dapr's words.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;

use super::error::ApiError;
use super::{ApiState, path};
use crate::api::stack::is_escaped_well;
use crate::serve::Stalled;

/// A request for a handler.
pub(super) struct ApiRequest {
    pub(super) api: ApiState,
    pub(super) head: RequestHead,
    pub(super) body: RequestBody,
}

/// The head of a request, and the path of its route.
pub(super) struct RequestHead {
    pub(super) parts: Parts,
    pub(super) pattern: &'static str,
}

impl RequestHead {
    /// Returns the part of the path that `name` stands for in the route's path, decoded; empty if the
    /// route's path has no such name.
    pub(super) fn parameter(&self, name: &str) -> Result<Cow<'_, str>, ApiError> {
        let part = path::captured(self.pattern, self.parts.uri.path(), name).unwrap_or_default();
        percent_decode_str(part)
            .decode_utf8()
            .map_err(|_| ApiError::malformed(format!("Invalid URL: Invalid UTF-8 in `{name}`")))
    }

    /// Returns the query's parameters.
    pub(super) fn query(&self) -> Result<Query, ApiError> {
        Query::parse(self.parts.uri.query().unwrap_or_default())
    }

    /// Returns a header's value if it is a text that isn't empty.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let value = self.parts.headers.get(name)?.to_str().ok()?;
        Some(value).filter(|value| !value.is_empty())
    }
}

/// The body of a request, not read yet.
pub(super) struct RequestBody {
    pub(super) body: Body,
    /// Most bytes that may be read.
    pub(super) limit: usize,
}

impl RequestBody {
    /// Reads the body, within the limit.
    pub(super) async fn read(self) -> Result<Vec<u8>, ApiError> {
        let Self { mut body, limit } = self;
        // Copy the pieces: each would keep one of hyper's buffers, even for a single byte.
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| unreadable(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            if data.len() > limit - read.len() {
                return Err(ApiError::oversize(limit));
            }
            read.extend_from_slice(&data);
        }
        Ok(read)
    }
}

fn unreadable(error: &axum::Error) -> ApiError {
    if Stalled::is_cause_of(error) {
        return ApiError::stalled(Stalled);
    }
    let message = format!("Failed to buffer the request body: {error}");
    ApiError::new(StatusCode::BAD_REQUEST, "ERR_BODY_READ", message)
}

/// The query's parameters, decoded, in their order.
pub(super) struct Query(Vec<(String, String)>);

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

    /// Returns the `metadata.<name>` parameters by name; the first of a name counts.
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
