//! A blob on its way from a client into the store.

use std::io::Write as _;
use std::sync::Arc;

use base::Digest;
use registry::server::{ServeError, Upload};
use snapshotter::{BlobWriter, Expected};

use super::failure::failed;
use super::grace::Grace;

/// Hashes what comes and writes it aside. Dropped, it leaves nothing.
pub(super) struct Receiving {
    writer: BlobWriter,
    grace: Arc<Grace>,
}

impl Receiving {
    pub(super) fn new(writer: BlobWriter, grace: Arc<Grace>) -> Self {
        Self { writer, grace }
    }
}

impl Upload for Receiving {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ServeError> {
        self.writer.write_all(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ServeError::Full(Box::new(error))
            }
            _ => ServeError::Failed(Box::new(error)),
        })
    }

    fn finish(self: Box<Self>, expected: &Digest) -> Result<(), ServeError> {
        let expected = Expected { digest: *expected, size: self.writer.size() };
        let blob = self.writer.finish(Some(expected)).map_err(failed)?;
        // The lease that it was written under may be about to end.
        self.grace.keep(&blob.digest).map_err(failed)?;
        Ok(())
    }
}
