//! Containers: a row with a name for each, the snapshot that it writes to, and a directory for what runs it.
//!
//! The store does not know what is in that directory, but for a lock: whoever makes, runs or removes the
//! container holds it. It is made before the row and removed after it; without a row and a holder of its
//! lock it is garbage. What the container writes to is made after the row, under that lock ([`making`]).

mod changes;
mod making;

use std::path::PathBuf;

use base::{Digest, Timestamp};
pub use making::{NewContainer, UnfinishedContainer};
use sys::lock::{FileLock, LockMode};

use crate::apply::Layering;
use crate::db::{containers, snapshots, volumes};
use crate::error::StoreError;
use crate::held_dir::HeldDir;
use crate::snapshot::SnapshotId;
use crate::store::Store;

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    /// 64 hex digits.
    pub id: String,
    /// Its name, which no other container has.
    pub name: String,
    /// The id of its image.
    pub image: Digest,
    /// What it writes to.
    pub snapshot: SnapshotId,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Store {
    /// Where the directory of a container is.
    pub fn container_path(&self, id: &str) -> PathBuf {
        self.layout().container(id)
    }

    /// Makes the directory of a new container. It is garbage until [`begin_container`](Self::begin_container).
    pub fn create_container_dir(&self, id: &str) -> Result<HeldDir, StoreError> {
        self.create_held_dir(self.layout().container(id))
    }

    /// The directory of a container that nobody makes, runs or removes now; `None` when somebody does.
    ///
    /// # Errors
    /// [`StoreError::NoSuchContainer`].
    pub fn lock_container(&self, id: &str) -> Result<Option<HeldDir>, StoreError> {
        match FileLock::try_acquire(&self.layout().container_lock(id), LockMode::Exclusive) {
            Ok(lock) => Ok(lock.map(HeldDir::of_lock)),
            Err(error) if error.is_not_found() => Err(StoreError::NoSuchContainer { id: id.to_owned() }),
            Err(error) => Err(error.into()),
        }
    }

    /// The same, waiting for somebody who is about to let go of it.
    ///
    /// # Errors
    /// [`StoreError::NoSuchContainer`].
    pub fn wait_for_container(&self, id: &str) -> Result<HeldDir, StoreError> {
        match FileLock::acquire(&self.layout().container_lock(id), LockMode::Exclusive) {
            Ok(lock) => Ok(HeldDir::of_lock(lock)),
            Err(error) if error.is_not_found() => Err(StoreError::NoSuchContainer { id: id.to_owned() }),
            Err(error) => Err(error.into()),
        }
    }

    /// The directories that make up the files of a container, topmost first, for a merged view in user space.
    ///
    /// # Errors
    /// [`StoreError::NoSuchContainer`].
    pub fn container_view(&self, id: &str) -> Result<Vec<PathBuf>, StoreError> {
        let missing = || StoreError::NoSuchContainer { id: id.to_owned() };
        let record = self.container(id)?.ok_or_else(missing)?;
        let own = self.layout().snapshot(record.snapshot).fs();
        let parent = self.db().read("look up a snapshot", |c| snapshots::parent(c, record.snapshot))?;
        let Some(parent) = parent else { return Ok(vec![own]) };
        if self.driver()?.layering(true) == Layering::Flat {
            return Ok(vec![own]);
        }
        let below = self.view_dirs(parent)?;
        Ok(std::iter::once(own).chain(below).collect())
    }

    /// Looks whether the layers that a container stands on and shows are what they were. To be done before whoever runs it
    /// mounts them.
    ///
    /// # Errors
    /// [`StoreError::PackedDamaged`].
    pub fn check_container_layers(&self, record: &ContainerRecord) -> Result<(), StoreError> {
        let images = self.db().read("look up a container", |c| containers::images_of(c, &record.id))?;
        let mut below = images.into_iter().chain(self.container_base(record)?);
        below.try_for_each(|id| self.view_dirs(id).map(drop))
    }

    /// Every container, the newest first.
    pub fn containers(&self) -> Result<Vec<ContainerRecord>, StoreError> {
        Ok(self.db().read("list containers", containers::all)?)
    }

    /// The container with this id.
    pub fn container(&self, id: &str) -> Result<Option<ContainerRecord>, StoreError> {
        Ok(self.db().read("look up a container", |c| containers::get(c, id))?)
    }

    /// The container with this name.
    pub fn container_named(&self, name: &str) -> Result<Option<ContainerRecord>, StoreError> {
        Ok(self.db().read("look up a container", |c| containers::named(c, name))?)
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// [`StoreError::ContainerNameTaken`].
    pub fn rename_container(&self, id: &str, name: &str) -> Result<(), StoreError> {
        self.db().write("rename a container", |c| match containers::named(c, name)? {
            Some(other) if other.id != id => {
                Ok(Err(StoreError::ContainerNameTaken { name: name.to_owned(), id: other.id }))
            }
            _ => containers::rename(c, id, name).map(Ok),
        })?
    }

    /// Removes a container with all that it wrote, and with `volumes` the anonymous volumes that no other container
    /// shows. Nobody else may use it, which `dir` shows. Answers the names of those volumes.
    pub fn remove_container(
        &self,
        record: &ContainerRecord,
        dir: HeldDir,
        volumes: bool,
    ) -> Result<Vec<String>, StoreError> {
        self.take_away(record, &dir, volumes)
    }

    fn take_away(
        &self,
        record: &ContainerRecord,
        dir: &HeldDir,
        volumes: bool,
    ) -> Result<Vec<String>, StoreError> {
        let only_here = self.db().write("remove a container", |c| {
            let only_here = if volumes { volumes::anonymous_of(c, &record.id)? } else { Vec::new() };
            containers::delete(c, &record.id)?;
            only_here.iter().try_for_each(|volume| volumes::delete(c, &volume.name).map(drop))?;
            Ok(only_here)
        })?;
        let mut paths = vec![dir.path().to_owned(), self.layout().snapshot(record.snapshot).top];
        paths.extend(only_here.iter().map(|volume| self.layout().volume(&volume.directory).top));
        for path in paths {
            let name = crate::store::new_name()?;
            let trash = self.layout().trashed(&name, self.next_number());
            match sys::fs::rename(&path, &trash) {
                Ok(()) => drop(sys::fs::remove_tree(&trash)?),
                // A collector was faster.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(only_here.into_iter().map(|volume| volume.name).collect())
    }
}

#[cfg(test)]
mod tests;
