//! Directories with a row each, and a lock in them that is held by whoever makes, uses or removes them.
//!
//! The directory is made before its row and removed after it. So one without a row and a holder of its lock is
//! garbage.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sys::lock::{FileLock, LockMode};

use crate::db::{builds, cache_mounts, containers, volumes};
use crate::error::StoreError;
use crate::store::Store;

/// The file in a directory that is locked.
pub(crate) const LOCK: &str = "lock";

/// A directory that is being made, used or removed by us alone.
#[derive(Debug)]
pub struct HeldDir {
    path: PathBuf,
    lock: FileLock,
}

impl HeldDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory whose lock we hold.
    pub fn of_lock(lock: FileLock) -> Self {
        let path = lock.path().parent().unwrap_or(Path::new("/")).to_owned();
        Self { path, lock }
    }

    /// The lock, for whoever goes on in our place.
    pub fn into_lock(self) -> FileLock {
        self.lock
    }
}

/// What has directories of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    Builds,
    CacheMounts,
    Containers,
    Volumes,
}

impl Owners {
    pub(crate) const ALL: [Self; 4] = [Self::Builds, Self::CacheMounts, Self::Containers, Self::Volumes];

    /// The directory that theirs are in.
    fn place(self, store: &Store) -> PathBuf {
        match self {
            Self::Builds => store.layout().builds(),
            Self::CacheMounts => store.layout().cache_mounts(),
            Self::Containers => store.layout().containers(),
            Self::Volumes => store.layout().volumes(),
        }
    }

    /// The names of the directories that have a row.
    fn known(self, store: &Store) -> Result<HashSet<OsString>, StoreError> {
        let names: Vec<String> = store.db().read("list directories", |c| {
            Ok(match self {
                Self::Builds => builds::all(c)?.into_iter().map(|row| row.id).collect(),
                Self::CacheMounts => cache_mounts::all(c)?.into_iter().map(|row| row.directory).collect(),
                Self::Containers => containers::all(c)?.into_iter().map(|row| row.id).collect(),
                Self::Volumes => volumes::all(c)?.into_iter().map(|row| row.directory).collect(),
            })
        })?;
        Ok(names.into_iter().map(OsString::from).collect())
    }
}

impl Store {
    /// Makes a directory and takes its lock. It is garbage until it has a row.
    pub(crate) fn create_held_dir(&self, path: PathBuf) -> Result<HeldDir, StoreError> {
        loop {
            sys::fs::create_dir_all(&path, 0o700)?;
            match FileLock::try_acquire(&path.join(LOCK), LockMode::Exclusive) {
                Ok(Some(lock)) => return Ok(HeldDir { path, lock }),
                // A collector was between our two steps.
                Ok(None) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Moves directories that have no row to the trash.
    pub(crate) fn sweep_unknown(&self, owners: Owners) -> Result<(), StoreError> {
        for name in self.unknown(owners)? {
            let path = owners.place(self).join(&name);
            // Held while it is made and has no row yet, and so it may have one now.
            match FileLock::try_acquire(&path.join(LOCK), LockMode::Exclusive) {
                Ok(Some(_lock)) if self.unknown(owners)?.contains(&name) => self.discard(&path)?,
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The directories without a row that nobody makes now.
    pub(crate) fn garbage_of(&self, owners: Owners) -> Result<Vec<PathBuf>, StoreError> {
        let mut garbage = Vec::new();
        for name in self.unknown(owners)? {
            let path = owners.place(self).join(&name);
            if !FileLock::is_held(&path.join(LOCK))? && self.unknown(owners)?.contains(&name) {
                garbage.push(path);
            }
        }
        Ok(garbage)
    }

    /// The names of directories that have no row.
    fn unknown(&self, owners: Owners) -> Result<Vec<OsString>, StoreError> {
        // In this order: a row comes after its directory.
        let names = match sys::fs::list(&owners.place(self)) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            names => names?,
        };
        let known = owners.known(self)?;
        let mut unknown = Vec::new();
        for name in names.into_iter().filter(|name| !known.contains(name)) {
            // A volume with a note had a row: what is lost then is the row, not the volume.
            if owners != Owners::Volumes || !self.has_note(&name)? {
                unknown.push(name);
            }
        }
        Ok(unknown)
    }
}
