//! Whether images have lost parts that they had.

use std::collections::HashSet;

use base::Digest;
use base::image::{Descriptor, ImageConfig, Index, Manifest, chain_id, media_type};
use serde::de::DeserializeOwned;

use super::Findings;
use crate::db::{blobs, snapshots};
use crate::error::StoreError;
use crate::image::MAX_DOCUMENT;
use crate::snapshot::SnapshotId;
use crate::store::Store;

impl Store {
    /// The names of images whose documents are gone, or with parts that `findings` says are damaged.
    pub(super) fn incomplete_images(&self, findings: &Findings) -> Result<Vec<String>, StoreError> {
        let bad = Bad {
            blobs: findings.lost_blobs.iter().chain(&findings.wrong_blobs).copied().collect(),
            snapshots: findings.lost_snapshots.iter().chain(&findings.orphaned_snapshots).copied().collect(),
        };
        let mut incomplete = Vec::new();
        for image in self.images()? {
            if !self.is_complete(&image.descriptor, &bad, true)? {
                incomplete.push(image.name);
            }
        }
        Ok(incomplete)
    }

    /// Whether a manifest has its documents and no damaged part. Of an index, those manifests count that are in the store: a
    /// pull takes only what is for this platform.
    fn is_complete(&self, target: &Descriptor, bad: &Bad, outermost: bool) -> Result<bool, StoreError> {
        if !self.is_good_blob(&target.digest, bad)? {
            return Ok(!outermost && !bad.blobs.contains(&target.digest));
        }
        if media_type::is_manifest(&target.media_type) {
            return match self.readable::<Manifest>(&target.digest)? {
                Some(manifest) => self.is_manifest_complete(&manifest, bad),
                None => Ok(false),
            };
        }
        if !media_type::is_index(&target.media_type) || !outermost {
            return Ok(true);
        }
        let Some(index) = self.readable::<Index>(&target.digest)? else { return Ok(false) };
        for entry in &index.manifests {
            if !self.is_complete(entry, bad, false)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_manifest_complete(&self, manifest: &Manifest, bad: &Bad) -> Result<bool, StoreError> {
        if !self.is_good_blob(&manifest.config.digest, bad)? {
            return Ok(false);
        }
        if !matches!(manifest.config.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
        {
            return Ok(true);
        }
        let config: Option<ImageConfig> = self.readable(&manifest.config.digest)?;
        let Some(config) = config else { return Ok(false) };
        for (index, layer) in manifest.layers.iter().enumerate() {
            let below = config.rootfs.diff_ids.get(..=index).unwrap_or_default();
            if self.is_layer_damaged(&layer.digest, below, bad)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a layer was there and is damaged in every form. One that is not there is no damage: layers
    /// are fetched when they are needed.
    fn is_layer_damaged(&self, blob: &Digest, below: &[Digest], bad: &Bad) -> Result<bool, StoreError> {
        if self.is_good_blob(blob, bad)? {
            return Ok(false);
        }
        let chain = chain_id(below);
        let snapshot = match &chain {
            Some(chain) => self.db().read("look up a chain id", |c| snapshots::by_chain_id(c, chain))?,
            None => None,
        };
        Ok(snapshot.map_or(bad.blobs.contains(blob), |id| bad.snapshots.contains(&id)))
    }

    fn is_good_blob(&self, digest: &Digest, bad: &Bad) -> Result<bool, StoreError> {
        let is_there = self.db().read("look up a blob", |c| blobs::size(c, digest))?.is_some();
        Ok(is_there && !bad.blobs.contains(digest))
    }

    /// A document, if it can be read as one.
    fn readable<T: DeserializeOwned>(&self, digest: &Digest) -> Result<Option<T>, StoreError> {
        let bytes = self.read_blob(digest, MAX_DOCUMENT)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}

/// What is damaged.
struct Bad {
    blobs: HashSet<Digest>,
    snapshots: HashSet<SnapshotId>,
}
