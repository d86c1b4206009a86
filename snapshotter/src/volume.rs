//! Volumes: directories with a name, which containers show and which outlive them.
//!
//! What people keep in a volume exists nowhere else, so nothing here removes one but whoever was asked to, and the
//! container that an anonymous one was made for. The row decides: a directory without one is a volume that
//! was not finished or is being removed. The one exception is a directory with a note (`volume.json`), which is written
//! after the row and removed before it: there the row was lost, with the database. [`Store::adopt_volumes`] makes it anew.
//!
//! Which containers show a volume is in rows as well, added and removed with theirs.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use base::{CancelToken, Timestamp};
use serde::{Deserialize, Serialize};
use sys::fs::Durability;
use sys::lock::{FileLock, LockMode};

use crate::copy::{self, CopyError, CopyOptions};
use crate::db::{to_millis, volumes};
use crate::error::StoreError;
use crate::held_dir::HeldDir;
use crate::layout::VolumeDirs;
use crate::select::Selection;
use crate::store::{Store, new_name};
use crate::tree::{Follow, Tree};
use crate::usage::disk_usage;
use crate::writer::{LayerWriter, WriterOptions};

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name, which no other volume has.
    pub name: String,
    /// The name of its directory.
    pub(crate) directory: String,
    /// Whether it was made for one container, without a name that somebody chose.
    pub anonymous: bool,
    /// How it was asked for, as JSON. The store does not look into it.
    pub document: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A volume that is to be.
#[derive(Debug, Clone, Copy)]
pub struct NewVolume<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it is made for one container, and goes with it.
    pub anonymous: bool,
    /// How it was asked for, as JSON.
    pub document: &'a str,
}

/// Volumes that nobody else fills or removes, until dropped. Whoever makes a container holds those that it is going to
/// show until its row is there.
#[derive(Debug)]
pub struct HeldVolumes {
    held: Vec<(Volume, FileLock)>,
}

impl HeldVolumes {
    /// The volumes, by name.
    pub fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.held.iter().map(|(volume, _)| volume)
    }
}

/// What a row says, beside the directory.
#[derive(Serialize, Deserialize)]
struct Note {
    name: String,
    anonymous: bool,
    document: String,
    created: i64,
}

impl Store {
    /// The directory that containers show.
    pub fn volume_path(&self, volume: &Volume) -> PathBuf {
        self.layout().volume(&volume.directory).data()
    }

    /// Makes a volume, or finds the one that has its name. Answers also whether it is new.
    pub fn create_volume(&self, new: &NewVolume<'_>) -> Result<(Volume, bool), StoreError> {
        if let Some(found) = self.volume(new.name)? {
            return Ok((found, false));
        }
        let directory = new_name()?;
        let dirs = self.layout().volume(&directory);
        let held: HeldDir = self.create_held_dir(dirs.top.clone())?;
        sys::fs::create_dir(&dirs.data(), 0o755)?;
        let now = self.now_millis();
        let is_new = self.db().write("add a volume", |c| volumes::insert(c, new, &directory, now))?;
        if !is_new {
            self.discard(&dirs.top)?;
        }
        drop(held);
        let missing = || StoreError::NoSuchVolume { name: new.name.to_owned() };
        let volume = self.volume(new.name)?.ok_or_else(missing)?;
        self.write_note(&volume)?;
        Ok((volume, is_new))
    }

    fn write_note(&self, volume: &Volume) -> Result<(), StoreError> {
        let path = self.layout().volume(&volume.directory).note();
        let Volume { name, anonymous, document, created_at, .. } = volume.clone();
        let note = Note { name, anonymous, document, created: to_millis(created_at) };
        let text = serde_json::to_vec(&note).unwrap_or_default();
        match sys::fs::write_atomic(&path, &text, 0o600, Durability::Cached) {
            // Somebody has removed the volume meanwhile.
            Err(error) if error.is_not_found() => Ok(()),
            written => Ok(written?),
        }
    }

    /// Whether a directory of a volume has a note.
    pub(crate) fn has_note(&self, directory: &OsStr) -> Result<bool, StoreError> {
        let dirs = VolumeDirs { top: self.layout().volumes().join(directory) };
        Ok(sys::fs::exists(&dirs.note())?)
    }

    /// The directories of volumes that have no row because the database was lost.
    pub(crate) fn unlisted_volumes(&self) -> Result<Vec<PathBuf>, StoreError> {
        let names = match sys::fs::list(&self.layout().volumes()) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            names => names?,
        };
        let known = self.volumes()?;
        let is_known = |name: &OsStr| known.iter().any(|volume| volume.directory.as_str() == name);
        let mut unlisted = Vec::new();
        for name in names.iter().filter(|name| !is_known(name)) {
            if self.has_note(name)? {
                unlisted.push(self.layout().volumes().join(name));
            }
        }
        Ok(unlisted)
    }

    /// Makes the rows anew of volumes that have none because the database was lost. One whose name is taken by now gets
    /// a longer one. Answers the names.
    pub fn adopt_volumes(&self) -> Result<Vec<String>, StoreError> {
        let mut adopted = Vec::new();
        for path in self.unlisted_volumes()? {
            if let Some(directory) = path.file_name().and_then(OsStr::to_str) {
                adopted.extend(self.adopt_volume(directory)?);
            }
        }
        Ok(adopted)
    }

    fn adopt_volume(&self, directory: &str) -> Result<Option<String>, StoreError> {
        let bytes = sys::fs::read(&self.layout().volume(directory).note())?;
        let Ok(note) = serde_json::from_slice::<Note>(&bytes) else { return Ok(None) };
        for name in [note.name.clone(), format!("{}-{directory}", note.name)] {
            let new = NewVolume { name: &name, anonymous: note.anonymous, document: &note.document };
            if self.db().write("adopt a volume", |c| volumes::insert(c, &new, directory, note.created))? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Every volume, by name.
    pub fn volumes(&self) -> Result<Vec<Volume>, StoreError> {
        Ok(self.db().read("list volumes", volumes::all)?)
    }

    /// The volume with this name.
    pub fn volume(&self, name: &str) -> Result<Option<Volume>, StoreError> {
        Ok(self.db().read("look up a volume", |c| volumes::get(c, name))?)
    }

    /// The ids of the containers that show a volume, running or not.
    pub fn volume_users(&self, name: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.db().read("look up who uses a volume", |c| volumes::users(c, name))?)
    }

    /// How much disk a volume takes, in bytes. One that is removed meanwhile takes nothing.
    pub fn volume_size(&self, volume: &Volume) -> Result<u64, StoreError> {
        match disk_usage(&self.layout().volume(&volume.directory).top) {
            Err(error) if error.is_not_found() => Ok(0),
            size => Ok(size?),
        }
    }

    /// Holds the volumes with these names; waits for whoever holds one.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVolume`].
    pub fn hold_volumes(&self, names: &[String]) -> Result<HeldVolumes, StoreError> {
        let mut names: Vec<&String> = names.iter().collect();
        // All have the same order, so that no two wait for each other.
        names.sort_unstable();
        names.dedup();
        let held = names.into_iter().map(|name| self.hold_volume(name)).collect::<Result<_, _>>()?;
        Ok(HeldVolumes { held })
    }

    fn hold_volume(&self, name: &str) -> Result<(Volume, FileLock), StoreError> {
        let missing = || StoreError::NoSuchVolume { name: name.to_owned() };
        let volume = self.volume(name)?.ok_or_else(missing)?;
        let dirs = self.layout().volume(&volume.directory);
        // A machine that went down may have lost directories whose rows were written.
        sys::fs::create_dir_all(&dirs.top, 0o700)?;
        let lock = FileLock::acquire(&dirs.lock(), LockMode::Exclusive)?;
        // It may have been removed while we waited.
        if self.volume(name)?.as_ref() != Some(&volume) {
            return Err(missing());
        }
        sys::fs::create_dir_all(&dirs.data(), 0o755)?;
        Ok((volume, lock))
    }

    /// Fills a volume that is empty with what `tree` has at `path`: the directory's content, owner and mode. Does nothing when there is no
    /// such directory. A volume that no container shows yet is filled wholly or not at all.
    ///
    /// # Errors
    /// [`StoreError::FillVolume`], [`StoreError::Cancelled`].
    pub fn fill_volume(
        &self,
        volume: &Volume,
        _held: &HeldVolumes,
        tree: &Tree,
        path: &str,
        cancel: &CancelToken,
    ) -> Result<(), StoreError> {
        let dirs = self.layout().volume(&volume.directory);
        if !sys::fs::list(&dirs.data())?.is_empty() {
            return Ok(());
        }
        let failed =
            |source| StoreError::FillVolume { name: volume.name.clone(), path: path.to_owned(), source };
        // Who shows it already would not see another directory.
        let in_place = !self.volume_users(&volume.name)?.is_empty();
        let target = if in_place { dirs.data() } else { dirs.filling() };
        sys::fs::remove_tree(&dirs.filling())?;
        sys::fs::create_dir_all(&target, 0o755)?;
        match copy_directory(tree, path, &target, self.now(), cancel) {
            Ok(_) if in_place => Ok(()),
            Ok(true) => Ok(sys::fs::rename(&target, &dirs.data())?),
            Ok(false) => Ok(sys::fs::remove_tree(&target).map(|_| ())?),
            Err(_) if cancel.is_cancelled() => Err(StoreError::Cancelled),
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes a volume with all that is in it.
    ///
    /// # Errors
    /// [`StoreError::NoSuchVolume`], [`StoreError::VolumeInUse`].
    pub fn remove_volume(&self, name: &str) -> Result<(), StoreError> {
        let missing = || StoreError::NoSuchVolume { name: name.to_owned() };
        let in_use = |containers| StoreError::VolumeInUse { name: name.to_owned(), containers };
        let volume = self.volume(name)?.ok_or_else(missing)?;
        let dirs = self.layout().volume(&volume.directory);
        sys::fs::create_dir_all(&dirs.top, 0o700)?;
        let lock = FileLock::try_acquire(&dirs.lock(), LockMode::Exclusive)?;
        let Some(_lock) = lock else { return Err(in_use(self.volume_users(name)?)) };
        let users = self.volume_users(name)?;
        if !users.is_empty() {
            return Err(in_use(users));
        }
        // Without a note first, and without a row then: so it is never taken for one whose row was lost.
        sys::fs::remove_file(&dirs.note())?;
        self.db().write("remove a volume", |c| match volumes::users(c, name)? {
            users if users.is_empty() => volumes::delete(c, name).map(|_| Ok(())),
            users => Ok(Err(in_use(users))),
        })??;
        self.discard(&dirs.top)?;
        Ok(())
    }
}

/// Copies the content, the owner and the mode of a directory of a tree into an empty one. `false` when it is none.
fn copy_directory(
    tree: &Tree,
    path: &str,
    target: &Path,
    time: Timestamp,
    cancel: &CancelToken,
) -> Result<bool, CopyError> {
    let found = tree.lookup(path, Follow::Last)?.filter(|entry| entry.is_dir());
    let Some(directory) = found else { return Ok(false) };
    let Some(content) = Selection::of_directory(tree, Path::new(path))? else { return Ok(false) };
    let writer = LayerWriter::new(target, None, WriterOptions { full_copy: true, userxattr: false, time })?;
    copy::copy(&writer, tree, &content, &CopyOptions::as_it_is(), cancel)?;
    let (root, stat) = (sys::fs::open(target)?, directory.stat());
    sys::rootdir::set_owner_of(root.as_fd(), target, stat.uid, stat.gid)?;
    sys::rootdir::set_mode_of(root.as_fd(), target, stat.mode & 0o7777)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
