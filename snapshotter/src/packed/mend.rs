//! Whether the files of packed layers are what they were, making those again that are not, and making directories of
//! layers that cannot stay packed.
//!
//! Files are read once in each boot, before they are first mounted, and again when one was replaced or written to since:
//! that shows in its number, length and time of change, which no program sets. Everything that replaces a file is written
//! beside it first, so others that have the old one open, or mounted, keep it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use base::digest::Digester;
use base::{CancelToken, Digest, Key, KeyHasher};
use sys::fs::{PathContext as _, PathError};
use sys::rootdir::RootDir;

use super::convert::take_times;
use super::{Archive, Files};
use crate::apply::read_ahead::BUFFER;
use crate::apply::{self, ApplyError, packed};
use crate::db::packed::{self as rows, PackedLayer};
use crate::db::snapshots;
use crate::error::StoreError;
use crate::layout::SnapshotDirs;
use crate::lease::Lease;
use crate::snapshot::SnapshotId;
use crate::store::Store;

/// What is made again of a damaged layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mending {
    /// Nothing: it is refused.
    Nothing,
    /// Its own files.
    Own,
    /// Those of the layers that it needs as well.
    All,
}

impl Store {
    /// The files of a packed layer, as they were recorded; `None` when it has become a directory. What is damaged is made again.
    ///
    /// # Errors
    /// [`StoreError::PackedDamaged`] when there is nothing to make it of.
    pub(super) fn whole_files(
        &self,
        layer: SnapshotId,
        row: &PackedLayer,
    ) -> Result<Option<Files>, StoreError> {
        self.checked_files(layer, row, Mending::All)
    }

    /// The same, when not everything is to be made again.
    pub(super) fn checked_files(
        &self,
        layer: SnapshotId,
        row: &PackedLayer,
        wanted: Mending,
    ) -> Result<Option<Files>, StoreError> {
        let dirs = self.layout().snapshot(layer);
        if let Some(files) = Files::open(&dirs)?
            && files.identity(&dirs, &self.boot()?)? == row.checked
        {
            return Ok(Some(files));
        }
        let _alone = self.claim(&mending(layer), &CancelToken::new())?;
        // Somebody may have done it meanwhile.
        let row = self.db().read("look up a packed layer", |c| rows::get(c, layer))?;
        let Some(row) = row else {
            self.snapshot_info(layer)?;
            return Ok(None);
        };
        let cancel = CancelToken::new();
        let damaged = || StoreError::PackedDamaged { path: dirs.top.clone() };
        let mut mended = match has_archive(&dirs, &row, &cancel)? {
            true => row,
            false => self.make_archive(layer, &dirs, &row, wanted)?,
        };
        if !is_file(&dirs.index(), &mended.index, mended.index_size, &cancel)? {
            if wanted == Mending::Nothing {
                return Err(damaged());
            }
            let made = self.make_index(layer, &dirs, &mended)?;
            mended = PackedLayer { contents: mended.contents, ..made };
        }
        let files = Files::open(&dirs)?.ok_or_else(damaged)?;
        mended.checked = files.identity(&dirs, &self.boot()?)?;
        let is_alone = files.pieces().parts().is_empty();
        self.db().write("record a packed layer", |c| {
            if rows::get(c, layer)?.is_none() {
                return Ok(());
            }
            if is_alone && !rows::parts_of(c, layer)?.is_empty() {
                rows::delete_parts(c, layer)?;
                snapshots::forget_size(c, layer)?;
            }
            rows::put(c, layer, &mended)
        })?;
        Ok(Some(files))
    }

    /// Makes the index again of the archive.
    fn make_index(
        &self,
        layer: SnapshotId,
        dirs: &SnapshotDirs,
        row: &PackedLayer,
    ) -> Result<PackedLayer, StoreError> {
        let damaged = || StoreError::PackedDamaged { path: dirs.top.clone() };
        let archive = Archive::open(dirs)?.ok_or_else(damaged)?;
        let pieces = archive.pieces().clone();
        let archive = BufReader::with_capacity(BUFFER, archive);
        let (tree, _) = packed::index_of(archive, &self.options_of(layer)?, &CancelToken::new())
            .map_err(|source| self.failed(layer, row.tar, source))?;
        let (_lease, top) = self.scratch_path()?;
        let aside = SnapshotDirs { top };
        sys::fs::create_dir(&aside.top, 0o700)?;
        let made = self.write_index(&aside, &tree, row.tar, &pieces);
        let moved = made.and_then(|made| {
            // It could be indexed before, so it is not what it was.
            let made = made.ok_or_else(damaged)?;
            sys::fs::sync_filesystem(self.root())?;
            sys::fs::rename(&aside.index(), &dirs.index())?;
            Ok(made)
        });
        sys::fs::remove_tree(&aside.top)?;
        moved
    }

    /// Writes a file beside `path`, and puts it in its place when it is complete and on the disk.
    pub(super) fn replace(
        &self,
        path: &Path,
        write: impl FnOnce(&mut File, &Path) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (_lease, aside) = self.scratch_path()?;
        let mut file = sys::fs::create_new(&aside, 0o400)?;
        let written = write(&mut file, &aside).and_then(|()| {
            file.sync_all().at("sync", &aside)?;
            Ok(sys::fs::rename(&aside, path)?)
        });
        if written.is_err() {
            sys::fs::remove_tree(&aside)?;
        }
        written
    }

    /// Makes a directory of a packed layer. Those who have it mounted keep their mounts, and layers that need its archive
    /// that.
    pub(super) fn unpack_packed(&self, layer: SnapshotId, files: &Files) -> Result<(), StoreError> {
        let _alone = self.claim(&mending(layer), &CancelToken::new())?;
        let Some(row) = self.db().read("look up a packed layer", |c| rows::get(c, layer))? else {
            return Ok(());
        };
        let dirs = self.layout().snapshot(layer);
        let options = self.options_of(layer)?;
        let (lease, aside) = self.place_for(layer)?;
        let made = self.driver()?.create(&aside, &options.lower).map_err(StoreError::from).and_then(|()| {
            apply::apply(files.archive(&dirs)?, &aside.fs(), &options, &CancelToken::new())
                .map_err(|source| self.failed(layer, row.tar, source))?;
            if let Ok(way) = self.way()?
                && let Ok(root) = files.mount(&dirs, way.backing)
            {
                take_times(&RootDir::open(sys::erofs::path_of(&root))?, &RootDir::open(aside.fs())?)?;
            }
            sys::fs::sync_filesystem(self.root())?;
            // One that somebody left who was killed before the row was gone.
            sys::fs::remove_tree(&dirs.fs())?;
            Ok(sys::fs::rename(&aside.fs(), &dirs.fs())?)
        });
        let recorded = made.and_then(|()| {
            self.db().write_durably("record an unpacked layer", |c| {
                rows::delete(c, layer)?;
                snapshots::forget_size(c, layer)
            })?;
            Ok(())
        });
        let settled = self.leave_place(layer, &aside, lease.id());
        recorded.and(settled)?;
        files
            .pieces()
            .parts()
            .iter()
            .try_for_each(|part| self.drop_archive(*part, &|tar| sys::fs::remove_tree(tar).map(drop)))
    }

    /// Removes the archives of layers that became directories, and that nobody needs any more.
    pub(crate) fn sweep_archives(
        &self,
        remove: &dyn Fn(&Path) -> Result<(), PathError>,
    ) -> Result<(), StoreError> {
        let (rows, packed, parts) = self.db().read_consistently("list packed layers", |c| {
            Ok((snapshots::all(c)?, rows::all(c)?, rows::all_parts(c)?))
        })?;
        let known: HashSet<SnapshotId> =
            packed.iter().map(|(id, _)| *id).chain(parts.iter().map(|(_, part)| *part)).collect();
        for row in rows.iter().filter(|row| !row.active && row.layer.is_none() && !known.contains(&row.id)) {
            if sys::fs::exists(&self.layout().snapshot(row.id).tar())? {
                self.drop_archive(row.id, remove)?;
            }
        }
        Ok(())
    }

    /// Removes the archive of a layer that is a directory, if it is there and nobody needs it any more.
    fn drop_archive(
        &self,
        layer: SnapshotId,
        remove: &dyn Fn(&Path) -> Result<(), PathError>,
    ) -> Result<(), StoreError> {
        let tar = self.layout().snapshot(layer).tar();
        // Whoever has it gives the layer another form, and looks himself.
        let Some(_alone) = self.try_claim(&mending(layer))? else { return Ok(()) };
        let is_needed = self.db().read_consistently("look up who needs a layer", |c| {
            Ok(rows::get(c, layer)?.is_some() || !rows::users_of(c, layer)?.is_empty())
        })?;
        if !is_needed && sys::fs::exists(&tar)? {
            remove(&tar)?;
        }
        Ok(())
    }

    pub(super) fn failed(&self, layer: SnapshotId, tar: Digest, source: ApplyError) -> StoreError {
        let directory = self.layout().snapshot(layer).top;
        StoreError::Apply { layer: tar, directory, source: Box::new(source) }
    }

    /// A path for what is not complete, which is nobody's for as long as the lease is there.
    pub(super) fn scratch_path(&self) -> Result<(Lease, PathBuf), StoreError> {
        let lease = self.lease("mend")?;
        let path = self.layout().ingest(lease.id(), self.next_number());
        Ok((lease, path))
    }

    /// Whether the files of a packed layer are there, in the recorded lengths.
    pub(crate) fn has_packed_files(&self, layer: SnapshotId, row: &PackedLayer) -> Result<bool, StoreError> {
        let dirs = self.layout().snapshot(layer);
        let index = match sys::fs::metadata(&dirs.index()) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let archive = Archive::open(&dirs)?.map(|archive| archive.pieces().size());
        Ok((archive, index) == (Some(row.tar_size), row.index_size))
    }

    /// The packed layers whose files are not what was recorded.
    pub(crate) fn damaged_packed_layers(&self, cancel: &CancelToken) -> Result<Vec<SnapshotId>, StoreError> {
        let mut damaged = Vec::new();
        for (layer, row) in self.db().read("list packed layers", rows::all)? {
            let dirs = self.layout().snapshot(layer);
            let whole = has_archive(&dirs, &row, cancel)?
                && is_file(&dirs.index(), &row.index, row.index_size, cancel)?;
            // What was removed meanwhile is not damaged.
            if !whole && self.db().read("look up a packed layer", |c| rows::get(c, layer))?.is_some() {
                damaged.push(layer);
            }
        }
        Ok(damaged)
    }

    /// Makes the files of a packed layer again that are damaged. `false` when there is nothing to make them of.
    pub(crate) fn mend_packed(&self, layer: SnapshotId) -> Result<bool, StoreError> {
        let Some(mut row) = self.db().read("look up a packed layer", |c| rows::get(c, layer))? else {
            return Ok(false);
        };
        row.checked.clear();
        match self.whole_files(layer, &row) {
            Ok(_) => Ok(true),
            Err(StoreError::PackedDamaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What is held by whoever changes the files of a packed layer.
pub(super) fn mending(layer: SnapshotId) -> Key {
    KeyHasher::new("lapstrake/claim-packed/v1").u64(layer.to_u64()).finish()
}

/// Whether there is a file of this content.
fn is_file(path: &Path, digest: &Digest, size: u64, cancel: &CancelToken) -> Result<bool, StoreError> {
    let mut file = match sys::fs::open(path) {
        Err(error) if error.is_not_found() => return Ok(false),
        file => file?,
    };
    Ok(file.metadata().at("inspect", path)?.len() == size && digest_of(&mut file, path, cancel)? == *digest)
}

/// Whether the archive of a layer is there.
pub(super) fn has_archive(
    dirs: &SnapshotDirs,
    row: &PackedLayer,
    cancel: &CancelToken,
) -> Result<bool, StoreError> {
    let Some(mut archive) = Archive::open(dirs)? else { return Ok(false) };
    Ok(archive.pieces().size() == row.tar_size && digest_of(&mut archive, &dirs.tar(), cancel)? == row.tar)
}

fn digest_of(file: &mut dyn Read, path: &Path, cancel: &CancelToken) -> Result<Digest, StoreError> {
    let mut digester = Digester::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        if cancel.is_cancelled() {
            return Err(StoreError::Cancelled);
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(digester.finish()),
            Ok(length) => digester.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(PathError::new("read", path, error).into()),
        }
    }
}
