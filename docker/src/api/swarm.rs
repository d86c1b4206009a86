//! Clusters and plugins, of which there are none: the answers are those of a daemon that is in no swarm.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get, post};
use serde_json::json;

use super::{Api, ApiError};

/// What Docker says to whoever asks a machine outside of a swarm about it.
const NO_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
                          swarm and try again.";

pub(super) fn routes() -> Router<Arc<Api>> {
    let mut router = Router::new()
        .route("/swarm/init", post(no_swarms))
        .route("/swarm/join", post(no_swarms))
        .route("/swarm/leave", post(not_in_a_swarm))
        .route("/plugins", get(|| async { Json(json!([])) }))
        .route("/plugins/privileges", get(no_plugins))
        .route("/plugins/pull", post(no_plugins))
        .route("/plugins/create", post(no_plugins))
        .route("/plugins/{*rest}", any(no_such_plugin));
    for family in ["swarm", "nodes", "services", "tasks", "secrets", "configs"] {
        router = router.route(&format!("/{family}"), any(not_in_a_swarm));
        router = router.route(&format!("/{family}/{{*rest}}"), any(not_in_a_swarm));
    }
    router
}

async fn not_in_a_swarm() -> ApiError {
    outside()
}

/// What a machine outside of a swarm answers.
pub(super) fn outside() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NO_MANAGER)
}

async fn no_swarms() -> ApiError {
    ApiError::not_implemented("there are no swarms here: Lapstrake runs containers of one machine")
}

async fn no_plugins() -> ApiError {
    ApiError::not_implemented(
        "there are no plugins here: the drivers of volumes, networks and logs are part of the program",
    )
}

async fn no_such_plugin(axum::extract::Path(rest): axum::extract::Path<String>) -> ApiError {
    let name = rest.split('/').next().unwrap_or_default();
    ApiError::not_found(format!("plugin {name:?} not found"))
}
