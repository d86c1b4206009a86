//! A cache document in a container of Azure Blob Storage, where BuildKit has its own: the document at `PREFIX` + `manifests/NAME`, as it
//! is, and blobs at `PREFIX` + `blobs/<digest>`. As in buckets of S3 it may have several names.

use std::path::Path;

use base::image::Descriptor;
use base::{CancelToken, Digest};
use registry::BlobSource;
use registry::azblob::Container;
use snapshotter::BlobWriter;

use super::config::CacheConfig;
use super::envelope::MAX_SIZE;
use super::error::CacheDocumentError;
use super::store::DocumentStore;
use crate::Engine;
use crate::error::EngineError;
use crate::request::{AzureDocumentPlace, DocumentForm};
use crate::shared_cache::transfer::Incoming;

/// How many blobs are sent at once.
const AT_ONCE: usize = 4;

/// A document of a container.
pub(crate) struct AzureDocument<'a> {
    engine: &'a Engine,
    place: AzureDocumentPlace,
}

impl<'a> AzureDocument<'a> {
    /// The document at `place`.
    pub(crate) fn new(engine: &'a Engine, place: AzureDocumentPlace) -> Self {
        Self { engine, place }
    }

    fn open(&self) -> Result<Container, EngineError> {
        let client = self.engine.network()?.client.clone();
        Ok(Container::new(client, self.engine.clock.clone(), self.place.options.clone())?)
    }

    /// What the document that is called `name` is called there.
    fn document(&self, name: &str) -> String {
        format!("{}{}{name}", self.place.prefix, self.place.manifests_prefix)
    }

    fn blob(&self, digest: &Digest) -> String {
        format!("{}{}{digest}", self.place.prefix, self.place.blobs_prefix)
    }

    fn read(&self, name: &str, cancel: &CancelToken) -> Result<Option<CacheConfig>, EngineError> {
        let (container, network) = (self.open()?, self.engine.network()?);
        let object = self.document(name);
        let Some(stream) = network.wait(cancel, container.get(&object))? else { return Ok(None) };
        let bytes = network.wait(cancel, stream.read_to_end(MAX_SIZE))?;
        let bytes = bytes.ok_or(CacheDocumentError::TooLong { name: object, limit: MAX_SIZE })?;
        let json = |source| CacheDocumentError::Json { digest: Digest::of(&bytes), source };
        Ok(Some(serde_json::from_slice(&bytes).map_err(json)?))
    }
}

impl DocumentStore for AzureDocument<'_> {
    fn name(&self) -> String {
        let AzureDocumentPlace { options, prefix, names, .. } = &self.place;
        let url = options.account_url.trim_end_matches('/');
        format!("{url}/{}/{prefix} ({})", options.container, names.join(";"))
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
        let (container, name) = (self.open()?, self.blob(&blob.digest));
        let found = self.engine.network()?.wait(cancel, container.head(&name))?;
        Ok(found.is_some_and(|found| found.size == blob.size))
    }

    fn add_blob(&self, blob: &Descriptor, file: &Path, cancel: &CancelToken) -> Result<(), EngineError> {
        if self.has_blob(blob, cancel)? {
            return Ok(());
        }
        let (container, name) = (self.open()?, self.blob(&blob.digest));
        let content = (BlobSource::file(file), &blob.digest, blob.size);
        self.engine.network()?.wait(cancel, container.put(&name, content))?;
        Ok(())
    }

    fn blobs_at_once(&self) -> usize {
        AT_ONCE
    }

    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        let (container, network) = (self.open()?, self.engine.network()?);
        let name = self.blob(&blob.digest);
        let Some(mut stream) = network.wait(cancel, container.get(&name))? else { return Ok(false) };
        let mut incoming = Incoming::new(blob, to);
        while let Some(chunk) = network.wait(cancel, stream.next())? {
            if !incoming.take(&chunk)? {
                break;
            }
        }
        Ok(true)
    }

    fn publish(
        &self,
        document: &CacheConfig,
        _form: DocumentForm,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let (container, bytes) = (self.open()?, document.to_bytes());
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        let source = BlobSource::Bytes(bytes.into());
        for name in &self.place.names {
            let content = (source.clone(), &digest, size);
            self.engine.network()?.wait(cancel, container.put(&self.document(name), content))?;
        }
        Ok(())
    }
}
