//! Where a daemon listens.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

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

/// How many bytes a client may send of one call before we have taken them, and of all.
const WINDOW: u32 = 4 << 20;

/// How often a client that says nothing is asked whether it is there. One that does not answer is cut off.
const KEEPALIVE: Duration = Duration::from_secs(60);

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
        if UnixStream::connect(path).is_ok() {
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
    pub(crate) fn read(&self) -> Result<ServerTlsConfig, DaemonError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| DaemonError::Certificate { path: path.clone(), source })
        };
        let identity = Identity::from_pem(read(&self.certificate)?, read(&self.key)?);
        let config = ServerTlsConfig::new().identity(identity);
        Ok(match &self.clients {
            Some(authority) => config.client_ca_root(Certificate::from_pem(read(authority)?)),
            None => config,
        })
    }
}

/// An address that is ours.
pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Serves those who come until `stop` has ended.
    pub(crate) async fn serve(
        self,
        builds: &Arc<Builds>,
        tls: Option<ServerTlsConfig>,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), tonic::transport::Error> {
        let control = ControlServer::new(ControlService(Arc::clone(builds)))
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        let gateway = LlbBridgeServer::new(Gateway::Daemon(Arc::clone(builds)))
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        let mut server =
            Server::builder().initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
        server = server.http2_keepalive_interval(Some(KEEPALIVE));
        if let (Self::Tcp(_), Some(tls)) = (&self, tls) {
            server = server.tls_config(tls)?;
        }
        let router =
            server.add_service(control).add_service(gateway).add_service(HealthServer::new(HealthService));
        let router = router.add_service(ContentService(Arc::clone(builds)));
        let router = match reflection::services() {
            Some((newer, older)) => router.add_service(newer).add_service(older),
            None => router,
        };
        match self {
            Self::Unix(listener) => {
                router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop).await
            }
            Self::Tcp(listener) => {
                router.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop).await
            }
        }
    }
}

/// Serves one frontend, until it closes its connection.
pub(crate) async fn serve_one(calls: Arc<Calls>, connection: Pipes) -> Result<(), tonic::transport::Error> {
    let gateway = LlbBridgeServer::new(Gateway::Frontend(calls))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let only = tokio_stream::iter([Ok::<_, std::io::Error>(connection)]);
    // Connections go on when no more come, so that the stream of them does not end.
    let incoming = tokio_stream::StreamExt::chain(only, tokio_stream::pending());
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
