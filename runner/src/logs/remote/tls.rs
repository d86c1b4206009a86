//! Encrypted connections to servers of logs. How to make one is known by whoever starts the supervisor, so nothing of it is
//! in memory where none is asked for.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An encrypted connection.
pub trait Encrypted: Read + Write + Send {}

impl<T: Read + Write + Send> Encrypted for T {}

/// Encrypts a connection with a host.
pub type Encrypt = fn(TcpStream, &str, &TlsFiles) -> io::Result<Box<dyn Encrypted>>;

/// For who never encrypts.
///
/// # Errors
/// Always.
pub fn never(_: TcpStream, _: &str, _: &TlsFiles) -> io::Result<Box<dyn Encrypted>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The files that an encrypted connection needs besides what the machine trusts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TlsFiles {
    /// Authorities that are trusted as well.
    pub authorities: Option<PathBuf>,
    /// Our certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Whether any certificate of the server will do.
    pub trust_all: bool,
}
