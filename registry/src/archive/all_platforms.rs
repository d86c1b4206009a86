//! Everything that an archive has of an image, for every platform.

use std::collections::VecDeque;

use base::image::{Descriptor, ImageConfig, Index, Manifest, media_type};

use super::error::ArchiveErrorKind;
use super::{Archive, LoadedImage, Result};
use crate::documents::{self, CONFIG_LIMIT, DEPTH_LIMIT, Document, DocumentError, INDEX_LIMIT};

/// The documents of an image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageTree {
    /// The indexes, the outermost first; none if the image has one platform.
    pub indexes: Vec<Document<Index>>,
    /// The manifests of images, each with its config, in the order of their index.
    pub images: Vec<(Document<Manifest>, Document<ImageConfig>)>,
    /// Manifests of other things, such as attestations.
    pub others: Vec<Document<Manifest>>,
}

impl Archive {
    /// All documents of an image that are in the archive. What an index names may be missing, as long as
    /// something is there.
    pub fn whole(&self, image: &LoadedImage) -> Result<ImageTree> {
        self.tree(&image.descriptor).map_err(|kind| kind.of(&self.name))
    }

    fn tree(&self, root: &Descriptor) -> std::result::Result<ImageTree, ArchiveErrorKind> {
        let mut tree = ImageTree::default();
        let mut missing = None;
        let mut open = VecDeque::from([(root.clone(), 0)]);
        while let Some((descriptor, depth)) = open.pop_front() {
            if depth > 0 && !self.has(&descriptor)? {
                missing.get_or_insert(descriptor.digest);
            } else if media_type::is_index(&descriptor.media_type) {
                let index = self.index(descriptor)?;
                let known = |entry: &&Descriptor| {
                    media_type::is_index(&entry.media_type) || media_type::is_manifest(&entry.media_type)
                };
                let entries = index.value.manifests.iter().filter(known);
                open.extend(entries.map(|entry| (entry.clone(), depth + 1)));
                tree.indexes.push(index);
                if depth > DEPTH_LIMIT || tree.indexes.len() > INDEX_LIMIT as usize {
                    return Err(DocumentError::TooDeep.into());
                }
            } else {
                self.add_manifest(&mut tree, descriptor)?;
            }
        }
        match (tree.images.is_empty(), missing) {
            (false, _) => Ok(tree),
            (true, Some(digest)) => Err(ArchiveErrorKind::MissingBlob { digest }),
            (true, None) => Err(no_image(&tree)),
        }
    }

    fn index(&self, descriptor: Descriptor) -> std::result::Result<Document<Index>, ArchiveErrorKind> {
        let bytes = self.manifest_bytes(&descriptor)?;
        Ok(Document::parse(descriptor, bytes)?)
    }

    fn add_manifest(
        &self,
        tree: &mut ImageTree,
        descriptor: Descriptor,
    ) -> std::result::Result<(), ArchiveErrorKind> {
        let bytes = self.manifest_bytes(&descriptor)?;
        let manifest: Document<Manifest> = Document::parse(descriptor, bytes)?;
        let config = manifest.value.config.clone();
        if documents::check_config_type(&config).is_err() {
            tree.others.push(manifest);
            return Ok(());
        }
        let config: Document<ImageConfig> =
            Document::parse(config.clone(), self.bytes(&config, CONFIG_LIMIT)?)?;
        documents::check_layers(&manifest, &config)?;
        if let Some(layer) = manifest.value.layers.iter().find(|layer| !is_layer(&layer.media_type)) {
            let (digest, media_type) = (layer.digest, layer.media_type.clone());
            return Err(ArchiveErrorKind::LayerType { digest, media_type });
        }
        // The platform of an attestation is `unknown`, although its config is an image's.
        if manifest.descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown") {
            tree.others.push(manifest);
        } else {
            tree.images.push((manifest, config));
        }
        Ok(())
    }

    fn has(&self, descriptor: &Descriptor) -> std::result::Result<bool, ArchiveErrorKind> {
        match self.part(descriptor) {
            Ok(_) => Ok(true),
            Err(ArchiveErrorKind::MissingBlob { .. }) => Ok(false),
            Err(kind) => Err(kind),
        }
    }
}

/// Why a tree without images has none.
fn no_image(tree: &ImageTree) -> ArchiveErrorKind {
    match tree.others.first() {
        Some(other) => DocumentError::NotAnImage { media_type: other.value.config.media_type.clone() }.into(),
        None => ArchiveErrorKind::NoImage,
    }
}

/// Whether something is a layer of files. Its compression is found out by its bytes.
fn is_layer(media_type: &str) -> bool {
    let name = media_type.split('+').next().unwrap_or_default();
    matches!(name, media_type::OCI_LAYER | media_type::OCI_LAYER_NONDISTRIBUTABLE)
        || media_type.starts_with(media_type::DOCKER_LAYER)
        || media_type.starts_with(media_type::DOCKER_FOREIGN_LAYER)
}
