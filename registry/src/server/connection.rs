//! Connections: taking them, TLS, and ending them in order.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::dispatch::{self, Registry};
use super::stall::Impatient;
use super::tls::TlsIdentity;

/// How many connections are served at once. More wait to be taken.
const CONNECTIONS: usize = 256;
/// How much of a request is in memory before somebody takes it, in bytes. Also the most that a request's head may be.
const BUFFER: usize = 64 << 10;
/// How long requests may go on after the server was told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait when no connection can be taken, as without free file descriptors.
const BREATH: Duration = Duration::from_millis(100);
/// How often abandoned uploads are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// Takes connections until `stop` is over, and lets the requests end that run then.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<TlsIdentity>,
    registry: Arc<Registry>,
    patience: Duration,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let (stopping, stopped) = watch::channel(false);
    let server = Server { tls, router: dispatch::router(registry.clone()), patience, stopped };
    let mut connections = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = sweep.tick() => registry.sweep(),
            Some(_) = connections.join_next() => {}
            taken = next(&listener, &places) => match taken {
                Ok((stream, place)) => {
                    connections.spawn(server.clone().serve(stream, place));
                }
                Err(error) => {
                    registry.report(&format!("cannot take a connection: {error}"));
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }
    drop(listener);
    let _ = stopping.send(true);
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

/// The next connection, when there is a place for it.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// What serving a connection takes.
#[derive(Clone)]
struct Server {
    tls: Option<TlsIdentity>,
    router: Router,
    patience: Duration,
    /// Becomes true when no further requests are taken.
    stopped: watch::Receiver<bool>,
}

impl Server {
    /// Serves one connection to its end. How it breaks off is its client's affair.
    async fn serve(self, stream: TcpStream, _place: OwnedSemaphorePermit) {
        // Without it answers are late, and otherwise right.
        let _ = stream.set_nodelay(true);
        let stream = Impatient::new(stream, self.patience);
        let Some(TlsIdentity(acceptor)) = self.tls.clone() else { return self.requests(stream).await };
        if let Ok(Ok(stream)) = timeout(self.patience, acceptor.accept(stream)).await {
            self.requests(stream).await;
        }
    }

    async fn requests(mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.patience).max_buf_size(BUFFER);
        let service = TowerToHyperService::new(self.router);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            _ = self.stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}
