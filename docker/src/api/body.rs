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
    let bytes = to_bytes(body, LONGEST).await.map_err(|_| {
        ApiError::bad_request(format!("the request is longer than {LONGEST} bytes, or was cut off"))
    })?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::bad_request("invalid JSON: got EOF while reading request body"));
    }
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(format!("invalid JSON: {error}")))
}

/// The same, where nothing stands for an empty document.
///
/// # Errors
/// As for [`json`].
pub(super) async fn json_or_default<T: DeserializeOwned + Default>(body: Body) -> Result<T, ApiError> {
    let bytes = to_bytes(body, LONGEST).await.map_err(|_| {
        ApiError::bad_request(format!("the request is longer than {LONGEST} bytes, or was cut off"))
    })?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(format!("invalid JSON: {error}")))
}
