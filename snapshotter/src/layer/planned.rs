//! Layers that a manifest names and that nobody has written to a blob yet, found by the digest that they will have.

use base::{CancelToken, Digest};

use super::{LayerBlob, LayerForm};
use crate::blob::BlobInfo;
use crate::compress::Compression;
use crate::db::layers;
use crate::error::StoreError;
use crate::lease::Lease;
use crate::snapshot::SnapshotId;
use crate::store::Store;

/// A layer that is known in a form.
type Known = (SnapshotId, String, LayerBlob);

impl Store {
    /// The blob `digest`, which is not there but can be made of a snapshot. With a lease, that snapshot is
    /// protected.
    pub fn planned_blob(
        &self,
        lease: Option<&Lease>,
        digest: &Digest,
    ) -> Result<Option<BlobInfo>, StoreError> {
        for (id, _, layer) in self.made_as(digest)? {
            match lease.map(|lease| self.hold(lease, id)) {
                // The collector was here since.
                Some(Err(StoreError::NoSuchSnapshot { .. })) => continue,
                Some(held) => held?,
                None => {}
            }
            return Ok(Some(BlobInfo { digest: *digest, size: layer.descriptor.size }));
        }
        Ok(None)
    }

    /// The blob `digest`, protected by `lease`; it is made if it is not there and can be. `None` when it cannot.
    ///
    /// # Errors
    /// As [`layer`](Self::layer).
    pub fn make_blob(
        &self,
        lease: &Lease,
        digest: &Digest,
        cancel: &CancelToken,
    ) -> Result<Option<BlobInfo>, StoreError> {
        if let Some(blob) = self.blob(lease, digest)? {
            return Ok(Some(blob));
        }
        for (id, form, known) in self.made_as(digest)? {
            let Some(form) = LayerForm::from_name(&form) else { continue };
            match self.make_again(lease, id, form, &known, cancel) {
                Ok(made) if made.descriptor.digest == *digest => {
                    return Ok(Some(BlobInfo { digest: *digest, size: made.descriptor.size }));
                }
                // Another version of a compression library writes other bytes.
                Ok(_) | Err(StoreError::NoSuchSnapshot { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The uncompressed layer `digest` in this compression, protected by `lease`. `None` when it was not made here, so
    /// that it stays what it is.
    ///
    /// # Errors
    /// As [`layer`](Self::layer).
    pub fn compressed_layer(
        &self,
        lease: &Lease,
        digest: &Digest,
        compression: Compression,
        cancel: &CancelToken,
    ) -> Result<Option<LayerBlob>, StoreError> {
        for (id, form, _) in self.made_as(digest)? {
            let Some(form) = LayerForm::from_name(&form) else { continue };
            let wanted = LayerForm { compression, ..form };
            match self.hold(lease, id).and_then(|()| self.layer(lease, id, wanted, cancel)) {
                // A layer that was pulled is what it came as.
                Ok(packed) if packed.diff_id == *digest && packed.descriptor.digest != *digest => {
                    return Ok(Some(packed));
                }
                Ok(_) | Err(StoreError::NoSuchSnapshot { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn made_as(&self, digest: &Digest) -> Result<Vec<Known>, StoreError> {
        Ok(self.db().read("look up a layer by its blob", |c| layers::made_as(c, digest))?)
    }

    /// The layer in the form that it is known in.
    fn make_again(
        &self,
        lease: &Lease,
        id: SnapshotId,
        form: LayerForm,
        known: &LayerBlob,
        cancel: &CancelToken,
    ) -> Result<LayerBlob, StoreError> {
        self.hold(lease, id)?;
        match self.known_layer(id, layers::ORIGINAL)? {
            // It came as another blob of the same layer.
            Some(original) if original.diff_id == known.diff_id => {
                self.converted_layer(lease, id, form, cancel)
            }
            _ => self.layer(lease, id, form, cancel),
        }
    }
}
