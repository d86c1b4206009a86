//! Connections that become streams: Docker calls that hijacking. A client that asks for it (`Upgrade: tcp`) gets 101 and then has the
//! connection to itself; one that does not gets the output as a body, and has no input.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;

use super::ApiError;

/// What a stream is: the bytes of a terminal, or of several streams with their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// As they come.
    Raw,
    /// In frames of 8 bytes and what they announce.
    Multiplexed,
}

impl Framing {
    /// The name for `Content-Type`.
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Raw => "application/vnd.docker.raw-stream",
            Self::Multiplexed => "application/vnd.docker.multiplexed-stream",
        })
    }

    /// What stands before `length` bytes of a stream: 1 for its output, 2 for its errors.
    pub(super) fn header(stream: u8, length: u32) -> [u8; 8] {
        let [a, b, c, d] = length.to_be_bytes();
        [stream, 0, 0, 0, a, b, c, d]
    }
}

/// Whether a client asks for the connection.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| !value.is_empty())
}

/// What becomes the connection once the client has its answer.
///
/// # Errors
/// The connection cannot be taken.
pub(super) fn taken(request: &mut Request<Body>) -> Result<OnUpgrade, ApiError> {
    request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded"))
}

/// The answer that makes a connection the client's. `protocol` is what it asked for.
pub(super) fn switching(protocol: HeaderValue, framing: Framing) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol);
    headers.insert(CONTENT_TYPE, framing.content_type());
    response
}
