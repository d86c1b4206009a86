//! Where cache documents and their blobs are kept.

use std::path::Path;

use base::image::Descriptor;
use base::{CancelToken, Reference};
use snapshotter::BlobWriter;

use super::config::CacheConfig;
use crate::error::EngineError;
use crate::request::DocumentForm;

/// A place for one cache document, which each writer replaces.
///
/// What is read is anybody's: callers check it.
pub(crate) trait DocumentStore: Send + Sync {
    /// What people call it.
    fn name(&self) -> String;

    /// The repository of a registry that blobs are in, if they are in one.
    fn repository(&self) -> Option<&Reference> {
        None
    }

    /// Reads the documents that are there, the best first.
    ///
    /// # Errors
    /// [`CacheDocumentError`](super::CacheDocumentError) for what is no cache, or none that can be read.
    fn load(&self, cancel: &CancelToken) -> Result<Vec<CacheConfig>, EngineError>;

    /// Whether a blob is there.
    fn has_blob(&self, blob: &Descriptor, cancel: &CancelToken) -> Result<bool, EngineError>;

    /// Adds a blob, whose content is in `file`, unless it is there.
    fn add_blob(&self, blob: &Descriptor, file: &Path, cancel: &CancelToken) -> Result<(), EngineError>;

    /// How many blobs are added at once.
    fn blobs_at_once(&self) -> usize {
        4
    }

    /// Copies a blob to `to`; `false` if there is none. No more is copied than one byte beyond its size.
    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError>;

    /// Puts a document in place of the one that is there. All its blobs are there.
    fn publish(
        &self,
        document: &CacheConfig,
        form: DocumentForm,
        cancel: &CancelToken,
    ) -> Result<(), EngineError>;
}
