//! Where a daemon listens.

use std::fmt;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use futures_util::stream::{self, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::DaemonError;
use crate::builds::Builds;
use crate::content::ContentService;
use crate::control::ControlService;
use crate::gateway::{Calls, Gateway};
use crate::health::HealthService;
use crate::pipes::Pipes;
use crate::proto::LARGEST_MESSAGE;
use crate::proto::control::control_server::ControlServer;
use crate::proto::frontend::llb_bridge_server::LlbBridgeServer;
use crate::proto::health::health_server::HealthServer;
use crate::reflection;
use crate::traces::TraceService;

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A port of this machine.
    Tcp(String),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address: write unix:///PATH or tcp://HOST:PORT")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) if address.contains(':') => Ok(Self::Tcp(address.to_owned())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl Address {
    /// Takes the address.
    pub(crate) fn listen(&self, group: Option<u32>) -> io::Result<Listener> {
        match self {
            Self::Unix(path) => listen_at(path, group).map(Listener::Unix),
            Self::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Listener::Tcp)
            }
        }
    }
}

/// Listens at a path. A socket that nobody listens at any more is replaced, since its owner was killed.
fn listen_at(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    }
    Ok(listener)
}

/// A socket that somebody has opened for us and listens already.
#[derive(Debug)]
pub enum Socket {
    /// In the file system.
    Unix(std::os::unix::net::UnixListener),
    /// A port.
    Tcp(std::net::TcpListener),
}

impl Socket {
    pub(crate) fn listen(&self) -> io::Result<Listener> {
        match self {
            Self::Unix(listener) => {
                let listener = listener.try_clone()?;
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Listener::Unix)
            }
            Self::Tcp(listener) => {
                let listener = listener.try_clone()?;
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Listener::Tcp)
            }
        }
    }
}

/// Files with certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The daemon's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority that clients need a certificate of; anybody may come without one.
    pub clients: Option<PathBuf>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read, or is not what it should be.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, DaemonError> {
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |why: String| DaemonError::Certificate {
                path,
                source: io::Error::new(io::ErrorKind::InvalidData, why),
            }
        };
        let certificates = |path: &Path| {
            let text = read(path)?;
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
            let all = all.map_err(|error| wrong(path)(error.to_string()))?;
            if all.is_empty() { Err(wrong(path)("it has no certificate".to_owned())) } else { Ok(all) }
        };
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|error| wrong(&self.key)(error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(&self.certificate)(error.to_string()))?;
        let config = match &self.clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                for certificate in certificates(authority)? {
                    roots.add(certificate).map_err(|error| wrong(authority)(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                config
                    .with_client_cert_verifier(verifier.map_err(|error| wrong(authority)(error.to_string()))?)
            }
        };
        let mut config = config
            .with_single_cert(chain, key)
            .map_err(|error| wrong(&self.certificate)(error.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, DaemonError> {
    std::fs::read(path).map_err(|source| DaemonError::Certificate { path: path.to_owned(), source })
}

/// An address that is ours.
pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Somebody who has come.
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Listener {
    /// Waits for somebody.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are small, and waited for.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    /// Whether those who come need not be of this machine.
    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }
}

impl Stream {
    /// Another descriptor of a socket that tells when its other end has gone.
    pub(crate) fn another(&self) -> Option<std::os::unix::net::UnixStream> {
        match self {
            Self::Unix(stream) => stream.as_fd().try_clone_to_owned().ok().map(Into::into),
            Self::Tcp(_) => None,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

/// The services of BuildKit.
pub(crate) fn buildkit(builds: &Arc<Builds>) -> Router {
    let control = ControlServer::new(ControlService(Arc::clone(builds)))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let gateway = LlbBridgeServer::new(Gateway::Daemon(Arc::clone(builds)))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let mut routes = Routes::builder();
    routes
        .add_service(control)
        .add_service(gateway)
        .add_service(HealthServer::new(HealthService))
        .add_service(ContentService(Arc::clone(builds)))
        .add_service(TraceService(Arc::clone(builds)));
    if let Some((newer, older)) = reflection::services() {
        routes.add_service(newer).add_service(older);
    }
    routes.routes().prepare().into_axum_router()
}

/// Serves one frontend, until it closes its connection.
pub(crate) async fn serve_one(calls: Arc<Calls>, connection: Pipes) -> Result<(), tonic::transport::Error> {
    let gateway = LlbBridgeServer::new(Gateway::Frontend(calls))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let only = stream::iter([Ok::<_, std::io::Error>(connection)]);
    // Connections go on when no more come, so that the stream of them does not end.
    let incoming = only.chain(stream::pending());
    Server::builder()
        .add_service(gateway)
        .add_service(HealthServer::new(HealthService))
        .serve_with_incoming(incoming)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_what_they_are() {
        let parse = |text: &str| text.parse::<Address>().map(|address| address.to_string());
        for text in ["unix:///run/lapstrake/buildkit.sock", "tcp://127.0.0.1:1234", "tcp://[::1]:1234"] {
            assert_eq!(parse(text).unwrap(), text);
        }
        for text in ["", "unix://relative", "/run/sock", "tcp://host", "npipe:////./pipe/x"] {
            parse(text).unwrap_err();
        }
    }
}
