//! Copies, and what other steps write by themselves, that become packed layers.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use base::{CancelToken, Digest};
use sys::fs::PathContext as _;
use sys::rootdir::RootDir;
use sys::stat::Kind;

use super::candidates::Candidates;
use super::sketch::Sketch;
use crate::batch::Batch;
use crate::copy::packed::{PackedCopy, pack};
use crate::copy::{self, CopyError, CopyOptions, CopyStats};
use crate::db::packed::PackedLayer;
use crate::error::StoreError;
use crate::scan::Child;
use crate::select::Selection;
use crate::snapshot::ActiveSnapshot;
use crate::tar_entry::BLOCK;
use crate::tree::Tree;
use crate::writer::LayerWriter;

impl ActiveSnapshot {
    /// [Copies](copy::copy) into the layer of `writer`, which is this one's, when nothing else is in it before or comes into it
    /// after. So the layer may become a packed one: an archive that is written in one pass over the files. What another
    /// packed layer of the store holds is not written again.
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
        let batches = match copy::seen_before(selection, options) {
            Some(batches) => batches,
            None => copy::batches_of(source, selection, options, cancel)?,
        };
        let packed = match self.is_to_be_packed(&batches)? {
            true => self.pack_copy(writer, source, &batches, options, cancel)?,
            false => None,
        };
        match packed {
            Some(stats) => Ok(stats),
            None => copy::copy_batches(writer, source, &batches, options, cancel),
        }
    }

    /// Packs what is in the layer directory, where layers are to be packed and this one can be: for what is written in other
    /// ways than by [`copy_alone`](Self::copy_alone). Nothing may be written to it after.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`]; the files cannot be read or written.
    pub fn pack_directory(&self, cancel: &CancelToken) -> Result<(), StoreError> {
        let store = self.store();
        if self.is_packed() || self.is_full_copy() && self.parent().is_some() || !store.packs_all()? {
            return Ok(());
        }
        let dirs = self.dirs();
        let options = store.layer_options(self.parent().is_some(), self.lower_dirs().to_vec())?;
        let tar = sys::fs::create_new(&dirs.tar(), 0o400)?;
        let made = store.archive_directory(self.id(), self.layer_dir(), &tar, dirs, &options, cancel);
        let made = made.and_then(|made| match made {
            Ok(made) => store.finish_archive(dirs, &tar, &made),
            Err(kept) => Ok(Err(kept)),
        });
        match made {
            Ok(Ok(row)) => self.set_packed(row, None),
            // It is a good layer all the same.
            Ok(Err(_)) => self.remove_files()?,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Removes the files of a packed layer that is none.
    fn remove_files(&self) -> Result<(), StoreError> {
        let dirs = self.dirs();
        for path in [dirs.tar(), dirs.pieces(), dirs.index(), dirs.contents()] {
            sys::fs::remove_tree(&path)?;
        }
        Ok(())
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
        let (length, sketch) = outline(batches);
        let mut bases = Candidates::of(self, length, &sketch)?;
        let packed = pack(writer, source, batches, options, &tar, &mut bases, cancel)?;
        let Some(PackedCopy { stats, diff_id, pieces, contents, tree }) = packed else {
            sys::fs::remove_file(&dirs.tar())?;
            return Ok(None);
        };
        let shared = bases.shared_by(&pieces);
        if shared.is_some() {
            write_new(&dirs.pieces(), pieces.to_text().as_bytes())?;
        }
        // All that can be done is done while the archive is digested.
        let index = self.store().write_index_file(dirs, &tree, &pieces)?;
        write_new(&dirs.contents(), &contents)?;
        let contents = Digest::of(&contents);
        let (Some(index), Some(diff_id)) = (index, diff_id.finish()) else {
            self.remove_files()?;
            return Ok(None);
        };
        let row = self.store().row_of(dirs, &tree, diff_id, &pieces, index)?;
        self.set_packed(PackedLayer { contents: Some(contents), ..row }, shared);
        Ok(Some(stats))
    }
}

pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = sys::fs::create_new(path, 0o400)?;
    Ok(file.write_all(bytes).at("write", path)?)
}

/// About how long the archive of a copy is, and its sketch.
fn outline(batches: &[Batch]) -> (u64, Sketch) {
    let children = || batches.iter().flat_map(|batch| &batch.scan.dirs).flat_map(|dir| &dir.children);
    let size = |child: &Child| if child.dir.is_none() { child.entry.stat().size } else { 0 };
    // What each takes in an archive: headers, and the content of files.
    let length = |child: &Child| {
        size(child)
            .checked_next_multiple_of(BLOCK as u64)
            .map_or(u64::MAX, |data| data.saturating_add(BLOCK as u64))
    };
    let files = children().filter(|child| child.entry.stat().kind == Kind::File);
    let sketch = Sketch::of(files.map(|child| (child.entry.name().as_bytes(), size(child))));
    (children().map(length).fold(0, u64::saturating_add), sketch)
}
