//! What clients send in the body of a call.

use axum::body::{Body, to_bytes};
use serde::de::DeserializeOwned;

use super::ApiError;

/// How long a document may be, in bytes. Docker's own limit for JSON is the same.
const LONGEST: usize = 4 << 20;

/// Reads a document. Fields that are not known are passed over, as in Docker.
///
/// # Errors
/// It is no JSON, too long, or not of this shape.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let nothing = || ApiError::bad_request("invalid JSON: got EOF while reading request body");
    read(body).await?.ok_or_else(nothing)
}

/// The same, where nothing stands for an empty document.
///
/// # Errors
/// As for [`json`].
pub(super) async fn json_or_default<T: DeserializeOwned + Default>(body: Body) -> Result<T, ApiError> {
    Ok(read(body).await?.unwrap_or_default())
}

/// What is in a body, if there is anything.
async fn read<T: DeserializeOwned>(body: Body) -> Result<Option<T>, ApiError> {
    let bytes = to_bytes(body, LONGEST).await.map_err(|_| {
        ApiError::bad_request(format!("the request is longer than {LONGEST} bytes, or was cut off"))
    })?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let wrong = |error| ApiError::bad_request(format!("invalid JSON: {error}"));
    serde_json::from_slice(&bytes).map(Some).map_err(wrong)
}
