//! Whether the daemon is there, what it is, and what happens.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Response};
use axum::routing::get;
use axum::{Json, Router};
use engine::events_log::EventsRequest;
use serde_json::Value;

use super::query::Parameters;
use super::version::ApiVersion;
use super::{Api, ApiError, follow};
use crate::documents;
use crate::filters::events::EventFilters;
use crate::filters::moment;

/// What begins each text of a sequence (RFC 7464).
const RECORD_SEPARATOR: u8 = 0x1e;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/_ping", get(ping).head(ping))
        .route("/version", get(version))
        .route("/info", get(info))
        .route("/events", get(events))
}

/// The versions are in the headers of every answer.
async fn ping() -> Response<Body> {
    let mut response = Response::new(Body::from("OK"));
    let headers = response.headers_mut();
    for (name, value) in [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Builder-Version", "2"),
        ("Swarm", "inactive"),
        ("Cache-Control", "no-cache, no-store, must-revalidate"),
        ("Pragma", "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn version(State(api): State<Arc<Api>>) -> Result<Json<Value>, ApiError> {
    let info = api.ask(|engine| engine.info()).await?;
    let (newest, oldest) = (ApiVersion::NEWEST.to_string(), ApiVersion::OLDEST.to_string());
    Ok(Json(documents::system::version(&info, &newest, &oldest)))
}

async fn info(State(api): State<Arc<Api>>) -> Result<Json<Value>, ApiError> {
    let (info, containers) = api.ask(|engine| Ok((engine.info()?, engine.containers()?))).await?;
    Ok(Json(documents::system::info(&info, &containers)))
}

/// What happens, a line for each event, until the client goes or the time that it asked for has come.
async fn events(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response<Body>, ApiError> {
    let now = engine::now();
    let time = |name: &str| parameters.get(name).map(|text| moment(name, text, now)).transpose();
    let request = EventsRequest { since: time("since")?, until: time("until")? };
    let filters = EventFilters::parse(&parameters.filters()?)?;
    let accepted = headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let sequence = accepted.contains("application/json-seq");
    let events = api.ask(move |engine| engine.events(&request)).await?;
    let body = follow::body(events, move |event, line| {
        if filters.fit(event) {
            if sequence {
                line.push(RECORD_SEPARATOR);
            }
            line.extend_from_slice(documents::events::document(event).to_string().as_bytes());
            line.push(b'\n');
        }
    });
    let mut response = Response::new(body);
    let kind = if sequence { "application/json-seq" } else { "application/json" };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
