//! Connections: those of BuildKit's clients and those of Docker's come to the same sockets, and are told apart by what they say first.
//!
//! gRPC begins with HTTP/2's preface. Docker's calls are HTTP/1; two of them turn their connection into one of BuildKit's (`/grpc`), or
//! into a session (`/session`).

mod heard;
mod unread;

use std::convert::Infallible;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use docker::ApiError;
use docker::api::reading;
use docker::api::upgrade::{Connection, Opener};
use docker::api::version::{self, ApiVersion};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tower::ServiceExt as _;

use self::heard::Heard;
use crate::builds::Builds;
use crate::clients::{self, Access, AllowedClient};
use crate::listen::{Listener, Stream};
use crate::session_build;

/// How many bytes a client may send of one call before we have taken them, and of all.
const WINDOW: u32 = 4 << 20;

/// How often a client of BuildKit's that says nothing is asked whether it is there. One that does not answer is cut off.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long a client may take to say what it wants, and to agree on encryption.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who answers Docker's clients.
const SERVER: &str = concat!("Lapstrake/", env!("CARGO_PKG_VERSION"), " (linux)");

/// What is said to those who may not.
const REFUSED: &str =
    "this client may not do that: the daemon has a list of those who may, or the socket is read-only";

/// What comes after HTTP/1 on a connection of Docker's that BuildKit's clients use.
const H2C: &str = "h2c";

/// What is served on a connection.
#[derive(Clone)]
pub(crate) struct Routes {
    /// BuildKit's services.
    pub(crate) buildkit: Router,
    /// Docker's calls; none on addresses that are BuildKit's alone.
    pub(crate) docker: Option<Router>,
    /// What clients may do.
    pub(crate) access: Access,
    /// Where sessions are, and builds that need one.
    pub(crate) builds: Arc<Builds>,
}

/// Serves those who come until `stop` has ended, and then waits for those who are there.
pub(crate) async fn serve(
    listener: Listener,
    routes: Routes,
    tls: Option<(TlsAcceptor, Arc<[AllowedClient]>)>,
    stop: impl Future<Output = ()> + Send,
) {
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    let watcher = graceful.watcher();
                    let (routes, tls) = (routes.clone(), tls.clone());
                    tokio::spawn(async move {
                        match tls {
                            None => connection(stream, routes, watcher).await,
                            Some((tls, clients)) => {
                                // Who does not agree in time, or at all, has no business here.
                                if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                                    let found = clients::access(&clients, stream.get_ref().1.peer_certificates());
                                    let access = if routes.access == Access::All { found } else { routes.access };
                                    connection(stream, Routes { access, ..routes }, watcher).await;
                                }
                            }
                        }
                    });
                }
                // There are too many open files; others end.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            () = &mut stop => break,
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

/// Serves one connection to its end.
async fn connection<S>(stream: S, routes: Routes, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = service_fn(move |request: Request<Incoming>| {
        let routes = routes.clone();
        async move { Ok::<_, Infallible>(routes.answer(request.map(Body::new)).await) }
    });
    http(stream, PATIENCE, answer, watcher).await;
}

/// Speaks HTTP to a client, who has to say within `patience` what it wants.
async fn http<S, A>(stream: S, patience: Duration, answer: A, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    A::Future: Send + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(patience);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let (stream, heard) = Heard::new(stream);
    let served = watcher.watch(server.serve_connection_with_upgrades(TokioIo::new(stream), answer));
    tokio::select! {
        // Who goes before it has its answer does not want it.
        _ = served => {}
        () = heard.too_little(patience) => {}
    }
}

/// Serves BuildKit's clients on a connection that was Docker's before.
async fn buildkit_alone(upgrade: OnUpgrade, buildkit: Router) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let answer =
        service_fn(move |request: Request<Incoming>| buildkit.clone().oneshot(request.map(Body::new)));
    // As above.
    let _ = server.serve_connection(upgraded, answer).await;
}

impl Routes {
    async fn answer(self, request: Request<Body>) -> Response<Body> {
        if request.version() == Version::HTTP_2 && self.access != Access::All {
            return Status::permission_denied(REFUSED).into_http();
        }
        if request.version() == Version::HTTP_2 {
            return answered(self.buildkit.oneshot(request).await);
        }
        let (parts, body) = request.into_parts();
        let (body, rest) = unread::lend(body);
        let mut response = self.docker(Request::from_parts(parts, body)).await;
        rest.pass_over().await;
        let headers = response.headers_mut();
        for (name, value) in [
            ("docker-experimental", HeaderValue::from_static("false")),
            ("ostype", HeaderValue::from_static("linux")),
            ("server", HeaderValue::from_static(SERVER)),
        ] {
            headers.insert(name, value);
        }
        if let Ok(newest) = HeaderValue::from_str(&ApiVersion::NEWEST.to_string()) {
            headers.insert("api-version", newest);
        }
        response
    }

    /// Answers a call of Docker's.
    async fn docker(self, mut request: Request<Body>) -> Response<Body> {
        let Some(docker) = self.docker.clone() else {
            return ApiError::not_found("this address is for clients of BuildKit").into_response();
        };
        let (version, uri) = match version::take(request.uri()) {
            Ok(taken) => taken,
            Err(error) => return error.into_response(),
        };
        if self.access == Access::None {
            return ApiError::new(StatusCode::FORBIDDEN, REFUSED).into_response();
        }
        if self.access == Access::Reading && !reading::is_reading(request.method(), &uri) {
            let message = "this socket is read-only: it answers who asks, and changes nothing";
            return ApiError::new(StatusCode::FORBIDDEN, message).into_response();
        }
        let is_session = uri.path() == "/session";
        if *request.method() == Method::POST && (is_session || uri.path() == "/grpc") {
            return self.upgraded(request, is_session);
        }
        if uri.path() == "/build"
            && *request.method() == Method::POST
            && session_build::is_wanted(uri.query())
        {
            return session_build::build(&self.builds, uri.query(), request.into_body()).await;
        }
        *request.uri_mut() = uri;
        request.extensions_mut().insert(version);
        request.extensions_mut().insert(Opener(opened));
        answered(docker.oneshot(request).await)
    }

    /// Makes a connection one of BuildKit's: to serve it, or to be the client of what it offers.
    fn upgraded(self, mut request: Request<Body>, is_session: bool) -> Response<Body> {
        let wanted = request
            .headers()
            .get(UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(H2C.as_bytes()));
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let (true, Some(upgrade)) = (wanted, upgrade) else {
            return ApiError::bad_request("this call needs the headers Connection: Upgrade and Upgrade: h2c")
                .into_response();
        };
        if is_session {
            let headers = MetadataMap::from_headers(request.headers().clone());
            let sessions = Arc::clone(&self.builds.sessions);
            tokio::spawn(async move {
                if let Ok(upgraded) = upgrade.await {
                    // Who names none, or one that there is, has nothing that it could be told by.
                    let _ = sessions.open_over(&headers, TokioIo::new(upgraded));
                }
            });
        } else {
            tokio::spawn(buildkit_alone(upgrade, self.buildkit));
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static(H2C));
        response
    }
}

/// The connection of a client that has it to itself, without what HTTP needed around it.
fn opened(upgraded: Upgraded) -> Connection {
    match auto::upgrade::downcast::<TokioIo<Heard<Stream>>>(upgraded) {
        Ok(parts) => {
            let stream = parts.io.into_inner().into_inner();
            let socket = stream.another();
            let early = Cursor::new(parts.read_buf);
            let (reader, writer) = tokio::io::split(stream);
            Connection { stream: Box::new(tokio::io::join(early.chain(reader), writer)), socket }
        }
        Err(upgraded) => Connection { stream: Box::new(TokioIo::new(upgraded)), socket: None },
    }
}

fn answered(response: Result<Response<Body>, Infallible>) -> Response<Body> {
    response.unwrap_or_else(|never| match never {})
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    use super::*;

    /// What a client hears that says this and then nothing more, of a server that waits so long for the rest.
    fn heard(said: &'static [u8], patience: Duration) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut client, server) = UnixStream::pair().unwrap();
            let answer = service_fn(|_| async { Ok(Response::new(Body::from("hello"))) });
            let graceful = GracefulShutdown::new();
            let served = http(server, patience, answer, graceful.watcher());
            let asked = async {
                client.write_all(said).await.unwrap();
                let mut answer = String::new();
                // One that is cut off may be so in any way.
                let _ = client.read_to_string(&mut answer).await;
                answer
            };
            tokio::join!(served, asked).1
        })
    }

    #[test]
    fn who_does_not_say_what_it_wants_is_cut_off() {
        for said in
            [&b""[..], b"G", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"POST / HTTP"]
        {
            let answer = heard(said, Duration::from_millis(50));
            assert!(!answer.contains("hello"), "{said:?}: {answer}");
        }
        let whole = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert!(heard(whole, Duration::from_secs(60)).ends_with("hello"));
    }
}
