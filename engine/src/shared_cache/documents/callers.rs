//! A cache document that the caller keeps, blob by blob, and that it finds again by what it is told of it.

use std::io::Read as _;
use std::path::Path;
use std::sync::PoisonError;

use base::image::{Descriptor, Index, media_type};
use base::{CancelToken, Digest};
use snapshotter::BlobWriter;
use sys::fs::PathContext as _;

use super::config::CacheConfig;
use super::envelope::{self, Envelope};
use super::error::CacheDocumentError;
use super::store::DocumentStore;
use crate::caller::{AskError, not_answered};
use crate::error::EngineError;
use crate::request::{CallersPlace, DocumentForm};

/// The largest manifest or index that is read, in bytes.
const MAX_MANIFEST: u64 = 4 << 20;

/// A document of a caller.
pub(crate) struct CallersDocument(CallersPlace);

impl CallersDocument {
    /// The document at `place`, where nothing need be.
    pub(crate) fn new(place: CallersPlace) -> Self {
        Self(place)
    }

    fn failed(&self) -> impl FnOnce(AskError) -> EngineError {
        let what = format!("the cache in {}", self.0.store);
        move |source| not_answered(what, source)
    }

    fn size(&self, digest: &Digest) -> Result<Option<u64>, EngineError> {
        self.0.blobs.size(&self.0.store, digest).map_err(self.failed())
    }

    /// A document, which is what its digest says.
    fn fetch(&self, document: &Descriptor) -> Result<Vec<u8>, EngineError> {
        let Descriptor { digest, size, .. } = *document;
        if self.size(&digest)? != Some(size) {
            return Err(CacheDocumentError::Damaged { digest }.into());
        }
        let content = self.0.blobs.open(&self.0.store, &digest).map_err(self.failed())?;
        let mut bytes = Vec::new();
        content.take(size.saturating_add(1)).read_to_end(&mut bytes).at("read", Path::new(&self.0.store))?;
        match Digest::of(&bytes) == digest {
            true => Ok(bytes),
            false => Err(CacheDocumentError::Damaged { digest }.into()),
        }
    }

    fn put(&self, digest: &Digest, size: u64, content: &mut dyn std::io::Read) -> Result<(), EngineError> {
        self.0.blobs.put(&self.0.store, digest, size, content).map_err(self.failed())
    }
}

impl DocumentStore for CallersDocument {
    fn name(&self) -> String {
        self.0.store.clone()
    }

    fn load(&self, _cancel: &CancelToken) -> Result<Vec<CacheConfig>, EngineError> {
        let digest = self.0.digest.ok_or(CacheDocumentError::Missing)?;
        let size = self.size(&digest)?.ok_or(CacheDocumentError::Missing)?;
        if size > MAX_MANIFEST {
            return Err(CacheDocumentError::TooLarge { digest, size, limit: MAX_MANIFEST }.into());
        }
        let mut root = Descriptor::new(media_type::OCI_MANIFEST, digest, size);
        let bytes = self.fetch(&root)?;
        if serde_json::from_slice::<Index>(&bytes).is_ok() {
            media_type::OCI_INDEX.clone_into(&mut root.media_type);
        }
        envelope::open(&root, &bytes, &|document| self.fetch(document))
    }

    fn has_blob(&self, blob: &Descriptor, _cancel: &CancelToken) -> Result<bool, EngineError> {
        Ok(self.size(&blob.digest)? == Some(blob.size))
    }

    fn add_blob(&self, blob: &Descriptor, file: &Path, _cancel: &CancelToken) -> Result<(), EngineError> {
        self.put(&blob.digest, blob.size, &mut sys::fs::open(file)?)
    }

    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        _cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        if self.size(&blob.digest)?.is_none() {
            return Ok(false);
        }
        let content = self.0.blobs.open(&self.0.store, &blob.digest).map_err(self.failed())?;
        to.copy_from(&mut content.take(blob.size.saturating_add(1)))?;
        Ok(true)
    }

    fn publish(
        &self,
        document: &CacheConfig,
        form: DocumentForm,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let Envelope { document, document_bytes, root, root_bytes } = envelope::wrap(document, form);
        for (descriptor, bytes) in [(&document, &document_bytes), (&root, &root_bytes)] {
            if !self.has_blob(descriptor, cancel)? {
                self.put(&descriptor.digest, bytes.len() as u64, &mut bytes.as_slice())?;
            }
        }
        *self.0.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(root);
        Ok(())
    }
}
