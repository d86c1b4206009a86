//! Images of containers.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use base::CancelToken;
use bollard_stubs::models::ContainerConfig;
use engine::containers::files::CommitRequest;
use serde_json::{Value, json};

use super::super::query::Parameters;
use super::super::{Api, ApiError, body};
use super::named;

/// Makes an image of what a container's files are now.
pub(super) async fn commit(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
    body: Body,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let config: Option<ContainerConfig> = body::json_or_default(body).await?;
    let container =
        parameters.get("container").ok_or_else(|| ApiError::bad_request("no container is named"))?;
    let text = |name: &str| parameters.get(name).unwrap_or_default().to_owned();
    let mut changes = config.map(instructions).unwrap_or_default();
    for given in parameters.all("changes") {
        changes.extend(given.lines().map(str::to_owned).filter(|line| !line.trim().is_empty()));
    }
    let request = CommitRequest {
        container: container.to_owned(),
        name: parameters
            .get("repo")
            .map(|repository| named(repository, parameters.get("tag")))
            .transpose()?,
        author: text("author"),
        message: text("comment"),
        changes,
        pause: parameters.is_true_or("pause", true),
    };
    let made = api.ask(move |engine| engine.commit_container(&request, &CancelToken::new())).await?;
    Ok((StatusCode::CREATED, Json(json!({ "Id": made.id }))))
}

/// What a client says of the image beside its files, as instructions.
fn instructions(config: ContainerConfig) -> Vec<String> {
    // In JSON nothing but quotes and backslashes is special; here a dollar is, too.
    let quoted = |text: &str| Value::from(text).to_string().replace('$', "\\$");
    let mut lines = Vec::new();
    for (name, words) in [("CMD", config.cmd), ("ENTRYPOINT", config.entrypoint)] {
        lines.extend(words.filter(|words| !words.is_empty()).map(|words| format!("{name} {}", json!(words))));
    }
    for (name, text) in
        [("USER", config.user), ("WORKDIR", config.working_dir), ("STOPSIGNAL", config.stop_signal)]
    {
        lines.extend(text.filter(|text| !text.is_empty()).map(|text| format!("{name} {text}")));
    }
    for entry in config.env.unwrap_or_default() {
        if let Some((name, value)) = entry.split_once('=') {
            lines.push(format!("ENV {name}={}", quoted(value)));
        }
    }
    for (name, value) in config.labels.unwrap_or_default() {
        lines.push(format!("LABEL {}={}", quoted(&name), quoted(&value)));
    }
    lines.extend(config.exposed_ports.unwrap_or_default().iter().map(|port| format!("EXPOSE {port}")));
    lines.extend(
        config.volumes.unwrap_or_default().iter().map(|volume| format!("VOLUME {}", json!([volume]))),
    );
    lines
}
