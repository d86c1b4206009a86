//! `lap save`: images of the store into one archive that Docker, Podman and OCI tools read.

use base::image::{Descriptor, Index, Manifest, media_type};
use base::reference::has_tag;
use base::{CancelToken, Platform, Reference};
use registry::{ArchiveFormat, ExportedImage};
use snapshotter::{Lease, StoreError};

use crate::Engine;
use crate::error::EngineError;
use crate::export::archive;
use crate::images::Found;
use crate::manifest::Image;
use crate::platforms;
use crate::request::{SaveFormat, SaveRequest};

/// How deep indexes may be nested.
const DEPTH: usize = 4;

impl Engine {
    /// Writes images as they are in the store: each with the name it was asked for by, all names of a repository
    /// that was given without a tag. An image of several platforms is written with those that the store has.
    ///
    /// # Errors
    /// When an image does not exist or the archive cannot be written; a file is then left as it was.
    pub fn save(&self, request: &SaveRequest, cancel: &CancelToken) -> Result<(), EngineError> {
        let lease = self.store.lease("save")?;
        let mut images: Vec<ExportedImage> = Vec::new();
        let mut saved = Vec::new();
        for wanted in &request.images {
            for name in self.names_to_save(wanted)? {
                let found = self.find_and_hold(&lease, &name)?;
                let names = if found.by_name { vec![name.parse()?] } else { Vec::new() };
                let id = found.image.id();
                let image = self.exported(&lease, found, &name, &request.platforms, cancel)?;
                saved.push((id, names.first().map(ToString::to_string).unwrap_or_default()));
                match images.iter_mut().find(|known| known.root.digest == image.root.digest) {
                    Some(known) => {
                        let new = names.into_iter().filter(|name| !known.names.contains(name));
                        let new: Vec<Reference> = new.collect();
                        known.names.extend(new);
                    }
                    None => images.push(ExportedImage { names, ..image }),
                }
            }
        }
        let format = match request.format {
            SaveFormat::Docker => ArchiveFormat::Docker,
            SaveFormat::Oci => ArchiveFormat::Oci,
        };
        archive::write(self, format, &images, None, &request.destination)?;
        saved.iter().for_each(|(id, name)| self.tell_of_image("save", id, name));
        Ok(())
    }

    /// The names that `wanted` stands for: itself, but for a repository without a tag all of its names.
    fn names_to_save(&self, wanted: &str) -> Result<Vec<String>, EngineError> {
        let as_it_is = || vec![wanted.to_owned()];
        let (false, Ok(repository)) = (has_tag(wanted), wanted.parse::<Reference>()) else {
            return Ok(as_it_is());
        };
        let mut names = Vec::new();
        for record in self.store.images()?.into_iter().filter(|record| !record.dangling) {
            let name: Reference = record.name.parse()?;
            if (&name.registry, &name.repository) == (&repository.registry, &repository.repository) {
                names.push(record.name);
            }
        }
        Ok(if names.is_empty() { as_it_is() } else { names })
    }

    /// An image with all its blobs in the store, without names.
    fn exported(
        &self,
        lease: &Lease,
        found: Found,
        name: &str,
        wanted: &[Platform],
        cancel: &CancelToken,
    ) -> Result<ExportedImage, EngineError> {
        let mut parts = Parts::default();
        if found.by_name || !wanted.is_empty() {
            self.parts(&found.target, 0, &mut parts)?;
        } else {
            parts.images.push(found.image);
        }
        let platform = |image: &Image| image.config.platform();
        let mut images = platforms::choose(parts.images, wanted, platform)?;
        // What has room for one platform names this machine's.
        let host = Platform::host();
        images.sort_by_key(|image| platform(image).fits(&host).unwrap_or(u32::MAX));
        for image in &images {
            self.materialise(lease, image, cancel)?;
        }
        let manifests = images.into_iter().map(|image| (image.descriptor, image.manifest));
        let manifests: Vec<(Descriptor, Manifest)> = manifests.collect();
        match manifests.as_slice() {
            [] => Err(EngineError::NoSuchImage(name.to_owned())),
            [(only, _)] => Ok(ExportedImage {
                names: Vec::new(),
                root: Descriptor { platform: None, ..only.clone() },
                indexes: Vec::new(),
                manifests,
            }),
            _ => {
                let others = parts.others.into_iter().filter(|_| wanted.is_empty());
                Ok(ExportedImage {
                    names: Vec::new(),
                    root: found.target,
                    indexes: parts.indexes,
                    manifests: manifests.into_iter().chain(others).collect(),
                })
            }
        }
    }

    /// Collects what of an image is in the store.
    fn parts(&self, target: &Descriptor, depth: usize, parts: &mut Parts) -> Result<(), EngineError> {
        if !media_type::is_index(&target.media_type) {
            if let Some(image) = self.image(target, &Platform::host())? {
                parts.images.push(image);
            }
            return Ok(());
        }
        let Some(index) = self.document::<Index>("index", &target.digest)? else { return Ok(()) };
        if depth > 0 {
            parts.indexes.push(target.clone());
        }
        for entry in &index.manifests {
            let is_attestation = entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
            if media_type::is_index(&entry.media_type) {
                if depth < DEPTH {
                    self.parts(entry, depth + 1, parts)?;
                }
            } else if is_attestation {
                parts.others.extend(self.attestation(entry)?);
            } else if media_type::is_manifest(&entry.media_type) {
                self.parts(entry, depth, parts)?;
            }
        }
        Ok(())
    }

    /// The manifest of something that is not an image, if all of it is in the store.
    fn attestation(&self, entry: &Descriptor) -> Result<Option<(Descriptor, Manifest)>, EngineError> {
        let Some(manifest) = self.document::<Manifest>("manifest", &entry.digest)? else { return Ok(None) };
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            match self.store.open_blob(&blob.digest) {
                Err(StoreError::NoSuchBlob { .. }) => return Ok(None),
                opened => drop(opened?),
            }
        }
        Ok(Some((entry.clone(), manifest)))
    }
}

/// What belongs to an image.
#[derive(Default)]
struct Parts {
    /// Its images of single platforms.
    images: Vec<Image>,
    /// Manifests of other things.
    others: Vec<(Descriptor, Manifest)>,
    /// Indexes below the outermost.
    indexes: Vec<Descriptor>,
}
