//! Requests that are not answered as their clients wished: a status and the error document of the specification.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base::Digest;
use serde::Serialize;

use super::store::ServeError;
use crate::http_error::ErrorCode;

/// Why a request is refused, as the client is told.
#[derive(Debug)]
pub(super) struct Refusal(Box<Answer>);

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    /// The digests that it is about, an entry of the document for each.
    digests: Vec<Digest>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What the server's owner should know.
    incident: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        let (digests, headers, incident) = (Vec::new(), Vec::new(), None);
        Self(Box::new(Answer { status, code, message, digests, headers, incident }))
    }

    /// The request makes no sense.
    pub(super) fn bad(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// What was asked for is not there.
    pub(super) fn absent(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// This is not done here.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, message)
    }

    /// A failure on this side, told to the owner in more words than to the client.
    pub(super) fn failure(status: StatusCode, message: &str, cause: &dyn std::error::Error) -> Self {
        let mut refusal = Self::new(status, ErrorCode::Unregistered("UNKNOWN".to_owned()), message);
        refusal.0.incident = Some(base::fault::chain(cause));
        refusal
    }

    pub(super) fn about(mut self, digests: Vec<Digest>) -> Self {
        self.0.digests = digests;
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// What the server's owner should know.
    pub(super) fn incident(&self) -> Option<&str> {
        self.0.incident.as_deref()
    }
}

impl From<ServeError> for Refusal {
    fn from(error: ServeError) -> Self {
        let message = error.to_string();
        match error {
            ServeError::MissingParts(digests) => {
                Self::absent(ErrorCode::ManifestBlobUnknown, message).about(digests)
            }
            ServeError::Mismatch { expected, .. } => {
                Self::bad(ErrorCode::DigestInvalid, message).about(vec![expected])
            }
            ServeError::Document(cause) => {
                let message = format!("{message}: {}", base::fault::chain(cause.as_ref()));
                Self::bad(ErrorCode::ManifestInvalid, message)
            }
            ServeError::NotOurs(_) => Self::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message),
            ServeError::InUse(digest) => {
                Self::new(StatusCode::FORBIDDEN, ErrorCode::Denied, message).about(vec![digest])
            }
            ServeError::Full(_) => Self::failure(StatusCode::INSUFFICIENT_STORAGE, &message, &error),
            ServeError::Failed(_) => Self::failure(StatusCode::INTERNAL_SERVER_ERROR, &message, &error),
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    errors: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    code: String,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Detail>,
}

#[derive(Serialize)]
struct Detail {
    digest: Digest,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let answer = *self.0;
        let entry = |digest| Entry {
            code: answer.code.to_string(),
            message: &answer.message,
            detail: Option::map(digest, |digest| Detail { digest }),
        };
        let errors = match answer.digests.as_slice() {
            [] => vec![entry(None)],
            digests => digests.iter().map(|digest| entry(Some(*digest))).collect(),
        };
        // Texts and digests: there is nothing in it that JSON has no form for.
        let body = serde_json::to_vec(&Document { errors }).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = answer.status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response.headers_mut().extend(answer.headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_missing_part_has_an_entry() {
        let digests = vec![Digest::of(b"a"), Digest::of(b"b")];
        let response = Refusal::from(ServeError::MissingParts(digests.clone())).into_response();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(document["errors"][1]["code"], "MANIFEST_BLOB_UNKNOWN");
        assert_eq!(document["errors"][1]["detail"]["digest"], digests[1].to_string());
    }

    #[test]
    fn the_owner_is_told_what_the_client_is_not() {
        let cause = std::io::Error::other("no space left on device");
        let refusal = Refusal::from(ServeError::Full(Box::new(cause)));
        assert_eq!(refusal.incident(), Some("the registry has no room left: no space left on device"));
        assert!(!refusal.0.message.contains("device"));
        assert_eq!(Refusal::bad(ErrorCode::NameInvalid, "x").incident(), None);
    }
}
