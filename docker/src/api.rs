//! The calls of Docker's Engine API.
//!
//! One file for each family of calls. What they share: [`version`] (which version of the API a client speaks), [`error`] (what fails, as
//! Docker says it), `body` and `query` (what clients send), `upgrade` (connections that become streams).

mod body;
pub mod build;
pub mod containers;
mod credentials;
mod error;
mod follow;
mod images;
mod networks;
mod piped;
mod progress;
mod query;
pub mod reading;
mod swarm;
mod system;
pub mod upgrade;
pub mod version;
mod volumes;

use std::sync::Arc;

use axum::Router;
use base::CancelToken;
use engine::Engine;
use engine::error::EngineError;

pub use self::error::ApiError;

/// What commands of `lap` mean. Whoever reads command lines gives these, so that a call means what the command with the same words
/// does, and is refused for the same reasons.
#[derive(Clone)]
pub struct Commands {
    /// The words of `lap create`, without its name.
    pub create: Arc<containers::Create>,
    /// The words of `lap build`, without its name and its context.
    pub build: Arc<build::Build>,
}

/// What serves the calls.
pub struct Api {
    engine: Arc<Engine>,
    commands: Commands,
    builds: build::Running,
    execs: containers::Execs,
}

impl Api {
    /// Serves over an engine.
    pub fn new(engine: Arc<Engine>, commands: Commands) -> Self {
        Self { engine, commands, builds: build::Running::default(), execs: containers::Execs::default() }
    }

    /// Asks the engine on a thread that may wait.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let engine = Arc::clone(&self.engine);
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(ApiError::internal("the work was stopped")),
        }
    }

    /// The same, of work that finds out by itself that a call makes no sense.
    async fn answer<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Engine) -> Result<Result<T, ApiError>, EngineError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.ask(work).await?
    }

    /// The same, of work that is stopped when nobody waits for it any more.
    async fn cancellable<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Engine, &CancelToken) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let cancel = CancelToken::new();
        let _held = piped::CancelOnDrop(cancel.clone());
        self.ask(move |engine| work(engine, &cancel)).await
    }
}

/// The routes, without a version in front ([`version::take`] removes it).
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .merge(system::routes())
        .merge(containers::routes())
        .merge(images::routes())
        .merge(build::routes())
        .merge(networks::routes())
        .merge(volumes::routes())
        .merge(swarm::routes())
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .with_state(api)
}

async fn nothing_here() -> ApiError {
    ApiError::not_found("page not found")
}
