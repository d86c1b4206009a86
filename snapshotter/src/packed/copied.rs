//! Copies, and what other steps write by themselves, that become packed layers.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use base::{CancelToken, Digest};
use sys::fs::PathContext as _;
use sys::rootdir::RootDir;
use sys::stat::Kind;

use super::bases::Bases;
use super::candidates::Candidates;
use super::contents::Contents;
use super::sketch::Sketch;
use crate::batch::Batch;
use crate::copy::packed::{PackedCopy, pack};
use crate::copy::{self, CopyError, CopyOptions, CopyStats};
use crate::db::packed::PackedLayer;
use crate::error::StoreError;
use crate::scan::Child;
use crate::select::Selection;
use crate::snapshot::{ActiveSnapshot, SnapshotId};
use crate::stat_cache::StatCache;
use crate::tar_entry::BLOCK;
use crate::tree::Tree;
use crate::write_back::begin_if_long;
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
        let look = || copy::batches_of(source, selection, options, cancel);
        let mut batches = match copy::seen_before(selection, options) {
            Some(batches) => batches,
            None => look()?,
        };
        if self.is_to_be_packed(&batches)? {
            if let Some(stats) = self.pack_copy(writer, source, &mut batches, options, cancel)? {
                return Ok(stats);
            }
            if batches.is_empty() {
                batches = look()?;
            }
        }
        copy::copy_batches(writer, source, &batches, options, cancel)
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

    /// Writes a copy as the files of a packed layer; `None`, and no files, when it has to be a directory. There may be no batches
    /// left after.
    fn pack_copy(
        &self,
        writer: &LayerWriter,
        source: &Tree,
        batches: &mut Vec<Batch>,
        options: &CopyOptions<'_>,
        cancel: &CancelToken,
    ) -> Result<Option<CopyStats>, CopyError> {
        let dirs = self.dirs();
        let tar = sys::fs::create_new(&dirs.tar(), 0o400)?;
        let mut bases = Sought { layer: self, batches, found: None };
        let packed = pack(writer, source, batches, options, &tar, &mut bases, cancel)?;
        let Some(PackedCopy { stats, diff_id, pieces, contents, tree }) = packed else {
            sys::fs::remove_file(&dirs.tar())?;
            return Ok(None);
        };
        let (candidates, sketch) = bases.finish()?;
        let shared = candidates.shared_by(&pieces);
        if shared.is_some() {
            write_new(&dirs.pieces(), pieces.to_text().as_bytes())?;
        }
        // All that can be done is done while the archive is digested, and at once.
        let cache = options.stat_cache.filter(|cache| is_most_of(&stats, cache));
        let save = || {
            // It is a hint, and who saves it at the end says what is wrong.
            let _ = cache.map(StatCache::save);
        };
        let (index, ()) = rayon::join(|| self.store().write_index_file(dirs, &tree, &pieces), save);
        let index = index?;
        let rest = || {
            write_new(&dirs.contents(), &contents)?;
            let row = index.map(|index| self.store().row_of(dirs, sketch, &pieces, index)).transpose()?;
            Ok::<_, StoreError>((Digest::of(&contents), row))
        };
        let let_go = || {
            drop(tree);
            batches.clear();
        };
        let (rest, ()) = rayon::join(rest, let_go);
        let (contents, row) = rest?;
        let (Some(row), Some(diff_id)) = (row, diff_id.finish()) else {
            self.remove_files()?;
            return Ok(None);
        };
        self.set_packed(PackedLayer { contents: Some(contents), ..row(diff_id) }, shared);
        Ok(Some(stats))
    }
}

/// Whether most of what the cache remembers is of this copy. Else it is better written once, for all copies.
fn is_most_of(stats: &CopyStats, cache: &StatCache) -> bool {
    stats.files.saturating_mul(2) >= cache.most() as u64
}

/// The layers that a copy may share with, which are looked for when the first one is asked for.
struct Sought<'a> {
    layer: &'a ActiveSnapshot,
    batches: &'a [Batch],
    /// They, and the sketch of what is copied.
    found: Option<(Candidates<'a>, Sketch)>,
}

impl<'a> Sought<'a> {
    fn finish(mut self) -> Result<(Candidates<'a>, Sketch), StoreError> {
        match self.found.take() {
            Some(found) => Ok(found),
            None => self.look(),
        }
    }

    fn candidates(&mut self) -> Result<&mut Candidates<'a>, StoreError> {
        let found = match self.found.take() {
            Some(found) => found,
            None => self.look()?,
        };
        Ok(&mut self.found.insert(found).0)
    }

    fn look(&self) -> Result<(Candidates<'a>, Sketch), StoreError> {
        let (length, sketch) = outline(self.batches);
        Ok((Candidates::of(self.layer, length, &sketch)?, sketch))
    }
}

impl Bases for Sought<'_> {
    fn next(&mut self) -> Result<Option<Contents>, StoreError> {
        self.candidates()?.next()
    }

    fn open(&mut self) -> Result<Option<Vec<(SnapshotId, File)>>, StoreError> {
        self.candidates()?.open()
    }
}

pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = sys::fs::create_new(path, 0o400)?;
    file.write_all(bytes).at("write", path)?;
    begin_if_long(&file, bytes.len() as u64);
    Ok(())
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
