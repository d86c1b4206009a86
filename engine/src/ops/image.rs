//! The image source: a base image's root filesystem.

use base::{Digest, Key, KeyHasher, Reference};
use llb::{ImageSource, Vertex};

use super::{BuildOps, Filesystem};
use crate::error::EngineError;
use crate::remote::Fetcher;

impl BuildOps<'_> {
    /// The root filesystem of an image, if it is unpacked already.
    pub(super) fn unpacked(&self, source: &ImageSource) -> Result<Option<Filesystem>, EngineError> {
        let snapshot = self.engine.store.snapshot_by_chain_id(self.lease, &source.chain_id)?;
        Ok(snapshot.map(|snapshot| Filesystem { snapshot, content: content(&source.chain_id) }))
    }

    /// Fetches and unpacks what is missing of an image.
    pub(super) fn image(
        &self,
        vertex: &Vertex,
        source: &ImageSource,
        fetcher: &Fetcher<'_>,
    ) -> Result<Filesystem, EngineError> {
        let reference: Reference = source.reference.parse()?;
        let target = base::image::Descriptor::new(base::image::media_type::OCI_MANIFEST, source.manifest, 0);
        let image = self.engine.image(&target, &vertex.platform)?;
        let mut image = image.ok_or_else(|| EngineError::NoSuchImage(reference.familiar()))?;
        if let Some(layers) = source.layers {
            image.config.rootfs.diff_ids.truncate(layers);
            image.manifest.layers.truncate(layers);
        }
        let Fetcher { engine, progress, cancel, .. } = *fetcher;
        let snapshot = engine.unpack(self.lease, &reference, &image, progress, vertex.id, cancel)?;
        let snapshot = snapshot.ok_or_else(|| EngineError::Inconsistent {
            image: reference.familiar(),
            reason: "it has no layers".to_owned(),
        })?;
        Ok(Filesystem { snapshot, content: content(&source.chain_id) })
    }
}

/// The layers are the content.
fn content(chain_id: &Digest) -> Key {
    KeyHasher::new("lapstrake/image-content/v1").add(chain_id).finish()
}
