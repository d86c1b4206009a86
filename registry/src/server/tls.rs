//! The server's certificate and key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{Fault, Faulty};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::TlsAcceptor;

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("cannot read the {what} {}", path.display())]
    Pem {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The file has no certificate in it.
    #[error("{} holds no certificate (one that begins with -----BEGIN CERTIFICATE-----)", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The certificate and the key cannot be used together.
    #[error("the certificate {} and the key {} cannot be used", certificate.display(), key.display())]
    Unusable {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

impl Faulty for TlsError {
    fn fault(&self) -> Fault {
        Fault::Input
    }
}

/// What a server shows of itself.
#[derive(Clone)]
pub struct TlsIdentity(pub(super) TlsAcceptor);

impl TlsIdentity {
    /// Reads a certificate with those of its authorities after it, and its key, both PEM.
    ///
    /// # Errors
    /// A file that cannot be read, or a key that is another certificate's.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::Pem { what, path, source }
        };
        let read = CertificateDer::pem_file_iter(certificate);
        let chain = read.and_then(Iterator::collect).map_err(failed("certificate", certificate))?;
        let chain: Vec<CertificateDer<'static>> = chain;
        if chain.is_empty() {
            return Err(TlsError::Empty { path: certificate.to_owned() });
        }
        let secret = PrivateKeyDer::from_pem_file(key).map_err(failed("key", key))?;
        let unusable =
            |source| TlsError::Unusable { certificate: certificate.to_owned(), key: key.to_owned(), source };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let mut config = config.with_no_client_auth().with_single_cert(chain, secret).map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_pem_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (empty, missing) = (dir.path().join("empty.pem"), dir.path().join("missing.pem"));
        std::fs::write(&empty, "no certificate").unwrap();
        let says =
            |certificate: &Path| TlsIdentity::read(certificate, &empty).map(drop).unwrap_err().to_string();
        assert!(says(&empty).contains("empty.pem holds no certificate"), "{}", says(&empty));
        assert!(says(&missing).contains("cannot read the certificate"), "{}", says(&missing));
    }
}
