//! Layers in another compression than the one they came in.

use std::io::{self, Read as _, Write as _};

use base::CancelToken;
use base::image::Descriptor;

use super::{LayerBlob, LayerForm, claim_key};
use crate::blob::BlobInfo;
use crate::compress::{Compression, Encoded, LayerEncoder, decompressor};
use crate::db::layers;
use crate::error::StoreError;
use crate::lease::Lease;
use crate::snapshot::SnapshotId;
use crate::store::Store;

/// How much is decompressed at a time.
const BUFFER: usize = 1 << 20;

impl Store {
    /// As [`layer`](Self::layer), but also a layer that was pulled comes in the compression of `form`. Its files
    /// stay as they are, byte for byte; only the blob is another. A blob that is compressed that way already is
    /// taken whatever its level is.
    ///
    /// # Errors
    /// As [`layer`](Self::layer); [`StoreError::DiffIdMismatch`] when the pulled blob is not the layer that it was.
    pub fn converted_layer(
        &self,
        lease: &Lease,
        id: SnapshotId,
        form: impl Into<LayerForm>,
        cancel: &CancelToken,
    ) -> Result<LayerBlob, StoreError> {
        let form = form.into();
        let owner = self.layer_owner(id)?;
        let original = match self.known_layer(owner, layers::ORIGINAL)? {
            Some(original) if self.blob(lease, &original.descriptor.digest)?.is_some() => original,
            _ => return self.layer(lease, id, form, cancel),
        };
        if form.compression.is_named_by(&original.descriptor.media_type) {
            return Ok(original);
        }
        // The times are those of the pulled layer, whatever the form says.
        let form = LayerForm::from(form.compression);
        let known = || self.conversion(lease, owner, form, &original);
        self.once(&claim_key(owner, &form.name()), cancel, known, || {
            let layer = self.convert(lease, owner, &original, form.compression, cancel)?;
            self.db().write("remember a converted layer", |c| layers::put(c, owner, &form.name(), &layer))?;
            Ok(layer)
        })
    }

    /// The same layer as `original` in `form`, if its blob is there.
    fn conversion(
        &self,
        lease: &Lease,
        id: SnapshotId,
        form: LayerForm,
        original: &LayerBlob,
    ) -> Result<Option<LayerBlob>, StoreError> {
        let known = self.known_layer(id, &form.name())?;
        // One that was written from the files may be another tar of the same files.
        match known.filter(|known| known.diff_id == original.diff_id) {
            Some(known) if self.blob(lease, &known.descriptor.digest)?.is_some() => Ok(Some(known)),
            _ => Ok(None),
        }
    }

    fn convert(
        &self,
        lease: &Lease,
        id: SnapshotId,
        original: &LayerBlob,
        compression: Compression,
        cancel: &CancelToken,
    ) -> Result<LayerBlob, StoreError> {
        let failed = |source| StoreError::Compress { id, source };
        let layer = original.descriptor.digest;
        let mut from = decompressor(self.open_blob(&layer)?).map_err(failed)?;
        let mut aside = self.write_aside(lease)?;
        let mut encoder = LayerEncoder::new(&mut aside, compression).map_err(failed)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            cancel.check()?;
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => encoder.write_all(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            }
            .map_err(|source| StoreError::Convert { layer, source })?;
        }
        let Encoded { diff_id, digest, size, .. } = encoder.finish().map_err(failed)?;
        if diff_id != original.diff_id {
            let expected = original.diff_id;
            return Err(StoreError::DiffIdMismatch { layer, expected, actual: diff_id });
        }
        self.publish(lease, aside, &BlobInfo { digest, size })?;
        Ok(LayerBlob { diff_id, descriptor: Descriptor::new(compression.media_type(), digest, size) })
    }
}
