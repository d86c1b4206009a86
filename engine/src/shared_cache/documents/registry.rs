//! A cache document under a name in a registry.

use std::ops::Deref;
use std::path::Path;

use base::image::{Descriptor, media_type};
use base::{CancelToken, Reference};
use registry::BlobSource;
use snapshotter::BlobWriter;

use super::config::CacheConfig;
use super::envelope::{self, Envelope};
use super::error::CacheDocumentError;
use super::store::DocumentStore;
use crate::Engine;
use crate::error::EngineError;
use crate::request::DocumentForm;
use crate::shared_cache::repository::copy_blob;

/// The engine that asks a registry.
pub(crate) enum Asker<'a> {
    /// That of the build.
    Usual(&'a Engine),
    /// One for this registry alone.
    Own(Box<Engine>),
}

impl Deref for Asker<'_> {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        match self {
            Self::Usual(engine) => engine,
            Self::Own(engine) => engine,
        }
    }
}

/// A name in a registry.
pub(crate) struct RegistryDocument<'a> {
    engine: Asker<'a>,
    reference: Reference,
}

impl<'a> RegistryDocument<'a> {
    /// The document, or the image with cache metadata, that `reference` names.
    pub(crate) fn new(engine: Asker<'a>, reference: Reference) -> Self {
        Self { engine, reference }
    }

    fn fetch(&self, document: &Descriptor, cancel: &CancelToken) -> Result<Vec<u8>, EngineError> {
        let network = self.engine.network()?;
        let named = self.reference.with_digest(document.digest);
        let is_manifest =
            media_type::is_manifest(&document.media_type) || media_type::is_index(&document.media_type);
        network.wait(cancel, async {
            if is_manifest {
                return Ok(network.client.resolve(&named).await?.bytes);
            }
            network.client.blob(&named, document, None).await?.read_to_end().await
        })
    }
}

impl DocumentStore for RegistryDocument<'_> {
    fn name(&self) -> String {
        self.reference.familiar()
    }

    fn repository(&self) -> Option<&Reference> {
        Some(&self.reference)
    }

    fn load(&self, cancel: &CancelToken) -> Result<Vec<CacheConfig>, EngineError> {
        let network = self.engine.network()?;
        let root = match network.wait(cancel, network.client.resolve(&self.reference)) {
            Err(EngineError::Registry(error)) if error.is_not_found() => {
                return Err(CacheDocumentError::Missing.into());
            }
            root => root?,
        };
        envelope::open(&root.descriptor(), &root.bytes, &|document| self.fetch(document, cancel))
    }

    fn has_blob(&self, blob: &Descriptor, cancel: &CancelToken) -> Result<bool, EngineError> {
        let network = self.engine.network()?;
        network.wait(cancel, network.client.blob_exists(&self.reference, &blob.digest))
    }

    fn add_blob(&self, blob: &Descriptor, file: &Path, cancel: &CancelToken) -> Result<(), EngineError> {
        let network = self.engine.network()?;
        let source = BlobSource::file(file);
        network.wait(cancel, network.client.push_blob(&self.reference, blob, &source, None, None))?;
        Ok(())
    }

    fn copy_blob(
        &self,
        blob: &Descriptor,
        to: &mut BlobWriter,
        cancel: &CancelToken,
    ) -> Result<bool, EngineError> {
        copy_blob(self.engine.network()?, &self.reference, blob, to, cancel)
    }

    fn publish(
        &self,
        document: &CacheConfig,
        form: DocumentForm,
        cancel: &CancelToken,
    ) -> Result<(), EngineError> {
        let network = self.engine.network()?;
        let Envelope { document, document_bytes, root, root_bytes } = envelope::wrap(document, form);
        let source = BlobSource::Bytes(document_bytes.into());
        network.wait(cancel, async {
            network.client.push_blob(&self.reference, &document, &source, None, None).await?;
            network.client.push_manifest(&self.reference, &root.media_type, root_bytes.into()).await
        })?;
        Ok(())
    }
}
