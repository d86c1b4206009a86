//! Images that a build uses as named contexts and that have no names of registries: those of OCI layouts, which are read into the
//! store before anything else, and results of other builds.

use std::collections::BTreeMap;
use std::path::Path;

use base::image::Descriptor;
use base::{CancelToken, Digest, Platform, Reference};
use registry::{Archive, LoadedImage};
use snapshotter::Lease;

use crate::Engine;
use crate::error::EngineError;
use crate::manifest::Image;
use crate::request::{BuildRequest, NamedContext};

/// The tag that is meant when none is given.
const DEFAULT_TAG: &str = "latest";

/// The images of layouts by the name of their context, and what they lead to.
#[derive(Debug, Default)]
pub(crate) struct Layouts(BTreeMap<String, (Reference, Descriptor)>);

impl Layouts {
    /// The name by which the frontend asks for the image of a context.
    pub(crate) fn reference(&self, context: &str) -> Option<&Reference> {
        self.0.get(context).map(|(reference, _)| reference)
    }

    /// The names by which images are asked for, by those of their contexts.
    pub(crate) fn references(&self) -> BTreeMap<String, Reference> {
        self.0.iter().map(|(name, (reference, _))| (name.clone(), reference.clone())).collect()
    }

    /// The image that a name of ours means.
    pub(crate) fn image(
        &self,
        engine: &Engine,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Image>, EngineError> {
        match self.0.values().find(|(known, _)| known == reference) {
            Some((_, root)) => engine.image(root, platform),
            None => Ok(None),
        }
    }
}

impl Engine {
    /// The image of a layout that a tag or digest means, or without one the only one, or `latest`.
    ///
    /// # Errors
    /// The directory is no layout, or does not have it.
    pub fn image_of_layout(&self, directory: &Path, wanted: Option<&str>) -> Result<Digest, EngineError> {
        let archive = Archive::open(directory, &self.store.scratch_dir())?;
        Ok(choose(&archive, directory, wanted)?.descriptor.digest)
    }

    /// Reads the layouts that `request` names, and finds the images of the store that it names by their content.
    ///
    /// # Errors
    /// A layout is damaged or does not have the image that was asked for.
    pub(crate) fn import_layouts(
        &self,
        lease: &Lease,
        request: &BuildRequest,
        cancel: &CancelToken,
    ) -> Result<Layouts, EngineError> {
        let mut layouts = Layouts::default();
        let host = [Platform::host()];
        let platforms = if request.platforms.is_empty() { &host[..] } else { &request.platforms };
        for (name, context) in &request.named_contexts {
            if let NamedContext::Layout { directory, image } = context {
                let archive = Archive::open(directory, &self.store.scratch_dir())?;
                let chosen = choose(&archive, directory, image.as_deref())?;
                let root = self.import_from_layout(lease, &archive, &chosen, platforms, cancel)?;
                let repository = format!("oci-layout/{}", root.digest.short());
                let reference: Reference = repository.parse()?;
                layouts.0.insert(name.clone(), (reference.with_digest(root.digest), root));
            }
            if let NamedContext::Stored(root) = context {
                let reference: Reference = format!("result/{}", root.digest.short()).parse()?;
                for platform in platforms {
                    let missing = || EngineError::NoSuchImage(root.digest.to_string());
                    self.image(root, platform)?.ok_or_else(missing)?;
                }
                layouts.0.insert(name.clone(), (reference.with_digest(root.digest), root.clone()));
            }
        }
        Ok(layouts)
    }

    /// Keeps the documents and layers of an image for each platform that it has.
    fn import_from_layout(
        &self,
        lease: &Lease,
        archive: &Archive,
        image: &LoadedImage,
        platforms: &[Platform],
        cancel: &CancelToken,
    ) -> Result<Descriptor, EngineError> {
        let mut root = image.descriptor.clone();
        for platform in platforms {
            cancel.check()?;
            let documents = archive.image(image, platform)?;
            let (kept, leads_to) = self.keep_documents(lease, documents)?;
            for layer in &kept.manifest.layers {
                self.keep(lease, layer, &mut archive.blob(layer)?)?;
            }
            root = leads_to;
        }
        Ok(root)
    }
}

/// The image of a layout that a tag or digest means.
fn choose(archive: &Archive, directory: &Path, wanted: Option<&str>) -> Result<LoadedImage, EngineError> {
    let images = archive.images();
    let fits = |image: &&LoadedImage| match wanted {
        Some(wanted) => {
            image.ref_name.as_deref() == Some(wanted) || image.descriptor.digest.to_string() == wanted
        }
        None => image.ref_name.as_deref() == Some(DEFAULT_TAG),
    };
    let only = images.first().filter(|_| wanted.is_none() && images.len() == 1);
    let found = images.iter().find(fits).or(only);
    found.cloned().ok_or_else(|| {
        let known: Vec<&str> = images.iter().filter_map(|image| image.ref_name.as_deref()).collect();
        EngineError::NotInLayout {
            directory: directory.to_owned(),
            wanted: wanted.unwrap_or(DEFAULT_TAG).to_owned(),
            known: known.join(", "),
        }
    })
}
