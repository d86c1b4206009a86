//! Images with their platforms and layers, and which layers they share.

use std::collections::{BTreeMap, BTreeSet};

use base::image::{Descriptor, Index, chain_id, media_type};
use base::{Digest, Platform};

use crate::Engine;
use crate::error::EngineError;
use crate::manifest::Image;
use crate::report::ImageSummary;

/// An image with all that belongs to it.
#[derive(Debug, Clone)]
pub struct ImageTree {
    /// As in lists.
    pub summary: ImageSummary,
    /// One for each platform that the store has.
    pub platforms: Vec<PlatformTree>,
}

/// An image of one platform.
#[derive(Debug, Clone)]
pub struct PlatformTree {
    /// What it runs on.
    pub platform: Platform,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerUse>,
}

impl PlatformTree {
    /// Bytes of its layers.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// Bytes of those of its layers that other images have as well.
    pub fn shared_bytes(&self) -> u64 {
        self.layers.iter().filter(|layer| layer.images > 1).map(|layer| layer.bytes).sum()
    }
}

/// A layer of an image.
#[derive(Debug, Clone)]
pub struct LayerUse {
    /// Its digest, uncompressed.
    pub diff_id: Digest,
    /// Its bytes, unpacked where it is.
    pub bytes: u64,
    /// How many images, each platform counted, have it on top of the same layers.
    pub images: usize,
}

impl Engine {
    /// All images with their platforms and layers, the newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn image_trees(&self) -> Result<Vec<ImageTree>, EngineError> {
        let mut found = Vec::new();
        for listed in self.listed()? {
            let parts = self.platform_images(&listed.target, &listed.image)?;
            found.push((self.summary(listed)?, parts));
        }
        found.sort_by(|(a, _), (b, _)| b.created.cmp(&a.created).then_with(|| a.names.cmp(&b.names)));
        let mut users: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for image in found.iter().flat_map(|(_, parts)| parts) {
            for chain in chains(image) {
                users.entry(chain).or_default().insert(image.id());
            }
        }
        let tree = |(summary, parts): (ImageSummary, Vec<Image>)| {
            let platforms =
                parts.iter().map(|image| self.platform_tree(image, &users)).collect::<Result<_, _>>()?;
            Ok(ImageTree { summary, platforms })
        };
        found.into_iter().map(tree).collect()
    }

    /// The images of all platforms that the store has of one, without what only tells about them (attestations).
    pub(super) fn platform_images(
        &self,
        target: &Descriptor,
        usual: &Image,
    ) -> Result<Vec<Image>, EngineError> {
        let index = match media_type::is_index(&target.media_type) {
            true => self.document::<Index>("index", &target.digest)?,
            false => None,
        };
        let mut parts = Vec::new();
        for descriptor in index.iter().flat_map(|index| &index.manifests) {
            let image = self.sound_image(descriptor)?;
            parts.extend(image.filter(|image| image.config.os != "unknown" && !image.config.os.is_empty()));
        }
        if parts.is_empty() {
            parts.push(usual.clone());
        }
        Ok(parts)
    }

    fn platform_tree(
        &self,
        image: &Image,
        users: &BTreeMap<Digest, BTreeSet<Digest>>,
    ) -> Result<PlatformTree, EngineError> {
        let sizes = self.layer_sizes(image)?;
        let layers = chains(image).zip(&image.config.rootfs.diff_ids).zip(sizes);
        let layer = |((chain, diff_id), bytes): ((Digest, &Digest), u64)| LayerUse {
            diff_id: *diff_id,
            bytes,
            images: users.get(&chain).map_or(1, BTreeSet::len),
        };
        Ok(PlatformTree {
            platform: image.config.platform(),
            manifest: image.descriptor.digest,
            layers: layers.map(layer).collect(),
        })
    }
}

/// What names each layer together with those below it.
pub(super) fn chains(image: &Image) -> impl Iterator<Item = Digest> + '_ {
    let diff_ids = &image.config.rootfs.diff_ids;
    (1..=diff_ids.len()).filter_map(|length| chain_id(&diff_ids[..length]))
}
