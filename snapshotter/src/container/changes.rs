//! What a container has changed in the files of its image: as paths, as a layer, as a number of bytes.
//!
//! It may be running meanwhile. Whoever wants a layer that is of one moment pauses it.

use std::path::PathBuf;

use base::CancelToken;
use base::image::Descriptor;

use super::ContainerRecord;
use crate::apply::Layering;
use crate::blob::BlobInfo;
use crate::compress::{Compression, LayerEncoder};
use crate::db::snapshots;
use crate::diff::{self, DiffError, DiffOptions, Hidden, LayerSource, PathChange};
use crate::error::StoreError;
use crate::layer::{LayerBlob, LayerForm};
use crate::lease::Lease;
use crate::snapshot::SnapshotId;
use crate::store::Store;
use crate::usage::content_size;

impl Store {
    /// The snapshot with all layers of a container's image; `None` for an image without any.
    pub fn container_base(&self, record: &ContainerRecord) -> Result<Option<SnapshotId>, StoreError> {
        Ok(self.db().read("look up a snapshot", |c| snapshots::parent(c, record.snapshot))?)
    }

    /// The paths that a container has changed, in tree order, but for what is `hidden`. Directories on the way to a change
    /// are among them.
    ///
    /// # Errors
    /// Files cannot be read.
    pub fn container_changes(
        &self,
        record: &ContainerRecord,
        hidden: &Hidden,
        cancel: &CancelToken,
    ) -> Result<Vec<PathChange>, StoreError> {
        self.with_changes(record, |source| diff::changed_paths_without(source, hidden, cancel))
    }

    /// The same as a layer, uncompressed, protected by `lease`; `None` if there are no changes.
    ///
    /// # Errors
    /// Files cannot be read, or the layer not be written.
    pub fn container_layer(
        &self,
        lease: &Lease,
        record: &ContainerRecord,
        hidden: &Hidden,
        cancel: &CancelToken,
    ) -> Result<Option<LayerBlob>, StoreError> {
        let failed = |source| StoreError::Compress { id: record.snapshot, source };
        let form = LayerForm::from(Compression::None);
        let mut aside = self.write_aside(lease)?;
        let mut encoder = LayerEncoder::new(&mut aside, form.compression).map_err(failed)?;
        let stats = self.with_changes(record, |source| {
            diff::write_layer_without(source, hidden, DiffOptions::default(), &mut encoder, cancel)
        })?;
        let encoded = encoder.finish().map_err(failed)?;
        if stats.entries + stats.whiteouts == 0 {
            return Ok(None);
        }
        self.publish(lease, aside, &BlobInfo { digest: encoded.digest, size: encoded.size })?;
        let descriptor = Descriptor::new(form.media_type(), encoded.digest, encoded.size);
        Ok(Some(LayerBlob { diff_id: encoded.diff_id, descriptor }))
    }

    /// Bytes of content that a container has written, and if it has a copy of its image, of all its files.
    ///
    /// # Errors
    /// [`StoreError::NoSuchContainer`]; files cannot be read.
    pub fn container_content(&self, id: &str) -> Result<(u64, Option<u64>), StoreError> {
        let missing = || StoreError::NoSuchContainer { id: id.to_owned() };
        let record = self.container(id)?.ok_or_else(missing)?;
        let own = self.layout().snapshot(record.snapshot).fs();
        let lower = match self.container_base(&record)? {
            Some(base) if self.driver()?.layering(true) == Layering::Flat => self.view_dirs(base)?,
            _ => return Ok((content_size(&own, None)?.0, None)),
        };
        let (changed, all) = content_size(&own, lower.first().map(PathBuf::as_path))?;
        Ok((changed, Some(all)))
    }

    fn with_changes<T>(
        &self,
        record: &ContainerRecord,
        work: impl FnOnce(LayerSource<'_>) -> Result<T, DiffError>,
    ) -> Result<T, StoreError> {
        let base = self.container_base(record)?;
        let lower: Vec<PathBuf> = base.map(|base| self.view_dirs(base)).transpose()?.unwrap_or_default();
        let own = self.layout().snapshot(record.snapshot).fs();
        match work(self.driver()?.layer_source(&own, &lower)) {
            Err(DiffError::Cancelled) => Err(StoreError::Cancelled),
            done => done.map_err(|source| StoreError::Diff { id: record.snapshot, source }),
        }
    }
}
