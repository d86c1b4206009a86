//! Why a registry cannot be served.

use std::io;
use std::net::SocketAddr;

use base::{Fault, Faulty};
use registry::server::{AccountsError, TlsError};

/// Why a registry cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The file of accounts cannot be used.
    #[error(transparent)]
    Accounts(#[from] AccountsError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened at.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The name is not one that an image's name can begin with.
    #[error(
        "\"{0}\" cannot be a registry's name: it is a host with a dot, a port, or localhost, as in example.com:5000"
    )]
    Name(String),
}

impl Faulty for ServerError {
    fn fault(&self) -> Fault {
        match self {
            Self::Accounts(error) => error.fault(),
            Self::Tls(error) => error.fault(),
            Self::Listen { .. } => Fault::Environment,
            Self::Name(_) => Fault::Input,
        }
    }
}
