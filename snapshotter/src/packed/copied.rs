//! Copies that become packed layers.

use base::CancelToken;
use sys::rootdir::RootDir;

use crate::batch::Batch;
use crate::copy::packed::{PackedCopy, pack};
use crate::copy::{self, CopyError, CopyOptions, CopyStats};
use crate::select::Selection;
use crate::snapshot::ActiveSnapshot;
use crate::tree::Tree;
use crate::writer::LayerWriter;

impl ActiveSnapshot {
    /// [Copies](copy::copy) into the layer of `writer`, which is this one's, when nothing else is in it before or comes into it
    /// after. So the layer may become a packed one: an archive that is written in one pass over the files.
    ///
    /// # Errors
    /// As those of [`copy`](copy::copy); [`CopyError::Store`] when the files of the layer cannot be written.
    pub fn copy_alone(
        &self,
        writer: &LayerWriter,
        source: &Tree,
        selection: &Selection,
        options: &CopyOptions<'_>,
        cancel: &CancelToken,
    ) -> Result<CopyStats, CopyError> {
        let batches = copy::batches_of(source, selection, options, cancel)?;
        let packed = match self.is_to_be_packed(&batches)? {
            true => self.pack_copy(writer, source, &batches, options, cancel)?,
            false => None,
        };
        match packed {
            Some(stats) => Ok(stats),
            None => copy::copy_batches(writer, source, &batches, options, cancel),
        }
    }

    fn is_to_be_packed(&self, batches: &[Batch]) -> Result<bool, CopyError> {
        // Below the lowest layer there is nothing, so it is a full copy of that.
        Ok(!batches.is_empty()
            && (!self.is_full_copy() || self.parent().is_none())
            && self.store().packs_copies(batches)?
            && RootDir::open(self.layer_dir())?.names()?.is_empty())
    }

    /// Writes a copy as the files of a packed layer; `None`, and no files, when it has to be a directory.
    fn pack_copy(
        &self,
        writer: &LayerWriter,
        source: &Tree,
        batches: &[Batch],
        options: &CopyOptions<'_>,
        cancel: &CancelToken,
    ) -> Result<Option<CopyStats>, CopyError> {
        let dirs = self.dirs();
        let tar = sys::fs::create_new(&dirs.tar(), 0o400)?;
        let packed = pack(writer, source, batches, options, &tar, cancel)?;
        let Some(PackedCopy { stats, diff_id, size, tree }) = packed else {
            sys::fs::remove_file(&dirs.tar())?;
            return Ok(None);
        };
        let files = self.store().finish_packed(dirs, &tree, (diff_id, size))?;
        Ok(files.map(|files| {
            self.set_packed(files);
            stats
        }))
    }
}
