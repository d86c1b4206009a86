//! One HTTP/2 connection, made when it is needed.

use axum::http::uri::Scheme;
use bytes::Bytes;
use h2::client::SendRequest;
use reqwest::Url;
use rustls::ClientConfig;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::Verifier;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::error::ReapiErrorKind;

/// How much may be on its way, so that a blob comes at full speed.
const WINDOW: u32 = 4 << 20;

/// A server, and the connection to it while there is one.
pub(super) struct Connection {
    host: String,
    port: u16,
    tls: bool,
    /// A file with authorities that are trusted beside the system's.
    authority: Option<PathBuf>,
    sender: Mutex<Option<SendRequest<Bytes>>>,
}

impl Connection {
    /// A server by `grpc://HOST:PORT` or `grpcs://HOST:PORT`.
    pub(super) fn new(endpoint: &str, authority: Option<PathBuf>) -> Result<Self, ReapiErrorKind> {
        let url = Url::parse(endpoint).map_err(|_| ReapiErrorKind::BadEndpoint)?;
        let tls = match url.scheme() {
            "grpc" => false,
            "grpcs" => true,
            _ => return Err(ReapiErrorKind::BadEndpoint),
        };
        let is_plain = url.username().is_empty() && matches!(url.path(), "" | "/") && url.query().is_none();
        let host = url.host_str().filter(|host| is_plain && !host.is_empty());
        let host = host.ok_or(ReapiErrorKind::BadEndpoint)?.to_owned();
        let port = url.port().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { host, port, tls, authority, sender: Mutex::new(None) })
    }

    pub(super) fn scheme(&self) -> Scheme {
        if self.tls { Scheme::HTTPS } else { Scheme::HTTP }
    }

    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// What sends requests, when it can.
    pub(super) async fn sender(&self) -> Result<SendRequest<Bytes>, ReapiErrorKind> {
        let mut slot = self.sender.lock().await;
        if let Some(sender) = slot.take()
            && let Ok(ready) = sender.ready().await
        {
            return Ok(slot.insert(ready).clone());
        }
        let sender = self.connect().await?.ready().await?;
        Ok(slot.insert(sender).clone())
    }

    /// Has the next request make a connection anew.
    pub(super) async fn forget(&self) {
        *self.sender.lock().await = None;
    }

    async fn connect(&self) -> Result<SendRequest<Bytes>, ReapiErrorKind> {
        // An address of IPv6 has brackets in a URL only.
        let host = self.host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.port)).await.map_err(ReapiErrorKind::Connect)?;
        stream.set_nodelay(true).map_err(ReapiErrorKind::Connect)?;
        if !self.tls {
            return handshake(stream).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ReapiErrorKind::BadEndpoint)?;
        let stream = TlsConnector::from(Arc::new(self.tls_config()?)).connect(name, stream).await;
        handshake(stream.map_err(ReapiErrorKind::Connect)?).await
    }
}

impl Connection {
    /// TLS as this machine has it, and with the authorities of the file.
    fn tls_config(&self) -> Result<ClientConfig, ReapiErrorKind> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = self.authority.as_deref().map(authorities).transpose()?.unwrap_or_default();
        let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider));
        let verifier = verifier.map_err(ReapiErrorKind::Tls)?;
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(ReapiErrorKind::Tls)?.dangerous();
        // What rustls finds dangerous is a verifier that is not its own; this one asks the system, and then rustls.
        let mut config = config.with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// The certificates in a file.
fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, ReapiErrorKind> {
    let failed = |source| ReapiErrorKind::Authority { path: file.to_owned(), source };
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).map_err(failed)?.collect();
    let found = found.map_err(failed)?;
    if found.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(found) }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Bytes>, ReapiErrorKind>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
    let (sender, connection) = builder.handshake(stream).await?;
    // It ends with the connection, whose failure every request on it learns of.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_with_ports() {
        let authority = |endpoint: &str| Connection::new(endpoint, None).ok().map(|found| found.authority());
        assert_eq!(authority("grpc://127.0.0.1:9092").as_deref(), Some("127.0.0.1:9092"));
        assert_eq!(authority("grpcs://cache.example").as_deref(), Some("cache.example:443"));
        for wrong in
            ["cache.example:9092", "http://x", "grpc://", "grpc://u@x", "grpc://x/path", "grpc://x?y"]
        {
            assert_eq!(authority(wrong), None, "{wrong}");
        }
    }
}
