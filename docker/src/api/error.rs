//! What fails, in Docker's shape: a status, and a message in JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base::fault::chain;
use base::{Fault, Faulty as _};

use engine::error::{EngineError, FilesError};
use engine::networks::NetworkRefusal;
use serde_json::json;

use crate::filters::FilterError;

/// A call that fails.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP's status.
    pub status: StatusCode,
    /// What people read.
    pub message: String,
}

impl ApiError {
    /// With a status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// Something is as it is, and that is in the way.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// The machine fails.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Nobody serves that.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "message": self.message }))).into_response()
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        Self::new(status(&error), chain(&error))
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        Self::bad_request(format!("{error}: {}", error.hint))
    }
}

/// The status that Docker has for an error.
fn status(error: &EngineError) -> StatusCode {
    let is_missing = error.is_missing_network()
        || error.is_missing_volume()
        || error.is_missing_container()
        || error.is_missing_remotely();
    if is_missing {
        return StatusCode::NOT_FOUND;
    }
    if error.is_taken_network() {
        return StatusCode::CONFLICT;
    }
    match error {
        EngineError::NoSuchContainer(_)
        | EngineError::NoSuchImage(_)
        | EngineError::NoPlatform { .. }
        | EngineError::NothingToRemove(_)
        | EngineError::NotInResult(_)
        | EngineError::Files(FilesError::NotFound { .. }) => StatusCode::NOT_FOUND,
        EngineError::NotRunning(_)
        | EngineError::ContainerNameTaken { .. }
        | EngineError::ContainerInUse { .. }
        | EngineError::Conflict(_)
        | EngineError::Shim(_)
        | EngineError::Update { .. }
        | EngineError::UpdateRefusal(_) => StatusCode::CONFLICT,
        EngineError::Network(
            NetworkRefusal::Predefined(_)
            | NetworkRefusal::PredefinedName(_)
            | NetworkRefusal::ActiveEndpoints { .. }
            | NetworkRefusal::Overlap,
        ) => StatusCode::FORBIDDEN,
        EngineError::Files(FilesError::ReadOnly { .. }) => StatusCode::FORBIDDEN,
        // What a client sends may end anywhere, which is no failure of the machine's.
        EngineError::Archive(_) => StatusCode::BAD_REQUEST,
        EngineError::NoLog(_) => StatusCode::NOT_IMPLEMENTED,
        other => match other.fault() {
            Fault::Input => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
}
