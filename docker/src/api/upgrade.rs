//! Connections that become streams: Docker calls that hijacking. A client that asks for it (`Upgrade: tcp`) gets 101 and then has the
//! connection to itself; one that does not gets the output as a body, and has no input.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, UPGRADE, USER_AGENT};
use axum::http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode};
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

/// How long a client has for the header of an answer before what follows is sent, if it may lose that otherwise: where it
/// cannot be seen when it has read it, and where it can.
const HEADER_FIRST: Duration = Duration::from_millis(5);
const HEADER_AT_MOST: Duration = Duration::from_secs(2);

/// How often it is looked whether the header was read.
const LOOK: Duration = Duration::from_micros(500);

/// Clients of these names wait for what follows after they have read the header, whatever comes with it: those that are written in Go.
const CAREFUL: [&str; 4] = ["Docker-Client/", "Go-http-client/", "compose/", "docker-compose/"];

/// A connection that a client is to have.
pub(super) struct Taken {
    upgrade: OnUpgrade,
    is_careful: bool,
}

impl Taken {
    /// Waits for the connection, and opens it.
    ///
    /// # Errors
    /// The client has gone.
    pub(super) async fn open(self, opener: Opener) -> io::Result<Connection> {
        let upgraded = self.upgrade.await.map_err(|error| io::Error::new(ErrorKind::NotConnected, error))?;
        let connection = (opener.0)(upgraded);
        if !self.is_careful {
            header_first(connection.socket.as_ref()).await;
        }
        Ok(connection)
    }
}

/// Waits until a client has read the header.
async fn header_first(socket: Option<&UnixStream>) {
    let Some(socket) = socket else {
        return tokio::time::sleep(HEADER_FIRST).await;
    };
    let read = async {
        while engine::unread_by_peer(socket).is_ok_and(|unread| unread > 0) {
            tokio::time::sleep(LOOK).await;
        }
    };
    // Who reads nothing for so long has only itself to blame.
    let _ = tokio::time::timeout(HEADER_AT_MOST, read).await;
}

/// Whether a client loses nothing of what comes with the header. Python's library reads both at once where it can, and forgets
/// what is not the header; others may do the same.
fn is_careful(headers: &HeaderMap) -> bool {
    let name = headers.get(USER_AGENT).and_then(|name| name.to_str().ok()).unwrap_or_default();
    CAREFUL.iter().any(|careful| name.starts_with(careful))
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
pub(super) fn taken(extensions: &mut Extensions, headers: &HeaderMap) -> Result<Taken, ApiError> {
    let upgrade = extensions.remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded"))?;
    Ok(Taken { upgrade, is_careful: is_careful(headers) })
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
