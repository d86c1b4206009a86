//! Copies that become packed layers.

use std::io::Write as _;
use std::path::Path;

use base::{CancelToken, Digest};
use sys::fs::PathContext as _;
use sys::rootdir::RootDir;

use super::contents::Contents;
use crate::batch::Batch;
use crate::copy::packed::held::Base;
use crate::copy::packed::{PackedCopy, pack};
use crate::copy::{self, CopyError, CopyOptions, CopyStats};
use crate::db::packed::{self as rows, PackedLayer};
use crate::error::StoreError;
use crate::lease::Lease;
use crate::scan::Child;
use crate::select::Selection;
use crate::snapshot::{ActiveSnapshot, Part, SnapshotId};
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
        let mut candidates = self.store().layers_like(batches)?.into_iter();
        let mut parts = Vec::new();
        let mut bases = || {
            for (layer, row) in candidates.by_ref() {
                if let Some((base, its)) = self.store().base(self.lease(), layer, &row)? {
                    parts = its;
                    return Ok(Some(base));
                }
            }
            Ok(None)
        };
        let packed = pack(writer, source, batches, options, &tar, &mut bases, cancel)?;
        let Some(PackedCopy { stats, diff_id, pieces, contents, tree }) = packed else {
            sys::fs::remove_file(&dirs.tar())?;
            return Ok(None);
        };
        match pieces.parts().is_empty() {
            true => parts.clear(),
            false => write_new(&dirs.pieces(), pieces.to_text().as_bytes())?,
        }
        let Some(row) = self.store().write_index(dirs, &tree, diff_id, &pieces)? else {
            sys::fs::remove_file(&dirs.tar())?;
            if !parts.is_empty() {
                sys::fs::remove_file(&dirs.pieces())?;
            }
            return Ok(None);
        };
        write_new(&dirs.contents(), &contents)?;
        self.set_packed(PackedLayer { contents: Some(Digest::of(&contents)), ..row }, parts);
        Ok(Some(stats))
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = sys::fs::create_new(path, 0o400)?;
    Ok(file.write_all(bytes).at("write", path)?)
}

impl Store {
    /// The packed layers that may hold much of what is copied, the newest first.
    fn layers_like(&self, batches: &[Batch]) -> Result<Vec<(SnapshotId, PackedLayer)>, StoreError> {
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
        // A layer that needs it needs all that it needs.
        let most_parts = sys::erofs::MAX_PARTS;
        Ok(self
            .db()
            .read("list packed layers", |c| rows::newest_with_contents(c, similar, most_parts, BASES))?)
    }

    /// Opens a packed layer to share its content, and keeps it there; with all that who shares it needs. `None` when it is not
    /// whole, or not there any more.
    fn base(
        &self,
        lease: &Lease,
        layer: SnapshotId,
        row: &PackedLayer,
    ) -> Result<Option<(Base, Vec<Part>)>, StoreError> {
        match self.hold(lease, layer).and_then(|()| self.try_base(layer, row)) {
            Err(StoreError::NoSuchSnapshot { .. } | StoreError::PackedDamaged { .. }) => Ok(None),
            base => base,
        }
    }

    fn try_base(
        &self,
        layer: SnapshotId,
        row: &PackedLayer,
    ) -> Result<Option<(Base, Vec<Part>)>, StoreError> {
        let Some(files) = self.whole_files(layer, row)? else { return Ok(None) };
        let path = self.layout().snapshot(layer).contents();
        let list = match sys::fs::read_limited(&path, LONGEST_LIST) {
            Err(error) if error.is_not_found() => None,
            list => list?,
        };
        let Some(list) = list else { return Ok(None) };
        if Some(Digest::of(&list)) != row.contents {
            return Ok(None);
        }
        let Some(contents) = Contents::read(&list) else { return Ok(None) };
        let mut layers = files.pieces().parts().to_vec();
        layers.push(layer);
        let rows = self.db().read_consistently("look up packed layers", |c| {
            layers.iter().map(|layer| rows::get(c, *layer)).collect::<Result<Vec<_>, _>>()
        })?;
        let part = |(layer, row): (&SnapshotId, Option<PackedLayer>)| {
            row.map(|row| Part { layer: *layer, checked: row.checked })
        };
        let Some(parts) = layers.iter().zip(rows).map(part).collect() else { return Ok(None) };
        let mut data = files.into_data();
        // Its own is the last one for who shares it.
        data.rotate_left(1);
        Ok(Some((Base { contents, files: layers.into_iter().zip(data).collect() }, parts)))
    }
}
