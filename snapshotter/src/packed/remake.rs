//! Makes the archive of a packed layer again of the blob that it came as.
//!
//! A layer that shares has only a part of it in its own file, and other layers may have pieces of that file. So it is written again with
//! everything where it was, or, if the list that says where is lost or a layer that it needs, as a whole: then nobody else may need
//! it, and nobody may begin to.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use base::CancelToken;
use base::digest::Digester;
use sys::fs::PathContext as _;

use super::Archive;
use super::files::kept_pieces;
use super::mend::{Mending, has_archive, mending};
use super::pieces::Pieces;
use crate::apply::read_ahead::BUFFER;
use crate::compress;
use crate::db::layers;
use crate::db::packed::{self as rows, PackedLayer};
use crate::error::StoreError;
use crate::layout::SnapshotDirs;
use crate::snapshot::SnapshotId;
use crate::store::Store;

impl Store {
    /// Makes the archive of a damaged layer right, whose claim is held. Gives its row as it is then.
    pub(super) fn make_archive(
        &self,
        layer: SnapshotId,
        dirs: &SnapshotDirs,
        row: &PackedLayer,
        wanted: Mending,
    ) -> Result<PackedLayer, StoreError> {
        let cancel = CancelToken::new();
        if wanted == Mending::Nothing {
            return Err(damaged(dirs));
        }
        let parts = self.db().read("look up what a layer needs", |c| rows::parts_of(c, layer))?;
        if parts.is_empty() {
            // There is no such list. One that somebody left has no meaning.
            if sys::fs::exists(&dirs.pieces())? {
                sys::fs::remove_tree(&dirs.pieces())?;
                if has_archive(dirs, row, &cancel)? {
                    return Ok(row.clone());
                }
            }
            self.make_tar(layer, dirs, row, &Pieces::whole(row.tar_size))?;
            return Ok(row.clone());
        }
        // What is damaged may be what another layer holds of it. It needs all that those need, so each is looked at once, the lowest
        // first.
        for part in parts.into_iter().filter(|_| wanted == Mending::All) {
            if let Some(row) = self.db().read("look up a packed layer", |c| rows::get(c, part))? {
                match self.checked_files(part, &row, Mending::Own) {
                    Err(StoreError::PackedDamaged { .. }) => {}
                    mended => drop(mended?),
                }
            }
        }
        if has_archive(dirs, row, &cancel)? {
            return Ok(row.clone());
        }
        let pieces = row.pieces.map(|digest| kept_pieces(dirs, &digest)).transpose()?.flatten();
        if let Some(pieces) = pieces.filter(|pieces| pieces.size() == row.tar_size) {
            self.make_tar(layer, dirs, row, &pieces)?;
            if has_archive(dirs, row, &cancel)? {
                return Ok(row.clone());
            }
        }
        self.make_whole(layer, dirs, row, self.plain_blob(layer, dirs)?)
    }

    /// Makes the file with the archive again, or what of it lies in that.
    fn make_tar(
        &self,
        layer: SnapshotId,
        dirs: &SnapshotDirs,
        row: &PackedLayer,
        pieces: &Pieces,
    ) -> Result<(), StoreError> {
        let blob = self.plain_blob(layer, dirs)?;
        self.replace(&dirs.tar(), |file, path| write_tar(blob, dirs, row, pieces, file, path))
    }

    /// Makes the archive one file, of a layer that nobody needs. Whoever dies here leaves what is made again: a file with another layout is only there
    /// when nothing is that says where things were.
    fn make_whole(
        &self,
        layer: SnapshotId,
        dirs: &SnapshotDirs,
        row: &PackedLayer,
        plain: Box<dyn Read>,
    ) -> Result<PackedLayer, StoreError> {
        let whole = PackedLayer { contents: None, pieces: None, checked: String::new(), ..row.clone() };
        self.replace(&dirs.tar(), |file, path| {
            write_tar(plain, dirs, row, &Pieces::whole(row.tar_size), file, path)?;
            file.sync_all().at("sync", path)?;
            // Who shares with a layer finds its list again when he commits.
            let is_free = self.db().write_durably("record a packed layer", |c| {
                let is_free = rows::get(c, layer)?.is_some() && rows::users_of(c, layer)?.is_empty();
                if is_free {
                    rows::put(c, layer, &whole)?;
                }
                Ok(is_free)
            })?;
            if !is_free {
                return Err(damaged(dirs));
            }
            for path in [dirs.contents(), dirs.index(), dirs.pieces()] {
                sys::fs::remove_tree(&path)?;
            }
            Ok(sys::fs::sync_dir(&dirs.top)?)
        })?;
        Ok(whole)
    }

    /// The archive as it comes of its blob.
    fn plain_blob(&self, layer: SnapshotId, dirs: &SnapshotDirs) -> Result<Box<dyn Read>, StoreError> {
        let original = self.db().read("look up a layer", |c| layers::get(c, layer, layers::ORIGINAL))?;
        let blob = match self.open_blob(&original.ok_or_else(|| damaged(dirs))?.descriptor.digest) {
            Err(StoreError::NoSuchBlob { .. } | StoreError::BlobDamaged { .. }) => return Err(damaged(dirs)),
            Err(StoreError::File(error)) if error.is_not_found() => return Err(damaged(dirs)),
            blob => blob?,
        };
        Ok(Box::new(compress::decompressor(blob).map_err(|_| damaged(dirs))?))
    }

    /// Makes the layers whole that need the archive of one that is lost, where that can be done.
    ///
    /// # Errors
    /// [`StoreError::Cancelled`]; the database. What else is wrong with a layer leaves it as it is.
    pub(crate) fn detach_users(&self, lost: SnapshotId) -> Result<(), StoreError> {
        let users = self.db().read("look up who needs a layer", |c| rows::users_of(c, lost))?;
        // Whoever needs another one of them comes first.
        for user in users.into_iter().rev() {
            match self.detach(user) {
                Err(error @ (StoreError::Database(_) | StoreError::Cancelled)) => return Err(error),
                _ => continue,
            }
        }
        Ok(())
    }

    fn detach(&self, user: SnapshotId) -> Result<(), StoreError> {
        let alone = self.claim(&mending(user), &CancelToken::new())?;
        let Some(row) = self.db().read("look up a packed layer", |c| rows::get(c, user))? else {
            return Ok(());
        };
        let dirs = self.layout().snapshot(user);
        // What it uses may be whole.
        let plain: Box<dyn Read> = match Archive::open(&dirs)? {
            Some(archive) if has_archive(&dirs, &row, &CancelToken::new())? => Box::new(archive),
            _ => self.plain_blob(user, &dirs)?,
        };
        self.make_whole(user, &dirs, &row, plain)?;
        drop(alone);
        self.mend_packed(user).map(drop)
    }
}

/// Writes what of an archive is in a layer's own file.
fn write_tar(
    mut plain: Box<dyn Read>,
    dirs: &SnapshotDirs,
    row: &PackedLayer,
    pieces: &Pieces,
    file: &File,
    path: &Path,
) -> Result<(), StoreError> {
    let mut digester = Digester::new();
    let mut buffer = vec![0; BUFFER];
    // The length is known, so a bad blob fills no disk.
    for (length, own) in pieces.own() {
        let mut done = 0;
        while done < length {
            let most = (length - done).min(BUFFER as u64) as usize;
            let bytes = &mut buffer[..most];
            plain.read_exact(bytes).map_err(|_| damaged(dirs))?;
            digester.update(bytes);
            if let Some(own) = own {
                file.write_all_at(bytes, own + done).at("write", path)?;
            }
            done += most as u64;
        }
    }
    if digester.finish() == row.tar { Ok(()) } else { Err(damaged(dirs)) }
}

fn damaged(dirs: &SnapshotDirs) -> StoreError {
    StoreError::PackedDamaged { path: dirs.top.clone() }
}
