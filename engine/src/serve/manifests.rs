//! Pushing and deleting manifests: what has to be there, and which names of the store come and go.

use std::collections::HashSet;

use base::image::{Descriptor, media_type};
use base::{Digest, Reference};
use registry::server::{ManifestName, PushedManifest, Repository, ServeError};

use super::failure::{WrongSize, failed, refused};
use super::names::Place;
use super::store::Served;

/// The bucket of what refers to a manifest: digests, and how each is listed.
pub(super) fn referrers_of(subject: &Digest) -> String {
    format!("registry-referrers/{}", subject.hex())
}

impl Served {
    /// Keeps a manifest under a name, and everything that it refers to with it.
    pub(super) fn keep_manifest(
        &self,
        repository: &Repository,
        name: &ManifestName,
        manifest: &PushedManifest,
    ) -> Result<(), ServeError> {
        let places = self.names.places(repository);
        let own = self.names.own_places(repository).into_iter().next();
        let own = own.ok_or_else(|| ServeError::NotOurs(repository.name.clone()))?;
        self.check_parts(&places, manifest)?;
        let lease = self.grace.lease().map_err(failed)?;
        let blob = self.store.put_blob(&lease, &manifest.bytes).map_err(failed)?;
        let target = Descriptor::new(&manifest.media_type, blob.digest, blob.size);
        if let Some(name) = self.new_name(&own, &places, name)? {
            self.store.tag(&name, &target).map_err(refused)?;
        }
        if matches!(name, ManifestName::Tag(_)) {
            self.drop_pins(&own, [&manifest.digest].into_iter())?;
        }
        if media_type::is_index(&manifest.media_type) {
            self.drop_pins(&own, manifest.manifests.iter().map(|part| &part.digest))?;
        }
        if let Some(referral) = &manifest.referral {
            let value = serde_json::to_vec(&referral.descriptor)
                .map_err(|error| ServeError::Failed(Box::new(error)))?;
            let bucket = referrers_of(&referral.subject);
            self.store.kv_put(&bucket, manifest.digest.as_bytes(), &value).map_err(failed)?;
        }
        self.store.sync().map_err(failed)
    }

    /// Has everything there that a manifest refers to.
    fn check_parts(&self, places: &[Place], manifest: &PushedManifest) -> Result<(), ServeError> {
        let lease = self.grace.lease().map_err(failed)?;
        let (mut missing, mut seen) = (Vec::new(), HashSet::new());
        for part in manifest.blobs.iter().filter(|part| seen.insert(part.digest)) {
            // A layer that could be made is made, because nothing says that it can be for good.
            let made = match self.shows(&part.digest)? {
                true => self.store.make_blob(&lease, &part.digest, &self.cancel).map_err(failed)?,
                false => None,
            };
            match made {
                None => missing.push(part.digest),
                Some(blob) if blob.size != part.size => return Err(WrongSize::of(part, blob.size)),
                Some(_) => {}
            }
        }
        for part in manifest.manifests.iter().filter(|part| seen.insert(part.digest)) {
            match self.store.blob(&lease, &part.digest).map_err(failed)? {
                Some(blob) if blob.size != part.size => return Err(WrongSize::of(part, blob.size)),
                Some(_) if self.has(places, &part.digest)? => {}
                _ => missing.push(part.digest),
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(ServeError::MissingParts(missing)) }
    }

    /// The name that a manifest gets; `None` when it needs none, because an image that the repository has needs it.
    fn new_name(
        &self,
        own: &Place,
        places: &[Place],
        name: &ManifestName,
    ) -> Result<Option<String>, ServeError> {
        match name {
            ManifestName::Tag(tag) => Ok(Some(own.tagged(tag))),
            ManifestName::Digest(digest) if self.has(places, digest)? => Ok(None),
            ManifestName::Digest(digest) => Ok(Some(own.pinned(digest))),
        }
    }

    /// Takes the names by digest away from what does not need them any more.
    fn drop_pins<'a>(
        &self,
        own: &Place,
        digests: impl Iterator<Item = &'a Digest>,
    ) -> Result<(), ServeError> {
        for digest in digests {
            self.store.untag(&own.pinned(digest)).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn delete_tag(&self, repository: &Repository, tag: &str) -> Result<bool, ServeError> {
        for place in self.names.own_places(repository) {
            if self.store.untag(&place.tagged(tag)).map_err(failed)? {
                return Ok(true);
            }
        }
        for name in self.names.places(repository).iter().map(|place| place.tagged(tag)) {
            if self.store.resolve(&name).map_err(failed)?.is_some() {
                return Err(ServeError::NotOurs(name));
            }
        }
        Ok(false)
    }

    pub(super) fn delete_digest(&self, repository: &Repository, digest: &Digest) -> Result<bool, ServeError> {
        let (own, all) = (self.names.own_places(repository), self.names.places(repository));
        let mut others = None;
        let mut is_deleted = false;
        for image in self.store.images().map_err(failed)? {
            let is_it = image.descriptor.digest == *digest;
            match image.name.parse::<Reference>() {
                Err(_) if is_it => is_deleted |= self.store.untag(&image.name).map_err(failed)?,
                Ok(name) if is_it && own.iter().any(|place| place.holds(&name)) => {
                    is_deleted |= self.store.untag(&image.name).map_err(failed)?;
                }
                Ok(name) if is_it && all.iter().any(|place| place.holds(&name)) => others = Some(image.name),
                _ => {}
            }
        }
        match others {
            Some(name) if !is_deleted => Err(ServeError::NotOurs(name)),
            _ if !is_deleted && self.has(&all, digest)? => Err(ServeError::InUse(*digest)),
            _ => Ok(is_deleted),
        }
    }
}
