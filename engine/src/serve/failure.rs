//! Failures of the store, as the registry's server tells them apart.

use base::image::Descriptor;
use base::{Digest, Fault, Faulty as _};
use registry::server::ServeError;
use snapshotter::StoreError;

/// A manifest is wrong about what it refers to.
#[derive(Debug, thiserror::Error)]
#[error("it says that {digest} has {stated} bytes, but that has {actual}")]
pub(super) struct WrongSize {
    digest: Digest,
    stated: u64,
    actual: u64,
}

impl WrongSize {
    /// `part`, of which there are `actual` bytes.
    pub(super) fn of(part: &Descriptor, actual: u64) -> ServeError {
        ServeError::Document(Box::new(Self { digest: part.digest, stated: part.size, actual }))
    }
}

/// The store failed.
pub(super) fn failed(error: StoreError) -> ServeError {
    match error {
        StoreError::BlobMismatch { expected, actual, .. } => ServeError::Mismatch { expected, actual },
        error if error.is_disk_full() => ServeError::Full(Box::new(error)),
        error => ServeError::Failed(Box::new(error)),
    }
}

/// The store failed, or refused what it was given.
pub(super) fn refused(error: StoreError) -> ServeError {
    if error.fault() == Fault::Input { ServeError::Document(Box::new(error)) } else { failed(error) }
}
