//! Another form for layers that are there, when somebody asks for it.
//!
//! Rows decide which form a layer has. The new form is made aside and put beside the old one, the row is changed, and then
//! the old one goes. Whoever is killed in between leaves the place where it worked, with a note of the layer, and the next
//! collection takes away the form that is not the row's.
//!
//! **Directories go only when nobody uses them.** Who has a packed layer mounted keeps it when its files go; a directory is used
//! by its name, and by overlays that would lose its files. Its users are those that the collector knows: live leases and
//! containers whose snapshots are on top of it. The row changes in the transaction that finds none, so who comes later
//! sees the packed layer. One that has looked at the place before that still finds the directory there; so it is moved away
//! first, then it is looked for users again, and if there are some it comes back, to go another time.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use base::digest::Digester;
use base::{CancelToken, Digest};
use sys::fs::PathContext as _;
use sys::lock::FileLock;
use sys::rootdir::{self, RootDir};
use sys::stat::Kind;

use super::contents::{Record, Writer};
use super::copied::write_new;
use super::mend::mending;
use super::{Files, Hashed, Pieces};
use crate::apply::packed::{self, Packed};
use crate::apply::read_ahead::BUFFER;
use crate::apply::{ApplyError, ApplyOptions};
use crate::db::packed::{self as rows, PackedLayer};
use crate::db::{layers, sharing, snapshots};
use crate::diff::{self, DiffError, DiffOptions};
use crate::erofs::{NodeId, ROOT, Tree};
use crate::error::StoreError;
use crate::layout::SnapshotDirs;
use crate::lease::Lease;
use crate::snapshot::{SnapshotId, remember_archive};
use crate::store::Store;
use crate::tar_entry::Mtime;

/// The file in a place where a layer is given another form that says which one.
const NOTE: &str = "layer";

/// What the directory of a layer is called there before it is removed.
const GONE: &str = "gone";

/// The form that a layer is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConvertTo {
    /// A directory.
    Dir,
    /// An archive and its index.
    Packed,
}

/// What became of a layer that was to have another form.
#[derive(Debug)]
pub enum Converted {
    /// It has that now.
    Done,
    /// It had that already.
    Already,
    /// It stays as it is.
    Kept(Kept),
    /// It was removed meanwhile.
    Gone,
}

/// Why a layer stays in the form that it has.
#[derive(Debug, thiserror::Error)]
pub enum Kept {
    /// It is part of the files of a container that runs.
    #[error("container {name} uses it")]
    Container {
        /// The container's name.
        name: String,
    },
    /// Its archive was shared before it became a directory, and is still needed as it was.
    #[error("other layers need the archive that it was")]
    Part,
    /// A build or another command needs it.
    #[error("another process uses it")]
    Process,
    /// An index cannot express it.
    #[error(transparent)]
    Unfit(Box<ApplyError>),
    /// It is more than an index can count.
    #[error("it is more than an index can count")]
    Index,
    /// An archive cannot express it.
    #[error(transparent)]
    Archive(Box<DiffError>),
    /// It has sockets, which archives of layers leave out.
    #[error("it has sockets, which an archive cannot hold")]
    Sockets,
    /// It came as an archive that is not in the store any more, and its files make another.
    #[error(
        "the blob that it came as, of the layer {layer}, is not in the store any more, and its files give another archive"
    )]
    Original {
        /// The digest that it has.
        layer: Digest,
    },
    /// It is also on top of other layers than those that it was made on, of which it may repeat files.
    #[error("it is used on top of other layers as well")]
    Shared,
    /// There is nothing to make its files of again.
    #[error(transparent)]
    Damaged(Box<StoreError>),
}

/// Who might use a layer, and does not.
type Idle = Vec<String>;

/// What was made aside, or why nothing was.
pub(super) type Made<T> = Result<T, Kept>;

/// What an archive is that was written: its tree, what its files hold, and its digest.
pub(super) type Archived = (Tree, Vec<Record>, Digest);

impl Store {
    /// All layers, the lowest first, each by the snapshot that it is kept with.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn all_layers(&self) -> Result<Vec<SnapshotId>, StoreError> {
        let rows = self.db().read("list snapshots", snapshots::all)?;
        Ok(rows.iter().filter(|row| !row.active && row.layer.is_none()).map(|row| row.id).collect())
    }

    /// The layers that a snapshot consists of, in the same way.
    ///
    /// # Errors
    /// [`StoreError::NoSuchSnapshot`].
    pub fn layers_of(&self, id: SnapshotId) -> Result<Vec<SnapshotId>, StoreError> {
        Ok(self.read_chain(id)?.iter().rev().map(|link| link.layer).collect())
    }

    /// Gives a layer that form. Its files, digest and keys stay as they are, and so does what others see of it who use it.
    ///
    /// # Errors
    /// [`StoreError::CannotPack`] where nothing can be packed; [`StoreError::Cancelled`]; what files and database say.
    pub fn convert_layer(
        &self,
        layer: SnapshotId,
        to: ConvertTo,
        cancel: &CancelToken,
    ) -> Result<Converted, StoreError> {
        let converted = match to {
            ConvertTo::Dir => self.convert_to_dir(layer),
            ConvertTo::Packed => self.convert_to_packed(layer, cancel),
        };
        match converted {
            Err(StoreError::NoSuchSnapshot { .. }) => Ok(Converted::Gone),
            Err(error @ StoreError::PackedDamaged { .. }) => {
                Ok(Converted::Kept(Kept::Damaged(Box::new(error))))
            }
            converted => converted,
        }
    }

    fn convert_to_dir(&self, layer: SnapshotId) -> Result<Converted, StoreError> {
        let row = self.db().read("look up a packed layer", |c| rows::get(c, layer))?;
        let Some(row) = row else { return Ok(Converted::Already) };
        let Some(files) = self.whole_files(layer, &row)? else { return Ok(Converted::Already) };
        self.unpack_packed(layer, &files)?;
        Ok(Converted::Done)
    }

    fn convert_to_packed(&self, layer: SnapshotId, cancel: &CancelToken) -> Result<Converted, StoreError> {
        if let Err(obstacle) = self.way()? {
            return Err(StoreError::CannotPack { reason: obstacle.to_string() });
        }
        let _alone = self.claim(&mending(layer), cancel)?;
        if self.db().read("look up a packed layer", |c| rows::get(c, layer))?.is_some() {
            return Ok(Converted::Already);
        }
        // Nobody begins to need that of a directory.
        if !self.db().read("look up who needs a layer", |c| rows::users_of(c, layer))?.is_empty() {
            return Ok(Converted::Kept(Kept::Part));
        }
        let (lease, aside) = self.place_for(layer)?;
        let held = self.hold(&lease, layer);
        let packed = held.and_then(|()| self.pack_aside(layer, &aside, &lease, cancel));
        let settled = self.leave_place(layer, &aside, lease.id());
        packed.and_then(|converted| settled.map(|()| converted))
    }

    /// Makes the files of a packed layer, and changes the row.
    fn pack_aside(
        &self,
        layer: SnapshotId,
        aside: &SnapshotDirs,
        lease: &Lease,
        cancel: &CancelToken,
    ) -> Result<Converted, StoreError> {
        let idle = match self.users_of(layer, lease.id())? {
            Ok(idle) => idle,
            Err(kept) => return Ok(Converted::Kept(kept)),
        };
        let mut row = match self.make_packed(layer, aside, cancel)? {
            Ok(row) => row,
            Err(kept) => return Ok(Converted::Kept(kept)),
        };
        let dirs = self.layout().snapshot(layer);
        // What the layer had when it was packed before, and somebody left who was killed.
        dirs.beside_tar().iter().try_for_each(|path| sys::fs::remove_tree(path).map(drop))?;
        sys::fs::sync_dir(&dirs.top)?;
        sys::fs::rename(&aside.tar(), &dirs.tar())?;
        sys::fs::rename(&aside.index(), &dirs.index())?;
        sys::fs::rename(&aside.contents(), &dirs.contents())?;
        sys::fs::sync_filesystem(self.root())?;
        if let Some(files) = Files::open(&dirs)? {
            row.checked = files.identity(&dirs, &self.boot()?)?;
        }
        self.record_packed(layer, &row, &idle, lease.id())
    }

    fn record_packed(
        &self,
        layer: SnapshotId,
        row: &PackedLayer,
        idle: &Idle,
        own: &str,
    ) -> Result<Converted, StoreError> {
        Ok(self.db().write_durably("record a packed layer", |c| {
            if !snapshots::is_committed(c, layer)? {
                return Ok(Converted::Gone);
            }
            let users = sharing::owners_above(c, layer)?;
            if users.iter().any(|user| user != own && !idle.contains(user)) {
                return Ok(Converted::Kept(Kept::Process));
            }
            rows::put(c, layer, row)?;
            snapshots::forget_size(c, layer)?;
            if layers::get(c, layer, layers::ORIGINAL)?.is_none() {
                remember_archive(c, layer, row)?;
                let users = sharing::users(c, layer)?;
                users.iter().try_for_each(|id| snapshots::learn_diff_id(c, *id, &row.tar, row.tar_size))?;
            }
            Ok(Converted::Done)
        })?)
    }

    /// The files of a packed layer that is what the directory of `layer` is.
    fn make_packed(
        &self,
        layer: SnapshotId,
        aside: &SnapshotDirs,
        cancel: &CancelToken,
    ) -> Result<Made<PackedLayer>, StoreError> {
        let options = self.options_of(layer)?;
        let original = self.db().read("look up a layer", |c| layers::get(c, layer, layers::ORIGINAL))?;
        let blob = original.as_ref().map(|original| self.open_blob(&original.descriptor.digest)).transpose();
        let tar = sys::fs::create_new(&aside.tar(), 0o400)?;
        let made = match (blob, &original) {
            (Ok(Some(blob)), Some(original)) => {
                let diff_id = original.diff_id;
                match packed::pack_blob(blob, Some(diff_id), &tar, &options, cancel) {
                    Ok(Packed { tree, records, diff_id, .. }) => Ok((tree, records, diff_id)),
                    Err(error) => Err(self.unfit(layer, diff_id, error)?),
                }
            }
            (Ok(_) | Err(StoreError::NoSuchBlob { .. }), _) => {
                self.write_archive(layer, &tar, aside, &options, cancel)?
            }
            (Err(error), _) => return Err(error),
        };
        match made {
            Ok(made) => self.finish_archive(aside, &tar, &made),
            Err(kept) => Ok(Err(kept)),
        }
    }

    /// The archive of the directory of a layer that is there.
    fn write_archive(
        &self,
        layer: SnapshotId,
        tar: &File,
        aside: &SnapshotDirs,
        options: &ApplyOptions,
        cancel: &CancelToken,
    ) -> Result<Made<Archived>, StoreError> {
        let info = self.snapshot_info(layer)?;
        let users = self.db().read("look up who shares a layer", |c| sharing::users(c, layer))?;
        if users.len() > 1 && info.parent.is_some() {
            return Ok(Err(Kept::Shared));
        }
        let root = self.layout().snapshot(layer).fs();
        let made = self.archive_directory(layer, &root, tar, aside, options, cancel)?;
        Ok(made.and_then(|made| match info.diff_id.filter(|known| *known != made.2) {
            Some(known) => Err(Kept::Original { layer: known }),
            None => Ok(made),
        }))
    }

    /// Writes the archive of the directory `root` of a layer to `tar`, which is that of `aside`: the same that is exported.
    pub(super) fn archive_directory(
        &self,
        layer: SnapshotId,
        root: &Path,
        tar: &File,
        aside: &SnapshotDirs,
        options: &ApplyOptions,
        cancel: &CancelToken,
    ) -> Result<Made<Archived>, StoreError> {
        let out = BufWriter::with_capacity(BUFFER, tar);
        let mut out = Hashed { out, digest: Digester::new(), size: 0 };
        let source = self.driver()?.layer_source(root, &options.lower);
        match diff::write_layer(source, DiffOptions::default(), &mut out, cancel) {
            Ok(stats) if stats.skipped_sockets > 0 => return Ok(Err(Kept::Sockets)),
            Ok(_) => {}
            Err(DiffError::Cancelled) => return Err(StoreError::Cancelled),
            Err(error @ (DiffError::Reserved { .. } | DiffError::Incomplete { .. })) => {
                return Ok(Err(Kept::Archive(Box::new(error))));
            }
            Err(source) => return Err(StoreError::Diff { id: layer, source }),
        }
        out.flush().at("write", &aside.tar())?;
        let diff_id = out.digest.finish();
        let archive = BufReader::with_capacity(BUFFER, sys::fs::open(&aside.tar())?);
        match packed::index_of(archive, options, cancel) {
            Ok((mut tree, records)) => {
                take_attributes(&mut tree, &RootDir::open(root)?)?;
                Ok(Ok((tree, records, diff_id)))
            }
            Err(error) => self.unfit(layer, diff_id, error).map(Err),
        }
    }

    /// Writes index and list of an archive that is there.
    pub(super) fn finish_archive(
        &self,
        dirs: &SnapshotDirs,
        tar: &File,
        (tree, records, diff_id): &Archived,
    ) -> Result<Made<PackedLayer>, StoreError> {
        let size = tar.metadata().at("inspect", &dirs.tar())?.len();
        let Some(row) = self.write_index(dirs, tree, *diff_id, &Pieces::whole(size))? else {
            return Ok(Err(Kept::Index));
        };
        let list = Writer::list(records);
        write_new(&dirs.contents(), &list)?;
        Ok(Ok(PackedLayer { contents: Some(Digest::of(&list)), ..row }))
    }

    /// What it means that the archive of a layer, with this digest, has no index.
    fn unfit(&self, layer: SnapshotId, tar: Digest, error: ApplyError) -> Result<Kept, StoreError> {
        match error {
            ApplyError::Cancelled => Err(StoreError::Cancelled),
            error @ ApplyError::Unfit { .. } => Ok(Kept::Unfit(Box::new(error))),
            error => Err(self.failed(layer, tar, error)),
        }
    }

    /// Moves the directory of a layer that is packed by now to where it is removed, unless somebody has begun to use it.
    fn take_directory_away(&self, layer: SnapshotId, aside: &Path, own: &str) -> Result<bool, StoreError> {
        let (fs, gone) = (self.layout().snapshot(layer).fs(), aside.join(GONE));
        sys::fs::rename(&fs, &gone)?;
        if self.users_of(layer, own)?.is_err() {
            sys::fs::rename(&gone, &fs)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// A place to give a layer another form, which is looked at again if this process dies.
    pub(super) fn place_for(&self, layer: SnapshotId) -> Result<(Lease, SnapshotDirs), StoreError> {
        let (lease, top) = self.scratch_path()?;
        sys::fs::create_dir(&top, 0o700)?;
        let note = top.join(NOTE);
        let written = sys::fs::create_new(&note, 0o600)
            .and_then(|mut file| file.write_all(layer.to_string().as_bytes()).at("write", &note));
        if let Err(error) = written {
            sys::fs::remove_tree(&top)?;
            return Err(error.into());
        }
        Ok((lease, SnapshotDirs { top }))
    }

    /// Takes away the form that is not the row's, and the place, unless the former has to stay for now.
    pub(super) fn leave_place(
        &self,
        layer: SnapshotId,
        aside: &SnapshotDirs,
        own: &str,
    ) -> Result<(), StoreError> {
        if self.settle(layer, &aside.top, own)? {
            sys::fs::remove_tree(&aside.top)?;
        }
        Ok(())
    }

    /// Finishes what somebody began at such a place, who is dead by now. Whether nothing is left to be done.
    pub(crate) fn finish_conversion(&self, aside: &Path) -> Result<bool, StoreError> {
        // Else something else was made there.
        let Ok(note) = sys::fs::read(&aside.join(NOTE)) else { return Ok(true) };
        let Ok(number) = String::from_utf8_lossy(&note).parse() else { return Ok(true) };
        let layer = SnapshotId::from_row(number);
        // Whoever has it is at work on the same layer.
        let Some(_alone) = self.try_claim(&mending(layer))? else { return Ok(false) };
        self.settle(layer, aside, "")
    }

    /// Takes away the form of a layer that is not the row's. Whether none is left.
    fn settle(&self, layer: SnapshotId, aside: &Path, own: &str) -> Result<bool, StoreError> {
        let dirs = self.layout().snapshot(layer);
        let (is_there, is_packed, is_needed) =
            self.db().read_consistently("look up a packed layer", |c| {
                let is_needed = !rows::users_of(c, layer)?.is_empty();
                Ok((snapshots::is_committed(c, layer)?, rows::get(c, layer)?.is_some(), is_needed))
            })?;
        // Without a row all of it is garbage.
        if is_there && !is_packed {
            // The archive stays for those layers that need it.
            let tar = (!is_needed).then(|| dirs.tar());
            for file in tar.into_iter().chain(dirs.beside_tar()) {
                sys::fs::remove_tree(&file)?;
            }
        }
        if !is_there || !is_packed || !sys::fs::exists(&dirs.fs())? {
            return Ok(true);
        }
        Ok(self.users_of(layer, own)?.is_ok() && self.take_directory_away(layer, aside, own)?)
    }

    /// Who might use a layer and does not; or who does, `own` apart.
    fn users_of(&self, layer: SnapshotId, own: &str) -> Result<Made<Idle>, StoreError> {
        let users = self.db().read("look up who uses a layer", |c| sharing::owners_above(c, layer))?;
        for user in users.iter().filter(|user| *user != own) {
            match self.container(user)? {
                Some(container) if FileLock::is_held(&self.layout().container_lock(user))? => {
                    return Ok(Err(Kept::Container { name: container.name }));
                }
                Some(_) => {}
                None if self.is_lease_live(user)? => return Ok(Err(Kept::Process)),
                None => {}
            }
        }
        Ok(Ok(users))
    }
}

/// Gives what is in an index the times that it has in the directory, and the root the rest too: an archive has whole seconds, and no
/// entry for the root. A layer on top that repeats a file is then still found to repeat it.
fn take_attributes(tree: &mut Tree, root: &RootDir) -> Result<(), StoreError> {
    let stat = rootdir::stat_of(root, root.path())?;
    let attributes = tree.attributes_mut(ROOT);
    (attributes.mode, attributes.uid, attributes.gid) = (stat.mode, stat.uid, stat.gid);
    attributes.mtime = Mtime { seconds: stat.mtime.seconds, nanos: stat.mtime.nanoseconds };
    let mut open: Vec<(NodeId, PathBuf)> = vec![(ROOT, PathBuf::new())];
    while let Some((node, path)) = open.pop() {
        let directory = if path.as_os_str().is_empty() { root.open_dir(".")? } else { root.open_dir(&path)? };
        for (name, _) in directory.names()? {
            let Some(child) = tree.child(node, name.as_bytes()) else { continue };
            let Some(stat) = directory.stat(&name)? else { continue };
            tree.attributes_mut(child).mtime =
                Mtime { seconds: stat.mtime.seconds, nanos: stat.mtime.nanoseconds };
            if stat.kind == Kind::Directory && tree.is_directory(child) {
                open.push((child, path.join(&name)));
            }
        }
    }
    Ok(())
}

/// Gives what was unpacked the times that it has in the index, where those are known to fractions of a second.
pub(super) fn take_times(from: &RootDir, to: &RootDir) -> Result<(), StoreError> {
    let mut open = vec![PathBuf::from(".")];
    while let Some(path) = open.pop() {
        let (here, there) = (from.open_dir(&path)?, to.open_dir(&path)?);
        for (name, _) in here.names()? {
            let name: &OsStr = &name;
            let (Some(known), Some(made)) = (here.stat(name)?, there.stat(name)?) else { continue };
            if known.mtime != made.mtime && known.mtime.seconds == made.mtime.seconds {
                there.set_times(name, known.mtime)?;
            }
            if known.kind == Kind::Directory && made.kind == Kind::Directory {
                open.push(path.join(name));
            }
        }
    }
    Ok(())
}
