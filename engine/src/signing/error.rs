//! Why a key or a policy cannot be used.

use std::path::PathBuf;

use base::{Fault, Faulty};

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file cannot be read or written.
    #[error(transparent)]
    File(#[from] sys::path_error::PathError),
    /// The file has no such key.
    #[error("the key {path} cannot be used: {what}", path = .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Faulty for KeyError {
    fn fault(&self) -> Fault {
        match self {
            Self::File(error) if error.is_not_found() => Fault::Input,
            Self::File(_) => Fault::Environment,
            Self::Unusable { .. } => Fault::Input,
        }
    }
}

/// Why a policy of a shared cache cannot be used. A build does not begin without the policy that it was given.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Its file cannot be read.
    #[error(transparent)]
    File(#[from] sys::path_error::PathError),
    /// It is too long to be one.
    #[error("the cache policy {path} is longer than a megabyte", path = .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is not what a policy looks like.
    #[error("the cache policy {path} cannot be read", path = .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A signer cannot be used.
    #[error("a signer of the cache policy {path} cannot be used", path = .path.display())]
    Signer {
        /// The policy's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
}

impl Faulty for PolicyError {
    fn fault(&self) -> Fault {
        match self {
            Self::File(error) if !error.is_not_found() => Fault::Environment,
            Self::Signer { source, .. } => source.fault(),
            _ => Fault::Input,
        }
    }
}
