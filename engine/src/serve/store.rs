//! The store as the registry's server sees it.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::image::Descriptor;
use base::{CancelToken, Digest, Reference};
use registry::server::{
    BlobRemoval, ManifestName, PushedManifest, Repository, ServeError, ServedBlob, ServedManifest,
    ServedStore, Upload, media_type_of,
};
use snapshotter::{MAX_DOCUMENT, Store, StoreError};

use super::failure::failed;
use super::grace::Grace;
use super::manifests::referrers_of;
use super::names::{Names, Place};
use super::receiving::Receiving;
use super::records::Records;

/// A store that is served.
pub(super) struct Served {
    pub(super) store: Store,
    pub(super) names: Names,
    pub(super) grace: Arc<Grace>,
    pub(super) records: Arc<Records>,
    /// Ends work that nobody waits for any more.
    pub(super) cancel: CancelToken,
}

impl Served {
    pub(super) fn new(store: Store, names: Names, records: Arc<Records>, cancel: CancelToken) -> Self {
        let grace = Arc::new(Grace::new(store.clone()));
        Self { store, names, grace, records, cancel }
    }

    /// Whether clients may see a blob: an image needs it, or they may rely on it for a while. Results of the build cache
    /// that are part of no image are nobody's business.
    pub(super) fn shows(&self, digest: &Digest) -> Result<bool, ServeError> {
        Ok(self.grace.keeps(digest) || self.store.is_part_of_an_image(digest).map_err(failed)?)
    }

    /// Whether a repository has a manifest: one of its images is it or needs it. So does every repository have what lost its
    /// last name, until it is pruned: by digest it can be pulled from where it was.
    pub(super) fn has(&self, places: &[Place], digest: &Digest) -> Result<bool, ServeError> {
        let names = self.store.names_of_images_with(digest).map_err(failed)?;
        Ok(names.iter().any(|name| match name.parse::<Reference>() {
            Ok(name) => places.iter().any(|place| place.holds(&name)),
            Err(_) => true,
        }))
    }

    fn document(
        &self,
        digest: Digest,
        media_type: Option<String>,
    ) -> Result<Option<ServedManifest>, ServeError> {
        let bytes = match self.store.read_blob(&digest, MAX_DOCUMENT) {
            Ok(bytes) => bytes,
            // Whatever that is, it is no manifest.
            Err(StoreError::BlobTooLarge { .. }) => None,
            Err(error) => return Err(failed(error)),
        };
        Ok(bytes.and_then(|bytes| {
            let media_type = media_type.or_else(|| media_type_of(&bytes))?;
            Some(ServedManifest { media_type, digest, bytes })
        }))
    }
}

impl ServedStore for Served {
    fn repositories(&self) -> Result<Vec<String>, ServeError> {
        let images = self.store.images().map_err(failed)?;
        let names = images.iter().filter_map(|image| image.name.parse::<Reference>().ok());
        let repositories: BTreeSet<String> = names.filter_map(|name| self.names.repository(&name)).collect();
        Ok(repositories.into_iter().collect())
    }

    fn tags(&self, repository: &Repository) -> Result<Option<Vec<String>>, ServeError> {
        let places = self.names.places(repository);
        let images = self.store.images().map_err(failed)?;
        let names = images.iter().filter_map(|image| image.name.parse::<Reference>().ok());
        let names: Vec<Reference> =
            names.filter(|name| places.iter().any(|place| place.holds(name))).collect();
        let tags: BTreeSet<String> = names.iter().filter_map(|name| name.tag.clone()).collect();
        Ok((!names.is_empty()).then(|| tags.into_iter().collect()))
    }

    fn manifest(
        &self,
        repository: &Repository,
        name: &ManifestName,
    ) -> Result<Option<ServedManifest>, ServeError> {
        let places = self.names.places(repository);
        match name {
            ManifestName::Tag(tag) => {
                for place in places {
                    if let Some(image) = self.store.resolve(&place.tagged(tag)).map_err(failed)? {
                        self.records.touch(tag, &image.name);
                        return self.document(image.descriptor.digest, Some(image.descriptor.media_type));
                    }
                }
                Ok(None)
            }
            ManifestName::Digest(digest) if self.has(&places, digest)? => self.document(*digest, None),
            ManifestName::Digest(_) => Ok(None),
        }
    }

    fn put_manifest(
        &self,
        repository: &Repository,
        name: &ManifestName,
        manifest: &PushedManifest,
    ) -> Result<(), ServeError> {
        self.keep_manifest(repository, name, manifest)
    }

    fn delete_manifest(&self, repository: &Repository, name: &ManifestName) -> Result<bool, ServeError> {
        match name {
            ManifestName::Tag(tag) => self.delete_tag(repository, tag),
            ManifestName::Digest(digest) => self.delete_digest(repository, digest),
        }
    }

    fn referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Descriptor>, ServeError> {
        let places = self.names.places(repository);
        let bucket = referrers_of(subject);
        let mut found = Vec::new();
        for (key, value) in self.store.kv_list(&bucket).map_err(failed)? {
            let Ok(descriptor) = serde_json::from_slice::<Descriptor>(&value) else { continue };
            if self.has(&places, &descriptor.digest)? {
                found.push(descriptor);
            } else if !self.store.is_part_of_an_image(&descriptor.digest).map_err(failed)? {
                // It was deleted. Pushing it again notes it again.
                self.store.kv_delete(&bucket, &key).map_err(failed)?;
            }
        }
        Ok(found)
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, ServeError> {
        if !self.shows(digest)? {
            return Ok(None);
        }
        Ok(self.grace.keep(digest).map_err(failed)?.map(|blob| blob.size))
    }

    fn open_blob(&self, digest: &Digest) -> Result<Option<ServedBlob>, ServeError> {
        if !self.shows(digest)? {
            return Ok(None);
        }
        let opened = match self.store.open_blob(digest) {
            Err(StoreError::NoSuchBlob { .. }) => {
                let lease = self.store.lease("registry serve: a layer").map_err(failed)?;
                match self.store.make_blob(&lease, digest, &self.cancel).map_err(failed)? {
                    Some(_) => self.store.open_blob(digest),
                    None => return Ok(None),
                }
            }
            opened => opened,
        };
        let file = opened.map_err(failed)?;
        let size = file.metadata().map_err(|error| ServeError::Failed(Box::new(error)))?.len();
        Ok(Some(ServedBlob { file, size }))
    }

    fn delete_blob(&self, digest: &Digest) -> Result<BlobRemoval, ServeError> {
        if self.store.is_part_of_an_image(digest).map_err(failed)? {
            return Ok(BlobRemoval::InUse);
        }
        Ok(if self.grace.forget(digest) { BlobRemoval::Removed } else { BlobRemoval::Unknown })
    }

    fn upload(&self) -> Result<Box<dyn Upload>, ServeError> {
        let lease = self.grace.lease().map_err(failed)?;
        let writer = self.store.ingest(&lease).map_err(failed)?;
        Ok(Box::new(Receiving::new(writer, self.grace.clone())))
    }
}
