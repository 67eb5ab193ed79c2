//! `/v1.0/state`: keys and values of the app.

mod wire;

use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use blocks::json_error::explain;
use blocks::state::{self, Change, Operation, OperationKind, WriteOptions, expire_time};
use components::{Item, Refusal};
use serde::Serialize;
use serde_json::value::RawValue;

use self::wire::{WireBulkGet, WireItem, WireOperation, WireTransaction};
use super::error::ApiError;
use super::json;
use super::request::ApiRequest;

pub(super) async fn get_one(request: ApiRequest) -> Result<Response, ApiError> {
    let ApiRequest { api, head, .. } = request;
    let store = head.parameter("store")?;
    let key = head.parameter("key")?;
    let query = head.query()?;
    let registry = api.registry();
    let store = state::find(&registry, &store)?;
    let consistency = query.get("consistency").unwrap_or_default();
    let item = store.get(&key, consistency).await?;
    Ok(item.map_or_else(no_content, found))
}

fn found(item: Item) -> Response {
    let Item { value, etag, expires_in } = item;
    let mut response = value.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert(header::ETAG, etag);
    }
    let expires = expires_in.and_then(expire_time).map(HeaderValue::try_from);
    if let Some(Ok(expires)) = expires {
        headers.insert(HeaderName::from_static("metadata.ttlexpiretime"), expires);
    }
    response
}

pub(super) async fn save(request: ApiRequest) -> Result<Response, ApiError> {
    let ApiRequest { api, head, body } = request;
    let registry = api.registry();
    let store = state::find(&registry, &head.parameter("store")?)?;
    let metadata = head.query()?.metadata();
    let body = body.read().await?;
    let items: Option<Vec<WireItem<'_>>> =
        serde_json::from_slice(&body).map_err(|error| ApiError::malformed(explain(&error)))?;
    let items = items.unwrap_or_default().into_iter().map(WireItem::into_change).collect();
    store.save(items, &metadata).await?;
    Ok(no_content())
}

pub(super) async fn delete_one(request: ApiRequest) -> Result<Response, ApiError> {
    let ApiRequest { api, head, .. } = request;
    let store = head.parameter("store")?;
    let key = head.parameter("key")?.into_owned();
    let query = head.query()?;
    let registry = api.registry();
    let store = state::find(&registry, &store)?;
    let etag = match head.parts.headers.get(header::IF_MATCH).map(HeaderValue::to_str) {
        Some(Ok(etag)) => Some(etag.to_owned()),
        Some(Err(_)) => return Err(ApiError::malformed("the header If-Match is no text")),
        None => None,
    };
    let option = |name| query.get(name).map(str::to_owned);
    let options =
        WriteOptions { concurrency: option("concurrency"), consistency: option("consistency") };
    let change = Change { key, etag, options, ..Change::default() };
    store.delete(change).await?;
    Ok(no_content())
}

/// A row of a bulk get; a missing key has nothing but itself.
#[derive(Serialize)]
struct BulkItem {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn get_bulk(request: ApiRequest) -> Result<Response, ApiError> {
    let ApiRequest { api, head, body } = request;
    let registry = api.registry();
    let store = state::find(&registry, &head.parameter("store")?)?;
    let body = body.read().await?;
    let request: WireBulkGet =
        serde_json::from_slice(&body).map_err(|error| ApiError::deserializing(&error))?;
    let keys = request.keys.unwrap_or_default();
    let rows = store.get_bulk(&keys).await?;
    let items: Vec<_> = keys.into_iter().zip(rows).map(|(key, row)| bulk_item(key, row)).collect();
    Ok(json(&items))
}

fn bulk_item(key: String, item: Result<Option<Item>, Refusal>) -> BulkItem {
    let absent = BulkItem { key, data: None, etag: None, metadata: BTreeMap::new(), error: None };
    let Item { value, etag, expires_in } = match item {
        Ok(Some(item)) => item,
        Ok(None) => return absent,
        Err(error) => return BulkItem { error: Some(error.to_string()), ..absent },
    };
    let expires = expires_in.and_then(expire_time);
    let metadata = expires.map(|time| ("ttlExpireTime", time)).into_iter().collect();
    let value = String::from_utf8(value).ok();
    match value.and_then(|value| RawValue::from_string(value).ok()) {
        data @ Some(_) => BulkItem { data, etag: Some(etag), metadata, ..absent },
        None => BulkItem { error: Some("the value is no JSON: get it alone".into()), ..absent },
    }
}

pub(super) async fn transaction(request: ApiRequest) -> Result<Response, ApiError> {
    let ApiRequest { api, head, body } = request;
    let registry = api.registry();
    let store = state::find(&registry, &head.parameter("store")?)?;
    let metadata = head.query()?.metadata();
    let body = body.read().await?;
    let request: WireTransaction<'_> =
        serde_json::from_slice(&body).map_err(|error| ApiError::deserializing(&error))?;
    let operations = request.operations.unwrap_or_default().into_iter().map(operation);
    let operations = operations.collect::<Result<_, _>>()?;
    store.transact(operations, &metadata).await?;
    Ok(no_content())
}

fn operation(wire: WireOperation<'_>) -> Result<Operation, ApiError> {
    let kind = OperationKind::parse(&wire.operation.unwrap_or_default())?;
    let item: WireItem<'_> = serde_json::from_str(wire.request.map_or("null", RawValue::get))
        .map_err(|error| ApiError::deserializing(&error))?;
    Ok(Operation { kind, change: item.into_change() })
}

pub(super) async fn query(request: ApiRequest) -> Result<Response, ApiError> {
    let ApiRequest { api, head, .. } = request;
    let registry = api.registry();
    state::find(&registry, &head.parameter("store")?)?.query()?;
    Ok(no_content())
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
mod tests;
