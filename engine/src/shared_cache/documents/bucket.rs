//! A cache document in a bucket of S3, where BuildKit has its own: the document at `PREFIX` + `manifests/NAME`, as it is and without
//! an envelope, and blobs at `PREFIX` + `blobs/<digest>`.
//!
//! A document may have several names, such as a commit and its branch. All are written with the same content; who reads gets what the first
//! says, and what the others say beside it.

use std::path::Path;

use base::image::Descriptor;
use base::{CancelToken, Digest};
use snapshotter::BlobWriter;

use super::config::CacheConfig;
use super::envelope::MAX_SIZE;
use super::error::CacheDocumentError;
use super::store::DocumentStore;
use crate::Engine;
use crate::error::EngineError;
use crate::request::{BucketDocumentPlace, DocumentForm};
use crate::shared_cache::bucket::Bucket;
use crate::shared_cache::place::{Place as _, Source as _};

/// A document of a bucket.
pub(crate) struct BucketDocument<'a> {
    engine: &'a Engine,
    place: BucketDocumentPlace,
    bucket: Bucket<'a>,
}

impl<'a> BucketDocument<'a> {
    /// The document at `place`.
    pub(crate) fn new(engine: &'a Engine, place: BucketDocumentPlace) -> Self {
        let bucket = Bucket::new(engine, place.bucket.clone());
        Self { engine, place, bucket }
    }

    /// The object of the document that is called `name`.
    fn object(&self, name: &str) -> String {
        let BucketDocumentPlace { bucket, manifests_prefix, .. } = &self.place;
        format!("{}{manifests_prefix}{name}", bucket.prefix)
    }

    /// The document that is called so, if there is one.
    fn read(&self, name: &str, cancel: &CancelToken) -> Result<Option<CacheConfig>, EngineError> {
        let (bucket, network) = (self.bucket.open(cancel)?, self.engine.network()?);
        let object = self.object(name);
        let Some(stream) = network.wait(cancel, bucket.get(&object))? else { return Ok(None) };
        let bytes = network.wait(cancel, stream.read_to_end(MAX_SIZE))?;
        let bytes = bytes.ok_or(CacheDocumentError::TooLong { name: object, limit: MAX_SIZE })?;
        let json = |source| CacheDocumentError::Json { digest: Digest::of(&bytes), source };
        Ok(Some(serde_json::from_slice(&bytes).map_err(json)?))
    }
}

impl DocumentStore for BucketDocument<'_> {
    fn name(&self) -> String {
        format!("{} ({})", self.bucket.name(), self.place.names.join(";"))
    }

    fn load(&self, cancel: &CancelToken) -> Result<Vec<CacheConfig>, EngineError> {
        let mut documents = Vec::new();
        for name in &self.place.names {
            documents.extend(self.read(name, cancel)?);
        }
        if documents.is_empty() {
            return Err(CacheDocumentError::Missing.into());
        }
        Ok(documents)
    }

    fn has_blob(&self, blob: &Descriptor, cancel: &CancelToken) -> Result<bool, EngineError> {
        self.bucket.has_blob(blob, cancel)
    }

    fn add_blob(&self, blob: &Descriptor, file: &Path, cancel: &CancelToken) -> Result<(), EngineError> {
        self.bucket.add_blob(blob, file, false, cancel)
    }

    fn blobs_at_once(&self) -> usize {
        self.place.bucket.upload_parallelism.get()
    }

    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        self.bucket.copy_blob(blob, to, cancel)
    }

    fn publish(
        &self,
        document: &CacheConfig,
        _form: DocumentForm,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let bytes = document.to_bytes();
        for name in &self.place.names {
            self.bucket.put(&self.object(name), &bytes, false, cancel)?;
        }
        Ok(())
    }
}
