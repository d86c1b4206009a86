//! Volumes: made, shown and removed.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bollard_stubs::models::VolumeCreateRequest;
use engine::request::VolumeSettings;
use engine::volumes::DRIVER;
use serde_json::{Value, json};

use super::query::Parameters;
use super::version::ApiVersion;
use super::{Api, ApiError, body};
use crate::documents::volumes::document;
use crate::filters::Filters;
use crate::filters::volumes::VolumeFilters;

/// Since this version only anonymous volumes are pruned, if not all are asked for.
const ANONYMOUS_ONLY: ApiVersion = ApiVersion::minor(42);

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/create", post(create))
        .route("/volumes/prune", post(prune))
        .route("/volumes/{name}", get(inspect).delete(remove).put(update))
}

async fn list(State(api): State<Arc<Api>>, parameters: Parameters) -> Result<Json<Value>, ApiError> {
    let filters = VolumeFilters::parse(&parameters.filters()?)?;
    let found = api.ask(move |engine| {
        let mut found = Vec::new();
        for volume in engine.volumes()? {
            if filters.fit(engine, &volume)? {
                found.push(document(&volume));
            }
        }
        Ok(found)
    });
    Ok(Json(json!({ "Volumes": found.await?, "Warnings": [] })))
}

async fn create(State(api): State<Arc<Api>>, body: Body) -> Result<(StatusCode, Json<Value>), ApiError> {
    let request: VolumeCreateRequest = body::json_or_default(body).await?;
    if let Some(driver) = request.driver.as_deref().filter(|driver| !matches!(*driver, "" | DRIVER)) {
        return Err(ApiError::not_found(format!(
            "error looking up volume plugin {driver}: plugin {driver:?} not found"
        )));
    }
    if request.cluster_volume_spec.is_some() {
        return Err(ApiError::bad_request("there is no cluster, so no cluster volumes"));
    }
    let settings = VolumeSettings {
        labels: request.labels.unwrap_or_default().into_iter().collect(),
        options: request.driver_opts.unwrap_or_default().into_iter().collect(),
    };
    let name = request.name.filter(|name| !name.is_empty());
    let made = api.ask(move |engine| engine.create_volume(name.as_deref(), &settings)).await?;
    Ok((StatusCode::CREATED, Json(document(&made))))
}

async fn inspect(State(api): State<Arc<Api>>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    Ok(Json(document(&api.ask(move |engine| engine.volume(&name)).await?)))
}

async fn remove(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let force = parameters.is_true("force");
    let removed = api.ask(move |engine| match engine.remove_volume(&name) {
        Err(error) if force && error.is_missing_volume() => Ok(()),
        removed => removed,
    });
    removed.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Only volumes of clusters can be changed.
async fn update() -> ApiError {
    super::swarm::outside()
}

async fn prune(
    State(api): State<Arc<Api>>,
    version: axum::Extension<ApiVersion>,
    parameters: Parameters,
) -> Result<Json<Value>, ApiError> {
    let is_all = |filter: &String| matches!(filter.as_str(), "all=true" | "all=1");
    let (all, filters): (Vec<String>, Vec<String>) = parameters.filters()?.into_iter().partition(is_all);
    let filters: Vec<String> = filters.into_iter().filter(|filter| !filter.starts_with("all=")).collect();
    let filters = Filters::parse_for_images(&filters, engine::now())?;
    let all = !all.is_empty() || *version < ANONYMOUS_ONLY;
    let pruned = api.ask(move |engine| {
        engine.prune_volumes(|volume| {
            (all || volume.anonymous) && filters.labels.iter().all(|label| label.fits(&volume.labels))
        })
    });
    let (removed, bytes) = pruned.await?;
    Ok(Json(json!({ "VolumesDeleted": removed, "SpaceReclaimed": bytes })))
}
