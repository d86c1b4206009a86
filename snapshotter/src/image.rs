//! Images: names for manifests and indexes, and what these documents keep alive.
//!
//! A name is any text; it is a column of a row and never part of a path. When a name is given, the
//! documents are read once and what they refer to is recorded, so that the collector reads no files.

use base::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use base::{Digest, Timestamp};
use serde::de::DeserializeOwned;

use crate::db::{blobs, images};
use crate::error::StoreError;
use crate::store::Store;

/// The longest document that is read, in bytes. Registries refuse manifests above 4 MiB; configs are
/// smaller but not bounded, so this is generous.
pub const MAX_DOCUMENT: u64 = 16 << 20;

/// How deep indexes may be nested.
const MAX_DEPTH: usize = 4;

/// The name of an image that has none begins with this, which no reference does.
const DANGLING: &str = "<none>@";

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// Its name.
    pub name: String,
    /// What the name stands for: a manifest or an index.
    pub descriptor: Descriptor,
    /// The digest of the config, which Docker calls the image's id; `None` for an index.
    pub config: Option<Digest>,
    /// When the name was given.
    pub created_at: Timestamp,
    /// Whether nobody gave it a name.
    pub dangling: bool,
}

impl ImageRecord {
    /// The record of a name.
    pub(crate) fn new(
        name: String,
        descriptor: Descriptor,
        config: Option<Digest>,
        created_at: Timestamp,
    ) -> Self {
        let dangling = name.starts_with(DANGLING);
        Self { name, descriptor, config, created_at, dangling }
    }

    fn matches(&self, hex: &str) -> bool {
        let fits = |digest: &Digest| digest.hex().starts_with(hex);
        fits(&self.descriptor.digest) || self.config.as_ref().is_some_and(fits)
    }
}

impl Store {
    /// Gives `name` to an image, taking it from the one that had it, which stays as a dangling one if that
    /// was its only name. The manifest or index must be in the store; what it refers to may be missing, and
    /// is kept as soon as it is there.
    ///
    /// # Errors
    /// [`StoreError::NoSuchBlob`], [`StoreError::NotAnImage`], and documents that are not valid.
    pub fn tag(&self, name: &str, target: &Descriptor) -> Result<(), StoreError> {
        let mut references = References::default();
        references.document(self, target, 0)?;
        let now = self.now();
        let image = ImageRecord::new(name.to_owned(), target.clone(), references.config, now);
        let missing = self.db().write("tag an image", |c| {
            // The collector may have been here since the documents were read.
            if blobs::size(c, &target.digest)?.is_none() {
                return Ok(true);
            }
            let before = images::get(c, name)?.filter(|before| before.descriptor.digest != target.digest);
            images::put(c, &image)?;
            if let Some(before) = before.filter(|before| !before.dangling)
                && !images::has_name(c, &before.descriptor.digest)?
            {
                let name = dangling_name(&before.descriptor);
                images::put(c, &ImageRecord { name, dangling: true, ..before })?;
            }
            if !image.dangling {
                images::delete(c, &dangling_name(target))?;
            }
            references.write(c).map(|()| false)
        })?;
        if missing { Err(StoreError::NoSuchBlob { digest: target.digest }) } else { Ok(()) }
    }

    /// Keeps an image without a name, unless it has one already.
    ///
    /// # Errors
    /// As [`tag`](Self::tag).
    pub fn tag_dangling(&self, target: &Descriptor) -> Result<(), StoreError> {
        if self.db().read("look up an image", |c| images::has_name(c, &target.digest))? {
            return Ok(());
        }
        self.tag(&dangling_name(target), target)
    }

    /// Takes a name away. `false` when nothing had it. What nothing needs any more goes with the next
    /// collection.
    pub fn untag(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.db().write("untag an image", |c| images::delete(c, name))?)
    }

    /// Lets go of an image without a name. `false` when it was not kept.
    pub fn untag_dangling(&self, target: &Descriptor) -> Result<bool, StoreError> {
        self.untag(&dangling_name(target))
    }

    /// Lets go of entries of an index, which stays what it is under all its names. What nothing else needs of them goes with
    /// the next collection. Answers how many the store had kept for it.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn forget_entries(&self, index: &Digest, entries: &[Digest]) -> Result<usize, StoreError> {
        Ok(self.db().write("let go of entries of an index", |c| {
            let mut count = 0;
            for entry in entries {
                count += usize::from(images::delete_reference(c, index, entry)?);
            }
            Ok(count)
        })?)
    }

    /// The image with this name.
    pub fn resolve(&self, name: &str) -> Result<Option<ImageRecord>, StoreError> {
        Ok(self.db().read("look up an image", |c| images::get(c, name))?)
    }

    /// Every image, by name; those without a name as well.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        Ok(self.db().read("list images", images::all)?)
    }

    /// The names of the images that are the document `digest` or need it, directly or not; those of images that
    /// nobody named [are no references](ImageRecord::dangling).
    pub fn names_of_images_with(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        Ok(self.db().read("look up the images of a blob", |c| images::names_above(c, digest))?)
    }

    /// Whether any image is `digest` or needs it.
    pub fn is_part_of_an_image(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.db().read("look up the images of a blob", |c| images::is_needed(c, digest))?)
    }

    /// The images whose target or config has a digest that begins with `prefix`: hex digits, with or
    /// without `sha256:`. An empty prefix fits none.
    pub fn find_images(&self, prefix: &str) -> Result<Vec<ImageRecord>, StoreError> {
        let hex = prefix.strip_prefix("sha256:").unwrap_or(prefix);
        let mut found = self.images()?;
        found.retain(|image| !hex.is_empty() && image.matches(hex));
        Ok(found)
    }

    fn document<T: DeserializeOwned>(
        &self,
        kind: &'static str,
        digest: &Digest,
    ) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.read_blob(digest, MAX_DOCUMENT)? else { return Ok(None) };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|source| StoreError::Document { kind, digest: *digest, source })
    }
}

fn dangling_name(target: &Descriptor) -> String {
    format!("{DANGLING}{}", target.digest)
}

/// What documents refer to.
#[derive(Default)]
struct References {
    /// Pairs of a document and a blob that it names.
    blobs: Vec<(Digest, Digest)>,
    /// Manifests, each with the chain id of all its layers.
    chains: Vec<(Digest, Digest)>,
    /// The config of the outermost document, if that is a manifest.
    config: Option<Digest>,
}

impl References {
    /// Collects what `target` refers to, directly or not. Only the outermost document must be there.
    fn document(&mut self, store: &Store, target: &Descriptor, depth: usize) -> Result<(), StoreError> {
        let digest = target.digest;
        if media_type::is_manifest(&target.media_type) {
            let manifest: Option<Manifest> = store.document("manifest", &digest)?;
            return match manifest {
                Some(manifest) => self.manifest(store, digest, &manifest, depth),
                None => absent(digest, depth),
            };
        }
        if !media_type::is_index(&target.media_type) {
            // Entries of an index may be anything; the outermost document may not.
            let media_type = target.media_type.clone();
            return if depth > 0 { Ok(()) } else { Err(StoreError::NotAnImage { digest, media_type }) };
        }
        if depth >= MAX_DEPTH {
            return Err(StoreError::IndexTooDeep { digest, limit: MAX_DEPTH });
        }
        let Some(index) = store.document::<Index>("index", &digest)? else { return absent(digest, depth) };
        for entry in &index.manifests {
            self.blobs.push((digest, entry.digest));
            self.document(store, entry, depth + 1)?;
        }
        Ok(())
    }

    fn manifest(
        &mut self,
        store: &Store,
        digest: Digest,
        manifest: &Manifest,
        depth: usize,
    ) -> Result<(), StoreError> {
        let parts = manifest.layers.iter().chain([&manifest.config]);
        self.blobs.extend(parts.map(|part| (digest, part.digest)));
        if depth == 0 {
            self.config = Some(manifest.config.digest);
        }
        // Other artifacts than images have configs of other kinds, without layers to unpack.
        if !matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
        {
            return Ok(());
        }
        let config: Option<ImageConfig> = store.document("image config", &manifest.config.digest)?;
        let chain = config.and_then(|config| base::image::chain_id(&config.rootfs.diff_ids));
        self.chains.extend(chain.map(|chain_id| (digest, chain_id)));
        Ok(())
    }

    fn write(&self, connection: &rusqlite::Connection) -> rusqlite::Result<()> {
        for (document, digest) in &self.blobs {
            images::put_reference(connection, document, digest)?;
        }
        for (document, chain_id) in &self.chains {
            images::put_chain(connection, document, chain_id)?;
        }
        Ok(())
    }
}

fn absent(digest: Digest, depth: usize) -> Result<(), StoreError> {
    if depth == 0 { Err(StoreError::NoSuchBlob { digest }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
