//! Connections that become streams: Docker calls that hijacking. A client that asks for it (`Upgrade: tcp`) gets 101 and then has the
//! connection to itself; one that does not gets the output as a body, and has no input.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, Interest};

use super::ApiError;

/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection that is a client's own.
pub struct Connection {
    /// Its bytes.
    pub stream: Box<dyn Duplex>,
    /// Another descriptor of its socket, where that tells that the client has gone.
    pub socket: Option<UnixStream>,
}

/// What makes a connection of an upgraded one. Whoever accepts connections knows best, and puts it into the extensions of
/// requests.
#[derive(Clone, Copy)]
pub struct Opener(pub fn(Upgraded) -> Connection);

impl Default for Opener {
    fn default() -> Self {
        Self(|upgraded| Connection { stream: Box::new(TokioIo::new(upgraded)), socket: None })
    }
}

/// Waits until the client of a connection, of which it has said that it sends no more, has gone altogether. Where that
/// cannot be told, it takes for ever.
pub(super) async fn gone(socket: Option<UnixStream>) {
    if let Some(Ok(socket)) = socket.map(tokio::net::UnixStream::from_std) {
        while let Ok(ready) = socket.ready(Interest::WRITABLE).await {
            if ready.is_write_closed() {
                return;
            }
            // Until the next change.
            let unready = || Err::<(), _>(io::Error::from(ErrorKind::WouldBlock));
            let _ = socket.try_io(Interest::WRITABLE, unready);
        }
    }
    std::future::pending::<()>().await;
}

/// How long a client has for the header of an answer before what follows is sent. Python's library reads both at once where it
/// can, and forgets what is not the header.
const HEADER_FIRST: std::time::Duration = std::time::Duration::from_millis(5);

/// Waits for the connection, and opens it.
///
/// # Errors
/// The client has gone.
pub(super) async fn open(upgrade: OnUpgrade, opener: Opener) -> io::Result<Connection> {
    let upgraded = upgrade.await.map_err(|error| io::Error::new(ErrorKind::NotConnected, error))?;
    tokio::time::sleep(HEADER_FIRST).await;
    Ok((opener.0)(upgraded))
}

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
