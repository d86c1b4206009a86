//! Why a call to a Remote Execution API cache failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use base::{Fault, Faulty};
use rustls::pki_types::pem;

/// Why a call failed, and whose.
#[derive(Debug, thiserror::Error)]
#[error("the cache {endpoint}: {kind}")]
pub struct ReapiError {
    /// The server.
    pub endpoint: String,
    /// What went wrong.
    #[source]
    pub kind: ReapiErrorKind,
}

/// What went wrong with a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReapiErrorKind {
    /// The endpoint is no URL of one.
    #[error("its address is not like grpc://HOST:PORT or grpcs://HOST:PORT")]
    BadEndpoint,
    /// The token cannot be part of a header.
    #[error("the token has characters that no token has")]
    BadToken,
    /// A header that is to be sent with each call is none, or one that is the protocol's own.
    #[error("\"{name}\" cannot be sent as a header")]
    BadHeader {
        /// Its name.
        name: String,
    },
    /// The file of authorities cannot be used.
    #[error("cannot read certificates from {}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// No connection came about.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// The TLS set-up of this machine is unusable.
    #[error("cannot prepare TLS (are CA certificates installed?)")]
    Tls(#[source] rustls::Error),
    /// The connection broke, or does not speak HTTP/2.
    #[error("the connection was lost, or does not speak gRPC")]
    Protocol(#[from] h2::Error),
    /// Nothing moved for too long.
    #[error("nothing came for {} s", .0.as_secs())]
    Stalled(Duration),
    /// A proxy or a web server answered.
    #[error("it answered {0} in HTTP instead of gRPC")]
    Http(u16),
    /// The server refused.
    #[error("it answered with status {code} ({message})")]
    Status {
        /// gRPC's code.
        code: u32,
        /// What it says.
        message: String,
    },
    /// The answer makes no sense.
    #[error("the answer cannot be understood")]
    Malformed,
    /// A message is longer than we read or send.
    #[error("a message is too long")]
    TooLong,
    /// A blob was not taken as a whole.
    #[error("it has taken {committed} of {size} bytes")]
    NotAll {
        /// What it says that it has.
        committed: u64,
        /// What there is.
        size: u64,
    },
    /// What was to be sent cannot be read.
    #[error("cannot read what is to be sent")]
    Source(#[source] io::Error),
    /// The kernel has no random numbers.
    #[error("the system has no random numbers")]
    NoRandomness,
}

impl Faulty for ReapiError {
    fn fault(&self) -> Fault {
        match &self.kind {
            ReapiErrorKind::BadEndpoint
            | ReapiErrorKind::BadToken
            | ReapiErrorKind::BadHeader { .. }
            | ReapiErrorKind::Authority { .. } => Fault::Input,
            ReapiErrorKind::Source(source) => base::fault::of_io(source),
            _ => Fault::Environment,
        }
    }
}
