//! Reading the documents of images that are in the store.

use base::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use base::{Digest, Platform};
use serde::de::DeserializeOwned;

use crate::Engine;
use crate::error::EngineError;

/// An image of one platform, with its documents.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Where the manifest is.
    pub(crate) descriptor: Descriptor,
    pub(crate) manifest: Manifest,
    pub(crate) config: ImageConfig,
}

impl Image {
    /// The image's id: the digest of its config.
    pub(crate) fn id(&self) -> Digest {
        self.manifest.config.digest
    }
}

impl Engine {
    /// The image that `target`, a manifest or an index, means on `platform`. `None` when an index has
    /// no such platform, its manifest is not in the store, or that is of something else than an image.
    pub(crate) fn image(
        &self,
        target: &Descriptor,
        platform: &Platform,
    ) -> Result<Option<Image>, EngineError> {
        let Some(descriptor) = self.manifest_for(target, platform)? else { return Ok(None) };
        let Some(manifest) = self.document::<Manifest>("manifest", &descriptor.digest)? else {
            return Ok(None);
        };
        // A manifest of something else, as a signature or a chart that was pushed here.
        if !matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
        {
            return Ok(None);
        }
        let Some(config) = self.document::<ImageConfig>("image config", &manifest.config.digest)? else {
            return Ok(None);
        };
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            let layers = manifest.layers.len();
            let reason =
                format!("its config names {} layers, its manifest {layers}", config.rootfs.diff_ids.len());
            return Err(EngineError::Inconsistent { image: descriptor.digest.to_string(), reason });
        }
        Ok(Some(Image { descriptor, manifest, config }))
    }

    fn manifest_for(
        &self,
        target: &Descriptor,
        platform: &Platform,
    ) -> Result<Option<Descriptor>, EngineError> {
        if !media_type::is_index(&target.media_type) {
            return Ok(Some(target.clone()));
        }
        let Some(index) = self.document::<Index>("index", &target.digest)? else { return Ok(None) };
        Ok(index.select(platform).cloned())
    }

    /// Any platform's image of `target`, for listing: the host's if there is one.
    pub(crate) fn any_image(&self, target: &Descriptor) -> Result<Option<Image>, EngineError> {
        if let Some(image) = self.image(target, &Platform::host())? {
            return Ok(Some(image));
        }
        if !media_type::is_index(&target.media_type) {
            return Ok(None);
        }
        let Some(index) = self.document::<Index>("index", &target.digest)? else { return Ok(None) };
        for descriptor in &index.manifests {
            if let Some(image) = self.image(descriptor, &Platform::host())? {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }

    /// A JSON document of the store; `None` when it is not there.
    pub(crate) fn document<T: DeserializeOwned>(
        &self,
        what: &'static str,
        digest: &Digest,
    ) -> Result<Option<T>, EngineError> {
        let Some(bytes) = self.store.read_blob(digest, snapshotter::MAX_DOCUMENT)? else { return Ok(None) };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|source| EngineError::Document { what, digest: *digest, source })
    }
}
