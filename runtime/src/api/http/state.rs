//! `/v1.0/state`: keys and values of the app.

mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use components::{Item, StateError, StateOp};
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::wire::{Options, WireBulkGet, WireItem, WireTransaction};
use super::error::ApiError;
use super::request::{Body, KeyTarget, One, Query};
use super::{ApiState, json};
use blocks::json_error::explain;
use blocks::state::BoundStore;

pub(super) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/v1.0/state/{store}", post(save).put(save))
        .route("/v1.0/state/{store}/{key}", get(get_one).delete(delete_one))
        .route(
            "/v1.0/state/{store}/bulk",
            get(get_one).delete(delete_one).post(get_bulk).put(get_bulk),
        )
        .route(
            "/v1.0/state/{store}/transaction",
            get(get_one).delete(delete_one).post(transaction).put(transaction),
        )
        .route("/v1.0-alpha1/state/{store}/query", post(query).put(query))
}

async fn get_one(
    State(api): State<ApiState>,
    target: KeyTarget,
    query: Query,
) -> Result<Response, ApiError> {
    let store = store_of(&api, &target)?;
    let KeyTarget { store: name, key } = target;
    let failed = |error: StateError| {
        let message = format!("fail to get {key} from state store {name}: {error}");
        ApiError::state("ERR_STATE_GET", message, &error)
    };
    wire::check_consistency(query.get("consistency").unwrap_or_default()).map_err(failed)?;
    Ok(store.get(&key).await.map_err(failed)?.map_or_else(no_content, found))
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

async fn save(
    Named { name, store }: Named,
    query: Query,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let items: Option<Vec<WireItem<'_>>> =
        serde_json::from_slice(&body).map_err(|error| ApiError::malformed(explain(&error)))?;
    let items = items.unwrap_or_default();
    if items.is_empty() {
        return Ok(no_content());
    }
    let failed = |error: StateError| {
        let message = format!("failed saving state in state store {name}: {error}");
        ApiError::state("ERR_STATE_SAVE", message, &error)
    };
    for item in &items {
        check(&store, &name, item)?;
    }
    let metadata = query.metadata();
    let ops: Result<Vec<_>, _> = items.into_iter().map(|item| item.upsert(&metadata)).collect();
    store.write(ops.map_err(failed)?).await.map_err(failed)?;
    Ok(no_content())
}

async fn delete_one(
    State(api): State<ApiState>,
    target: KeyTarget,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let store = store_of(&api, &target)?;
    let key = target.key;
    let failed = |error: StateError| {
        let message = format!("failed deleting state with key {key}: {error}");
        ApiError::state("ERR_STATE_DELETE", message, &error)
    };
    let etag = match headers.get(header::IF_MATCH).map(HeaderValue::to_str) {
        Some(Ok(etag)) => Some(etag.to_owned()),
        Some(Err(_)) => return Err(ApiError::malformed("the header If-Match is no text")),
        None => None,
    };
    let option = |name| query.get(name).map(str::to_owned);
    let options =
        Options { concurrency: option("concurrency"), consistency: option("consistency") };
    let op = wire::delete(key.clone(), etag, &options).map_err(failed)?;
    store.write(vec![op]).await.map_err(failed)?;
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

async fn get_bulk(Named { name, store }: Named, Body(body): Body) -> Result<Response, ApiError> {
    let request: WireBulkGet =
        serde_json::from_slice(&body).map_err(|error| ApiError::deserializing(&error))?;
    let keys = request.keys.unwrap_or_default();
    for key in &keys {
        check_key(&store, &name, key)?;
    }
    let mut items = Vec::with_capacity(keys.len());
    for key in keys {
        let item = store.get(&key).await;
        items.push(bulk_item(key, item));
    }
    Ok(json(&items))
}

fn bulk_item(key: String, item: Result<Option<Item>, StateError>) -> BulkItem {
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

async fn transaction(
    Named { name, store }: Named,
    query: Query,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let request: WireTransaction<'_> =
        serde_json::from_slice(&body).map_err(|error| ApiError::deserializing(&error))?;
    let operations = request.operations.unwrap_or_default();
    if operations.is_empty() {
        return Ok(no_content());
    }
    let metadata = query.metadata();
    let mut ops = Vec::with_capacity(operations.len());
    for operation in operations {
        let kind = operation.operation.unwrap_or_default();
        let is_upsert = match kind.as_str() {
            "upsert" => true,
            "delete" => false,
            _ => return Err(unsupported(&kind)),
        };
        let item: WireItem<'_> =
            serde_json::from_str(operation.request.map_or("null", RawValue::get))
                .map_err(|error| ApiError::deserializing(&error))?;
        check(&store, &name, &item)?;
        let op: Result<StateOp, _> = if is_upsert { item.upsert(&metadata) } else { item.delete() };
        ops.push(op.map_err(|error| ApiError::transaction(&error))?);
    }
    let max = store.max_operations();
    if ops.len() > max {
        return Err(ApiError::too_many_operations(&name, ops.len(), max));
    }
    store.write(ops).await.map_err(|error| ApiError::transaction(&error))?;
    Ok(no_content())
}

async fn query(Named { name, .. }: Named) -> Result<Response, ApiError> {
    Err(ApiError::no_query(&name))
}

/// The store that the path names.
struct Named {
    name: String,
    store: BoundStore,
}

impl FromRequestParts<ApiState> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, ApiError> {
        let One(name) = One::from_request_parts(parts, api).await?;
        let store = find(api, &name)?.clone();
        Ok(Self { name, store })
    }
}

/// The store of a key that the app may use.
fn store_of<'a>(api: &'a ApiState, target: &KeyTarget) -> Result<&'a BoundStore, ApiError> {
    let store = find(api, &target.store)?;
    check_key(store, &target.store, &target.key)?;
    Ok(store)
}

fn find<'a>(api: &'a ApiState, name: &str) -> Result<&'a BoundStore, ApiError> {
    api.blocks.state.find(name).map_err(|error| ApiError::state_store(error, name, &api.app_id))
}

fn check(store: &BoundStore, name: &str, item: &WireItem<'_>) -> Result<(), ApiError> {
    let key = item.key.as_deref().unwrap_or_default();
    if key.is_empty() {
        return Err(ApiError::malformed("\"key\" is a required field"));
    }
    check_key(store, name, key)
}

fn check_key(store: &BoundStore, name: &str, key: &str) -> Result<(), ApiError> {
    store.check_key(key).map_err(|error| ApiError::illegal_key(&error, name))
}

fn unsupported(operation: &str) -> ApiError {
    let message = format!("operation type {operation} not supported");
    ApiError::new(StatusCode::BAD_REQUEST, "ERR_NOT_SUPPORTED_STATE_OPERATION", message)
}

/// When a row expires by the wall clock; for the caller's eyes alone.
fn expire_time(expires_in: Duration) -> Option<String> {
    let at = OffsetDateTime::now_utc().checked_add(expires_in.try_into().ok()?)?;
    at.replace_nanosecond(0).ok()?.format(&Rfc3339).ok()
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
mod tests;
