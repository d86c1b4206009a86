//! Containers: made, shown, started and ended, and what they say and do.

mod archive;
mod attach;
mod create;
mod exec;
mod logs;
mod relay;
mod stats;
mod told;
mod update;
mod wait;
mod words;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use engine::containers::Status;
use engine::error::{EngineError, ShimError};
use engine::failed::PathChangeKind;
use engine::request::{TtySize, signal_number};
use serde_json::{Value, json};

use super::query::Parameters;
use super::{Api, ApiError};
use crate::documents;
use crate::filters::Filters;
use crate::filters::containers::ContainerFilters;

pub use create::{Create, read_any, request};
pub use exec::Execs;
use told::{ended, finished};

/// The words that Docker has for it.
const NO_SUCH_PROGRAM: u8 = 127;
/// The same, for what may not be executed.
const NO_PROGRAM: u8 = 126;

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/containers/json", get(list))
        .route("/containers/create", post(create::create))
        .route("/containers/prune", post(prune))
        .route("/containers/{id}", delete(remove))
        .route("/containers/{id}/json", get(inspect))
        .route("/containers/{id}/top", get(top))
        .route("/containers/{id}/changes", get(changes))
        .route("/containers/{id}/stats", get(stats::stats))
        .route("/containers/{id}/resize", post(resize))
        .route("/containers/{id}/start", post(start))
        .route("/containers/{id}/stop", post(stop))
        .route("/containers/{id}/restart", post(restart))
        .route("/containers/{id}/kill", post(kill))
        .route("/containers/{id}/update", post(update::update))
        .route("/containers/{id}/rename", post(rename))
        .route("/containers/{id}/pause", post(pause))
        .route("/containers/{id}/unpause", post(unpause))
        .route("/containers/{id}/wait", post(wait::wait))
        .route("/containers/{id}/logs", get(logs::logs))
        .route("/containers/{id}/attach", post(attach::attach))
        .route("/containers/{id}/attach/ws", get(attach::web_socket))
        .route("/containers/{id}/archive", get(archive::get).head(archive::head).put(archive::put))
        .route("/containers/{id}/export", get(archive::export))
        .route("/containers/{id}/exec", post(exec::create))
        .route("/exec/{id}/start", post(exec::start))
        .route("/exec/{id}/resize", post(exec::resize))
        .route("/exec/{id}/json", get(exec::inspect))
}

async fn list(State(api): State<Arc<Api>>, parameters: Parameters) -> Result<Json<Value>, ApiError> {
    let (size, limit) = (parameters.is_true("size"), parameters.number::<i64>("limit")?.unwrap_or(0));
    let all = parameters.is_true("all") || limit > 0;
    let texts = parameters.filters()?;
    let found = api.answer(move |engine| {
        let containers = engine.containers()?;
        let filters = match ContainerFilters::parse(&texts, &containers) {
            Ok(filters) => filters,
            Err(error) => return Ok(Err(error.into())),
        };
        let all = all || filters.is_about_status();
        let mut shown = Vec::new();
        for container in &containers {
            if limit > 0 && shown.len() as i64 >= limit {
                break;
            }
            if (all || container.state.status.is_live()) && filters.fit(container) {
                match documents::containers::summary::document(engine, container, size) {
                    Ok(summary) => shown.push(summary),
                    // It was removed meanwhile.
                    Err(_) if engine.container(&container.id).is_err() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Ok(shown))
    });
    Ok(Json(found.await?.into()))
}

async fn inspect(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, ApiError> {
    let size = parameters.is_true("size");
    let execs = Arc::clone(&api);
    let found = api.ask(move |engine| {
        let container = engine.container(&id)?;
        let mut document = documents::containers::document(engine, &container, size)?;
        document["ExecIDs"] = execs.execs.ids_of(&container.id);
        Ok(document)
    });
    Ok(Json(found.await?))
}

async fn top(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, ApiError> {
    let options: Vec<String> =
        parameters.get("ps_args").unwrap_or("-ef").split_whitespace().map(str::to_owned).collect();
    let table = api.ask(move |engine| engine.container_ps(&id, &options)).await?;
    Ok(Json(json!({ "Titles": table.titles, "Processes": table.rows })))
}

async fn changes(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let changes = api.cancellable(move |engine, cancel| engine.container_changes(&id, cancel)).await?;
    let kind = |kind| match kind {
        PathChangeKind::Changed => 0,
        PathChangeKind::Added => 1,
        PathChangeKind::Deleted => 2,
    };
    let all = changes
        .iter()
        .map(|change| json!({ "Path": format!("/{}", change.path.display()), "Kind": kind(change.kind) }));
    let all: Vec<Value> = all.collect();
    Ok(Json(if all.is_empty() { Value::Null } else { all.into() }))
}

async fn resize(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<(), ApiError> {
    let size = size(&parameters)?;
    api.ask(move |engine| engine.resize_container(&id, size)).await
}

/// The size of a terminal: `h` lines of `w` characters.
pub(super) fn size(parameters: &Parameters) -> Result<TtySize, ApiError> {
    let side = |name: &str| {
        let side = parameters.number::<u16>(name)?;
        side.ok_or_else(|| ApiError::bad_request(format!("invalid value \"\" for {name}: it is no number")))
    };
    Ok(TtySize { rows: side("h")?, columns: side("w")? })
}

async fn start(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let started = api.answer(move |engine| {
        let container = engine.container(&id)?;
        if container.state.status == Status::Paused {
            return Ok(Err(ApiError::conflict("cannot start a paused container, try unpause instead")));
        }
        match engine.start_stopped(&container.id) {
            Ok(started) => Ok(Ok(started)),
            Err(EngineError::Shim(ShimError::Refused { message, code })) => {
                Ok(Err(cannot_start(&message, code)))
            }
            Err(error) => Err(error),
        }
    });
    Ok(if started.await? { StatusCode::NO_CONTENT } else { StatusCode::NOT_MODIFIED })
}

/// A program that cannot be started. Clients read its exit code out of these words.
pub(super) fn cannot_start(message: &str, code: u8) -> ApiError {
    let words = match code {
        NO_SUCH_PROGRAM if !message.contains("no such file or directory") => {
            ": executable file not found in $PATH"
        }
        NO_PROGRAM if !message.contains("permission denied") => ": permission denied",
        _ => "",
    };
    let status = match code {
        NO_PROGRAM | NO_SUCH_PROGRAM => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    ApiError::new(status, format!("failed to create task for container: {message}{words}"))
}

/// How a container is to be stopped: by which signal, and after how many seconds it is killed.
fn stopping(parameters: &Parameters) -> Result<(Option<i32>, Option<i64>), ApiError> {
    Ok((parameters.get("signal").map(signal).transpose()?, parameters.number("t")?))
}

fn signal(text: &str) -> Result<i32, ApiError> {
    signal_number(text).map_err(|_| ApiError::bad_request(format!("Invalid signal: {text}")))
}

async fn stop(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let (signal, timeout) = stopping(&parameters)?;
    let Some(told) = api.ask(move |engine| engine.begin_stop(&id, signal, timeout)).await? else {
        return Ok(StatusCode::NOT_MODIFIED);
    };
    finished(told).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn restart(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let (signal, timeout) = stopping(&parameters)?;
    let name = id.clone();
    match api.ask(move |engine| engine.begin_restart(&name, signal, timeout)).await? {
        Some(told) => told::done(told).await?,
        None => return start(State(api), Path(id)).await.map(|_| StatusCode::NO_CONTENT),
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn kill(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    /// What cannot be refused.
    const KILL: i32 = 9;
    let signal = parameters.get("signal").map_or(Ok(KILL), signal)?;
    let told = api.answer(move |engine| {
        let container = engine.container(&id)?;
        let told = if signal == KILL { engine.told_of_end(&container.id)? } else { None };
        match engine.kill_container(&container.id, signal) {
            Ok(()) => Ok(Ok(told)),
            Err(EngineError::NotRunning(_) | EngineError::Shim(_)) => Ok(Err(ApiError::conflict(format!(
                "cannot kill container: {id}: container {} is not running",
                container.id
            )))),
            Err(error) => Err(error),
        }
    });
    if let Some(told) = told.await? {
        // It ends now, whatever its restart policy says.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(10), ended(told)).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn rename(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let new = parameters.get("name").unwrap_or_default();
    let new = new.strip_prefix('/').unwrap_or(new).to_owned();
    if new.is_empty() {
        return Err(ApiError::bad_request("Neither old nor new names may be empty"));
    }
    api.answer(move |engine| {
        if engine.container(&id)?.name == new {
            let message = "Renaming a container with the same name as its current name";
            return Ok(Err(ApiError::bad_request(message)));
        }
        engine.rename_container(&id, &new).map(Ok)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn pause(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    api.ask(move |engine| engine.pause_container(&id)).await.map_err(about_it)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn unpause(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    api.ask(move |engine| engine.unpause_container(&id)).await.map_err(about_it)?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a supervisor says of "it" is about a container.
fn about_it(error: ApiError) -> ApiError {
    match error.message.strip_prefix("it ") {
        Some(rest) => ApiError { message: format!("container {rest}"), ..error },
        None => error,
    }
}

async fn remove(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let (force, volumes) = (parameters.is_true("force"), parameters.is_true("v"));
    let link = parameters.is_true("link");
    api.ask(move |engine| match link {
        true => engine.remove_link(&id),
        false => {
            // One that is not there is told, also to who would have it gone by force.
            let id = engine.container(&id)?.id;
            engine.remove_container(&id, force, volumes)
        }
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn prune(State(api): State<Arc<Api>>, parameters: Parameters) -> Result<Json<Value>, ApiError> {
    let filters = Filters::parse_for_images(&parameters.filters()?, engine::now())?;
    let pruned = api.ask(move |engine| {
        engine.prune_containers(|container| {
            filters.until.is_none_or(|until| container.created_at < until)
                && filters.labels.iter().all(|label| label.fits(&container.document.labels))
        })
    });
    let (removed, bytes) = pruned.await?;
    let removed = if removed.is_empty() { Value::Null } else { removed.into() };
    Ok(Json(json!({ "ContainersDeleted": removed, "SpaceReclaimed": bytes })))
}
