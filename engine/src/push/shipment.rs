//! What travels in a push: an image's documents and blobs, with each layer in the form in which it is pushed.

use base::image::{Descriptor, Index, Manifest, media_type};
use base::{CancelToken, Digest, Platform};
use serde::de::DeserializeOwned;
use snapshotter::{Compression, Lease};

use crate::Engine;
use crate::error::EngineError;

/// How deep indexes may be nested.
const DEPTH: usize = 4;

/// How an image is made ready.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Packing<'a> {
    /// As it is.
    AsItIs,
    /// With gzip for layers that were made here and are not compressed.
    Compressed {
        /// Only this platform of it.
        platform: Option<&'a Platform>,
    },
}

/// A manifest or index as it is pushed.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
}

/// Everything that a registry has to have of an image.
#[derive(Debug)]
pub(crate) struct Shipment {
    /// What the name will stand for.
    pub(crate) root: Document,
    /// The manifests and indexes below it, each after those that it refers to.
    pub(crate) below: Vec<Document>,
    /// Configs and layers, each once.
    pub(crate) blobs: Vec<Descriptor>,
    /// Platforms of the image that the store does not have.
    pub(crate) left_out: Vec<Platform>,
}

impl Engine {
    /// Makes the image that `target`, a manifest or an index, names ready to be pushed. Documents that change are
    /// written to the store.
    ///
    /// # Errors
    /// When nothing of the image is in the store, or not the platform that was asked for.
    pub(crate) fn shipment(
        &self,
        lease: &Lease,
        target: &Descriptor,
        packing: Packing<'_>,
        cancel: &CancelToken,
    ) -> Result<Shipment, EngineError> {
        let (compress, platform) = match packing {
            Packing::AsItIs => (false, None),
            Packing::Compressed { platform } => (true, platform),
        };
        let mut packer = Packer { engine: self, lease, compress, cancel, parts: Parts::default() };
        let target = match platform {
            Some(platform) => packer.only(target, platform)?,
            None => target.clone(),
        };
        let root = packer.document(&target, 0)?;
        let root = root.ok_or_else(|| EngineError::Inconsistent {
            image: target.digest.to_string(),
            reason: "nothing of it is in the store; pull it again".to_owned(),
        })?;
        let Parts { mut documents, blobs, left_out } = packer.parts;
        let root = documents.iter().position(|document| document.descriptor.digest == root.digest);
        // The root was the last to be added, unless it is a part of itself, which a digest cannot be.
        let root = documents.remove(root.unwrap_or(documents.len() - 1));
        Ok(Shipment { root, below: documents, blobs, left_out })
    }
}

/// What was found so far.
#[derive(Default)]
struct Parts {
    documents: Vec<Document>,
    blobs: Vec<Descriptor>,
    left_out: Vec<Platform>,
}

/// Goes through the documents of an image.
struct Packer<'a> {
    engine: &'a Engine,
    lease: &'a Lease,
    compress: bool,
    cancel: &'a CancelToken,
    parts: Parts,
}

impl Packer<'_> {
    /// The manifest of one platform.
    fn only(&self, target: &Descriptor, platform: &Platform) -> Result<Descriptor, EngineError> {
        match self.engine.image(target, platform)? {
            Some(image) if image.config.platform().fits(platform).is_some() => {
                Ok(Descriptor { platform: None, ..image.descriptor })
            }
            image => {
                let known = image.map(|image| image.config.platform().to_string()).into_iter().collect();
                Err(EngineError::NoPlatform { wanted: platform.to_string(), known })
            }
        }
    }

    /// Adds a manifest or index with all below it, and gives what it became; `None` when it is not in the store.
    fn document(&mut self, target: &Descriptor, depth: usize) -> Result<Option<Descriptor>, EngineError> {
        let Some(bytes) = self.engine.store.read_blob(&target.digest, snapshotter::MAX_DOCUMENT)? else {
            return Ok(None);
        };
        if !media_type::is_index(&target.media_type) {
            let changed = self.manifest(target, &bytes)?;
            return self.add(target, bytes, changed).map(Some);
        }
        if depth > DEPTH {
            let reason = format!("its indexes are nested more than {DEPTH} deep");
            return Err(EngineError::Inconsistent { image: target.digest.to_string(), reason });
        }
        let index: Index = parse("index", &target.digest, &bytes)?;
        let mut entries = Vec::with_capacity(index.manifests.len());
        for (position, entry) in index.manifests.iter().enumerate() {
            match self.document(entry, depth + 1)? {
                Some(new) => entries.push((position, new)),
                None => self.parts.left_out.extend(entry.platform.clone()),
            }
        }
        let whole = entries.len() == index.manifests.len();
        if let ([(_, only)], false) = (entries.as_slice(), whole) {
            return Ok(Some(only.clone()));
        }
        if entries.is_empty() && !whole {
            return Ok(None);
        }
        let same = |(position, new): &(usize, Descriptor)| index.manifests[*position].digest == new.digest;
        if whole && entries.iter().all(same) {
            return self.add(target, bytes, None).map(Some);
        }
        let descriptor = |(position, new): &(usize, Descriptor)| {
            let old = index.manifests[*position].clone();
            Descriptor { media_type: new.media_type.clone(), digest: new.digest, size: new.size, ..old }
        };
        let manifests = entries.iter().map(descriptor).collect();
        let text = text("index", &target.digest, &Index { manifests, ..index })?;
        self.add(target, bytes, Some(text)).map(Some)
    }

    /// Adds the blobs of a manifest. Gives its new text if layers were compressed.
    fn manifest(&mut self, target: &Descriptor, bytes: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        let mut manifest: Manifest = parse("manifest", &target.digest, bytes)?;
        // What we would not write back as it is stays as it is.
        let compress = self.compress && text("manifest", &target.digest, &manifest)? == bytes;
        let mut changed = false;
        for layer in manifest.layers.iter_mut().filter(|_| compress) {
            self.cancel.check()?;
            if let Some(Descriptor { media_type, digest, size, .. }) = self.compressed(layer)? {
                *layer = Descriptor { media_type, digest, size, ..layer.clone() };
                changed = true;
            }
        }
        std::iter::once(&manifest.config).chain(&manifest.layers).for_each(|blob| self.blob(blob));
        if changed { text("manifest", &target.digest, &manifest).map(Some) } else { Ok(None) }
    }

    /// The layer with gzip, if it was made here and is not compressed.
    fn compressed(&self, layer: &Descriptor) -> Result<Option<Descriptor>, EngineError> {
        let docker = match layer.media_type.as_str() {
            media_type::OCI_LAYER => false,
            media_type::DOCKER_LAYER => true,
            _ => return Ok(None),
        };
        let store = &self.engine.store;
        let packed = store.compressed_layer(self.lease, &layer.digest, Compression::GZIP, self.cancel)?;
        Ok(packed.map(|packed| {
            let kind = if docker { media_type::DOCKER_LAYER_GZIP } else { media_type::OCI_LAYER_GZIP };
            Descriptor { media_type: kind.to_owned(), ..packed.descriptor }
        }))
    }

    fn blob(&mut self, blob: &Descriptor) {
        let is_foreign = matches!(
            blob.media_type.as_str(),
            media_type::DOCKER_FOREIGN_LAYER | media_type::OCI_LAYER_NONDISTRIBUTABLE
        );
        // What may not be distributed is not pushed; its descriptor says where it is.
        let known = |known: &Descriptor| known.digest == blob.digest;
        if !is_foreign && !self.parts.blobs.iter().any(known) {
            self.parts.blobs.push(Descriptor::new(&blob.media_type, blob.digest, blob.size));
        }
    }

    /// Adds a document, as it was or with its new text, and gives what it is now.
    fn add(
        &mut self,
        target: &Descriptor,
        bytes: Vec<u8>,
        changed: Option<Vec<u8>>,
    ) -> Result<Descriptor, EngineError> {
        let (descriptor, bytes) = match changed {
            None => (Descriptor { platform: None, ..target.clone() }, bytes),
            Some(bytes) => {
                let descriptor = Descriptor::new(&target.media_type, Digest::of(&bytes), bytes.len() as u64);
                self.engine.keep(self.lease, &descriptor, &mut bytes.as_slice())?;
                (descriptor, bytes)
            }
        };
        if !self.parts.documents.iter().any(|known| known.descriptor.digest == descriptor.digest) {
            self.parts.documents.push(Document { descriptor: descriptor.clone(), bytes });
        }
        Ok(descriptor)
    }
}

fn text<T: serde::Serialize>(
    what: &'static str,
    digest: &Digest,
    document: &T,
) -> Result<Vec<u8>, EngineError> {
    serde_json::to_vec(document).map_err(|source| EngineError::Document { what, digest: *digest, source })
}

fn parse<T: DeserializeOwned>(what: &'static str, digest: &Digest, bytes: &[u8]) -> Result<T, EngineError> {
    serde_json::from_slice(bytes).map_err(|source| EngineError::Document { what, digest: *digest, source })
}
