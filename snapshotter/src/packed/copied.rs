//! Copies that become packed layers.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use base::{CancelToken, Digest};
use sys::fs::PathContext as _;
use sys::rootdir::RootDir;

use super::contents::Contents;
use crate::batch::Batch;
use crate::copy::packed::held::Bases;
use crate::copy::packed::{PackedCopy, pack};
use crate::copy::{self, CopyError, CopyOptions, CopyStats};
use crate::db::packed::{self as rows, PackedLayer};
use crate::error::StoreError;
use crate::lease::Lease;
use crate::scan::Child;
use crate::select::Selection;
use crate::snapshot::{ActiveSnapshot, SharedWith, SnapshotId};
use crate::store::Store;
use crate::tar_entry::BLOCK;
use crate::tree::Tree;
use crate::writer::LayerWriter;

/// Of how many layers the content is looked at.
const BASES: usize = 4;

/// How many times as long as a copy a layer may be, or the reverse, that is looked at.
const SIMILAR: u64 = 2;

/// The longest list of contents that is read.
const LONGEST_LIST: u64 = 256 << 20;

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
        let mut bases = Candidates::of(self, batches)?;
        let packed = pack(writer, source, batches, options, &tar, &mut bases, cancel)?;
        let Some(PackedCopy { stats, diff_id, pieces, contents, tree }) = packed else {
            sys::fs::remove_file(&dirs.tar())?;
            return Ok(None);
        };
        let parts = pieces.parts().to_vec();
        let shared = bases.last.filter(|_| !parts.is_empty()).map(|(layer, row)| (layer, row.contents));
        let shared =
            shared.and_then(|(layer, contents)| Some(SharedWith { layer, contents: contents?, parts }));
        if shared.is_some() {
            write_new(&dirs.pieces(), pieces.to_text().as_bytes())?;
        }
        let Some(row) = self.store().write_index(dirs, &tree, diff_id, &pieces)? else {
            sys::fs::remove_file(&dirs.tar())?;
            sys::fs::remove_tree(&dirs.pieces())?;
            return Ok(None);
        };
        write_new(&dirs.contents(), &contents)?;
        self.set_packed(PackedLayer { contents: Some(Digest::of(&contents)), ..row }, shared);
        Ok(Some(stats))
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = sys::fs::create_new(path, 0o400)?;
    Ok(file.write_all(bytes).at("write", path)?)
}

/// The packed layers that may hold much of what is copied, the newest first.
struct Candidates<'a> {
    store: &'a Store,
    lease: &'a Lease,
    rest: std::vec::IntoIter<(SnapshotId, PackedLayer)>,
    /// The one whose list was given last.
    last: Option<(SnapshotId, PackedLayer)>,
}

impl<'a> Candidates<'a> {
    fn of(copy: &'a ActiveSnapshot, batches: &[Batch]) -> Result<Self, StoreError> {
        let children = batches.iter().flat_map(|batch| &batch.scan.dirs).flat_map(|dir| &dir.children);
        // What each takes in an archive: headers, and the content of files.
        let length = |child: &Child| {
            let content = if child.dir.is_none() { child.entry.stat().size } else { 0 };
            content
                .checked_next_multiple_of(BLOCK as u64)
                .map_or(u64::MAX, |data| data.saturating_add(BLOCK as u64))
        };
        let bytes = children.map(length).fold(0, u64::saturating_add);
        let similar = (bytes / SIMILAR, bytes.saturating_mul(SIMILAR).min(i64::MAX.unsigned_abs()));
        // A layer that needs one of them needs all that it needs, and has a larger number than they.
        let most_parts = sys::erofs::MAX_PARTS;
        let rows = copy.store().db().read("list packed layers", |c| {
            rows::newest_with_contents(c, copy.id(), similar, most_parts, BASES)
        })?;
        Ok(Self { store: copy.store(), lease: copy.lease(), rest: rows.into_iter(), last: None })
    }

    /// The list of what a layer holds, if it is what its row says.
    fn contents(&self, layer: SnapshotId, row: &PackedLayer) -> Option<Contents> {
        let path = self.store.layout().snapshot(layer).contents();
        let list = sys::fs::read_limited(&path, LONGEST_LIST).ok()??;
        Contents::read(&list).filter(|_| Some(Digest::of(&list)) == row.contents)
    }

    fn files(
        &self,
        layer: SnapshotId,
        row: &PackedLayer,
    ) -> Result<Option<Vec<(SnapshotId, File)>>, StoreError> {
        self.store.hold(self.lease, layer)?;
        let Some(files) = self.store.whole_files(layer, row)? else { return Ok(None) };
        let mut layers = files.pieces().parts().to_vec();
        layers.push(layer);
        let mut data = files.into_data();
        // Its own is the last one for who shares it.
        data.rotate_left(1);
        Ok(Some(layers.into_iter().zip(data).collect()))
    }
}

impl Bases for Candidates<'_> {
    fn next(&mut self) -> Result<Option<Contents>, CopyError> {
        while let Some((layer, row)) = self.rest.next() {
            if let Some(contents) = self.contents(layer, &row) {
                self.last = Some((layer, row));
                return Ok(Some(contents));
            }
        }
        Ok(None)
    }

    fn open(&mut self) -> Result<Option<Vec<(SnapshotId, File)>>, CopyError> {
        let Some((layer, row)) = &self.last else { return Ok(None) };
        match self.files(*layer, row) {
            Err(error @ (StoreError::Database(_) | StoreError::Cancelled)) => Err(error.into()),
            // What is wrong with another layer is no reason for this one to fail.
            files => Ok(files.ok().flatten()),
        }
    }
}
