//! What one does with images in the store: find, list, look at, name, remove.

mod convert;
mod layers;
mod remove;
mod tree;

use base::image::{Descriptor, media_type};
use base::{CancelToken, Platform, Reference};
use snapshotter::{Compression, Lease};

use crate::Engine;
use crate::error::EngineError;
use crate::manifest::Image;
use crate::report::{HistoryLine, ImageDetails, ImageSummary};
pub use convert::FormChanges;
pub use remove::Conflict;
pub use tree::{ImageTree, LayerUse, PlatformTree};

/// An image that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) image: Image,
    /// What its name leads to: the manifest, or the index it is in.
    pub(crate) target: Descriptor,
    /// Whether it was asked for by name rather than by id.
    pub(crate) by_name: bool,
}

/// An image with all of its names.
struct Listed {
    image: Image,
    target: Descriptor,
    names: Vec<String>,
}

impl Engine {
    /// Finds an image by name, digest, or the beginning of its id.
    pub(crate) fn find(&self, text: &str) -> Result<Found, EngineError> {
        if let Ok(reference) = text.parse::<Reference>()
            && let Some(record) = self.store.resolve(&reference.to_string())?
            && let Some(image) = self.any_image(&record.descriptor)?
        {
            return Ok(Found { image, target: record.descriptor, by_name: true });
        }
        let wanted = text.strip_prefix("sha256:").unwrap_or(text);
        let wanted = wanted.rsplit_once("@sha256:").map_or(wanted, |(_, digest)| digest);
        let is_id = wanted.len() >= 2 && wanted.bytes().all(|b| b.is_ascii_hexdigit());
        let mut fits: Vec<Listed> = if is_id { self.listed()? } else { Vec::new() };
        fits.retain(|listed| {
            let named = [listed.image.id(), listed.target.digest, listed.image.descriptor.digest];
            named.iter().any(|digest| digest.hex().starts_with(wanted))
        });
        match fits.len() {
            0 => Err(EngineError::NoSuchImage(text.to_owned())),
            1 => {
                let Listed { image, target, .. } = fits.swap_remove(0);
                Ok(Found { image, target, by_name: false })
            }
            _ => Err(EngineError::Ambiguous(text.to_owned())),
        }
    }

    /// The same, with everything that belongs to the image protected by `lease` from then on.
    pub(crate) fn find_and_hold(&self, lease: &Lease, text: &str) -> Result<Found, EngineError> {
        let found = self.find(text)?;
        self.hold(lease, &found, text)?;
        Ok(found)
    }

    /// Protects everything that belongs to an image, which was found by `text`.
    pub(crate) fn hold(&self, lease: &Lease, found: &Found, text: &str) -> Result<(), EngineError> {
        // Somebody may have removed it meanwhile, but only as a whole.
        match self.store.blob(lease, &found.target.digest)? {
            Some(_) => Ok(()),
            None => Err(EngineError::NoSuchImage(text.to_owned())),
        }
    }

    /// All images, each once, the newest first.
    pub fn images(&self) -> Result<Vec<ImageSummary>, EngineError> {
        let mut images: Vec<ImageSummary> =
            self.listed()?.into_iter().map(|listed| self.summary(listed)).collect::<Result<_, _>>()?;
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.names.cmp(&b.names)));
        Ok(images)
    }

    fn listed(&self) -> Result<Vec<Listed>, EngineError> {
        let mut all: Vec<Listed> = Vec::new();
        for record in self.store.images()? {
            let Some(image) = self.sound_image(&record.descriptor)? else { continue };
            let name = (!record.dangling).then_some(record.name);
            match all.iter_mut().find(|known| known.image.id() == image.id()) {
                Some(known) => known.names.extend(name),
                None => {
                    let names = name.into_iter().collect();
                    all.push(Listed { image, target: record.descriptor, names });
                }
            }
        }
        Ok(all)
    }

    /// The image of `target`. `None` for something else than an image, also if it says that it is one: what somebody
    /// pushed here need not make sense, and must not hide the rest.
    pub(crate) fn sound_image(&self, target: &Descriptor) -> Result<Option<Image>, EngineError> {
        match self.any_image(target) {
            Err(EngineError::Inconsistent { .. } | EngineError::Document { .. }) => Ok(None),
            image => image,
        }
    }

    fn summary(&self, listed: Listed) -> Result<ImageSummary, EngineError> {
        let Listed { image, target, names } = listed;
        Ok(ImageSummary {
            id: image.id(),
            names,
            digest: target.digest,
            created: image.config.created,
            size: self.image_size(&image)?,
            labels: image.config.config.labels.clone(),
            platform: image.config.platform(),
        })
    }

    /// Bytes of an image's layers as they are unpacked; of what is not, as they are packed.
    fn image_size(&self, image: &Image) -> Result<u64, EngineError> {
        Ok(self.layer_sizes(image)?.iter().sum())
    }

    fn layer_sizes(&self, image: &Image) -> Result<Vec<u64>, EngineError> {
        let diff_ids = &image.config.rootfs.diff_ids;
        let size = |(index, layer): (usize, &Descriptor)| {
            let Some(chain) = base::image::chain_id(&diff_ids[..=index]) else { return Ok(layer.size) };
            Ok(self.store.layer_size(&chain)?.unwrap_or(layer.size))
        };
        image.manifest.layers.iter().enumerate().map(size).collect()
    }

    /// Everything about one image.
    ///
    /// # Errors
    /// When there is no such image, or an id fits several.
    pub fn inspect(&self, name: &str) -> Result<ImageDetails, EngineError> {
        let found = self.find(name)?;
        let id = found.image.id();
        let names =
            self.listed()?.into_iter().find(|listed| listed.image.id() == id).map(|listed| listed.names);
        let config = found.image.config.clone();
        let listed = Listed { image: found.image, target: found.target, names: names.unwrap_or_default() };
        Ok(ImageDetails { summary: self.summary(listed)?, config })
    }

    /// An image by its name or id, and of its platforms' the one that is asked for.
    pub(crate) fn find_for(&self, name: &str, platform: Option<&Platform>) -> Result<Found, EngineError> {
        let found = self.find(name)?;
        let Some(platform) = platform else { return Ok(found) };
        let image = self.image(&found.target, platform)?;
        let fits = |image: &Image| image.config.platform().fits(platform).is_some();
        let image = image.filter(fits).ok_or_else(|| EngineError::NoPlatform {
            wanted: platform.to_string(),
            known: vec![found.image.config.platform().to_string()],
        })?;
        Ok(Found { image, ..found })
    }

    /// How an image was made, the newest step first.
    ///
    /// # Errors
    /// When there is no such image, or an id fits several.
    pub fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<HistoryLine>, EngineError> {
        let image = self.find_for(name, platform)?.image;
        let mut sizes = self.layer_sizes(&image)?.into_iter();
        let line = |entry: base::image::History| {
            let size = if entry.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
            HistoryLine { entry, size }
        };
        let mut lines: Vec<HistoryLine> = image.config.history.into_iter().map(line).collect();
        lines.reverse();
        Ok(lines)
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// When there is no such image, or an id fits several.
    pub fn tag(&self, name: &str, target: &Reference) -> Result<(), EngineError> {
        let lease = self.store.lease("tag")?;
        let found = self.find_and_hold(&lease, name)?;
        self.store.tag(&target.to_string(), &found.target)?;
        self.tell_of_image("tag", &found.image.id(), &target.to_string());
        Ok(())
    }

    /// The same image with every layer's blob in the store, so that it can be written somewhere.
    pub(crate) fn materialise(
        &self,
        lease: &Lease,
        image: &Image,
        cancel: &CancelToken,
    ) -> Result<Image, EngineError> {
        let diff_ids = &image.config.rootfs.diff_ids;
        for (index, layer) in image.manifest.layers.iter().enumerate() {
            if self.store.blob(lease, &layer.digest)?.is_some() {
                continue;
            }
            let chain = base::image::chain_id(&diff_ids[..=index]);
            let snapshot = match chain {
                Some(chain) => self.store.snapshot_by_chain_id(lease, &chain)?,
                None => None,
            };
            let missing = || EngineError::Inconsistent {
                image: image.id().to_string(),
                reason: format!("its layer {} is not in the store; pull it again", layer.digest),
            };
            let blob = self.store.layer(lease, snapshot.ok_or_else(missing)?, Compression::None, cancel)?;
            if blob.descriptor.digest != layer.digest {
                return Err(missing());
            }
        }
        debug_assert!(media_type::is_manifest(&image.descriptor.media_type));
        Ok(image.clone())
    }
}

/// A complete name as people write it.
pub(crate) fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_short() {
        assert_eq!(familiar("docker.io/library/debian:latest"), "debian:latest");
        assert_eq!(familiar("not a name"), "not a name");
    }
}
