//! Encrypted connections of threads that wait, for what is no HTTP.

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use rustls_platform_verifier::Verifier;

/// An encrypted connection.
pub type Encrypted = StreamOwned<ClientConnection, TcpStream>;

/// The files that an encrypted connection needs besides what the machine trusts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// Authorities that are trusted as well.
    pub authorities: Option<&'a Path>,
    /// Our certificate.
    pub certificate: Option<&'a Path>,
    /// Its key.
    pub key: Option<&'a Path>,
    /// Whether any certificate of the server will do.
    pub trust_all: bool,
}

/// Encrypts a connection with `host`. The handshake happens now, so that its failure is known.
///
/// # Errors
/// A file cannot be read, or the other side is not trusted or does not trust us.
pub fn encrypt(mut stream: TcpStream, host: &str, files: &Credentials<'_>) -> io::Result<Encrypted> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(Arc::new(config(files)?), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

fn config(files: &Credentials<'_>) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = files.authorities.map(certificates).transpose()?.unwrap_or_default();
    let verifier: Arc<dyn ServerCertVerifier> = if files.trust_all {
        Arc::new(Anybody(Arc::clone(&provider)))
    } else {
        Arc::new(Verifier::new_with_extra_roots(roots, Arc::clone(&provider)).map_err(io::Error::other)?)
    };
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(io::Error::other)?.dangerous().with_custom_certificate_verifier(verifier);
    match (files.certificate, files.key) {
        (Some(certificate), Some(key)) => {
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| of_file(key, &error))?;
            config.with_client_auth_cert(certificates(certificate)?, secret).map_err(io::Error::other)
        }
        _ => Ok(config.with_no_client_auth()),
    }
}

/// The certificates in a file.
fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| of_file(path, &error))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| of_file(path, &error))?;
    if found.is_empty() {
        return Err(io::Error::other(format!("{} has no certificate", path.display())));
    }
    Ok(found)
}

fn of_file(path: &Path, error: &dyn std::error::Error) -> io::Error {
    io::Error::other(format!("cannot read {}: {error}", path.display()))
}

/// Takes any certificate, as it was asked for (`syslog-tls-skip-verify`). Signatures are still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
