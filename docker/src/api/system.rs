//! Whether the daemon is there, what it is, and what happens.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base::CancelToken;
use engine::events_log::EventsRequest;
use engine::registries::Credential;
use serde_json::{Value, json};

use super::query::Parameters;
use super::version::ApiVersion;
use super::{Api, ApiError, body, credentials, follow};
use crate::documents;
use crate::filters::events::EventFilters;
use crate::filters::moment;

/// What begins each text of a sequence (RFC 7464).
const RECORD_SEPARATOR: u8 = 0x1e;

/// What takes space.
const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/_ping", get(ping).head(ping))
        .route("/version", get(version))
        .route("/info", get(info))
        .route("/events", get(events))
        .route("/auth", post(auth))
        .route("/system/df", get(usage))
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

/// Asks a registry whether it takes a login.
async fn auth(State(api): State<Arc<Api>>, body: Body) -> Result<Json<Value>, ApiError> {
    let (registry, credential) = credentials::tried(body::json(body).await?)?;
    let tried = api.ask(move |engine| engine.try_login(&registry, &credential, &CancelToken::new()));
    let refused = |error: ApiError| match error.status {
        StatusCode::INTERNAL_SERVER_ERROR => error,
        _ => ApiError::new(StatusCode::UNAUTHORIZED, error.message),
    };
    let token = match tried.await.map_err(refused)? {
        Credential::IdentityToken(token) => token,
        _ => String::new(),
    };
    Ok(Json(json!({ "Status": "Login Succeeded", "IdentityToken": token })))
}

/// What takes how much space. `type` names some of the kinds.
async fn usage(State(api): State<Arc<Api>>, parameters: Parameters) -> Result<Json<Value>, ApiError> {
    let kinds = parameters.all("type");
    if let Some(unknown) = kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(ApiError::bad_request(format!("unknown object type: {unknown}")));
    }
    let found = api.ask(move |engine| {
        let wants = |kind: &str| kinds.is_empty() || kinds.iter().any(|wanted| wanted == kind);
        let mut value = json!({});
        let containers = engine.containers()?;
        if wants("image") || wants("build-cache") {
            let details = engine.usage_details()?;
            if wants("image") {
                value["LayersSize"] = engine.usage()?.images.size.into();
                value["Images"] = documents::system::images(&details, &containers);
            }
            if wants("build-cache") {
                value["BuildCache"] = details.cache.iter().map(documents::system::cache).collect();
            }
        }
        if wants("container") {
            let of_one = |container| documents::containers::summary::document(engine, container, true);
            value["Containers"] = containers.iter().map(of_one).collect::<Result<Vec<_>, _>>()?.into();
        }
        if wants("volume") {
            let mut volumes = Vec::new();
            for volume in engine.volumes()? {
                volumes.push(documents::volumes::document_of_usage(&engine.volume_usage(&volume)?));
            }
            value["Volumes"] = volumes.into();
        }
        Ok(value)
    });
    Ok(Json(found.await?))
}
