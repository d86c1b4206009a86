//! Cache mounts: directories that outlive the steps that write to them (`RUN --mount=type=cache`).
//!
//! A directory has a lock file beside it, held as long as somebody uses the directory: shared or alone, as
//! its users asked. Several directories may have one id, where users of it must not meet. The row comes
//! after the directory is complete, and goes before it; both only while the lock is held. So whoever got
//! the lock and finds the row has a directory that stays.
//!
//! What is in a directory is no result: it may be lost, and no key may depend on it.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use base::{CancelToken, KeyHasher, Timestamp};
use sys::lock::{FileLock, LockMode};

use crate::copy::{self, CopyOptions};
use crate::db::cache_mounts;
use crate::error::StoreError;
use crate::layout::CacheMountDirs;
use crate::lease::Lease;
use crate::select::Selection;
use crate::snapshot::SnapshotId;
use crate::store::{Store, new_name};
use crate::tree::Tree;
use crate::usage::disk_usage;
use crate::wait;
use crate::writer::{LayerWriter, WriterOptions};

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Any number of users.
    Shared,
    /// One user alone; another gets a directory of its own.
    Private,
    /// One user alone; another waits.
    Locked,
}

/// What a cache mount begins with.
#[derive(Debug, Clone, Copy)]
pub struct CacheSeed<'a> {
    /// A committed snapshot.
    pub snapshot: SnapshotId,
    /// A directory in it.
    pub path: &'a str,
}

/// Which cache mount is wanted, and what it is to be like if it does not exist yet.
#[derive(Debug, Clone, Copy)]
pub struct CacheMountRequest<'a> {
    /// Names the cache. Where caches with different seeds are different caches, it must say so.
    pub id: &'a str,
    /// Who else may use the directory meanwhile.
    pub sharing: Sharing,
    /// What a new directory begins with; `None` for nothing.
    pub seed: Option<CacheSeed<'a>>,
    /// The permission bits of a new directory.
    pub mode: u32,
    /// The owner of a new directory.
    pub uid: u32,
    /// The group of a new directory.
    pub gid: u32,
}

/// A directory in use, until dropped.
#[derive(Debug)]
pub struct CacheMount {
    dir: PathBuf,
    _lock: FileLock,
    /// Keeps the format of the store from being changed.
    _store: Store,
}

impl CacheMount {
    /// The directory: anything may be written there, by anyone who uses it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How much disk its files take, in bytes.
    pub fn size(&self) -> Result<u64, StoreError> {
        Ok(disk_usage(&self.dir)?)
    }
}

/// What is known about a cache mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMountInfo {
    /// Its own name, which no other cache mount has.
    pub directory: String,
    /// What its users call it.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When somebody last began to use it.
    pub last_used: Timestamp,
    /// Whether somebody uses it now.
    pub in_use: bool,
    /// Bytes of disk that it takes, with its lock.
    pub size: u64,
}

/// The outcome of looking for a directory.
enum Found {
    Free(CacheMount),
    /// All are in use, and their users do not share.
    Busy,
    Nothing,
}

impl Store {
    /// A directory for `request`, in use from now on. [`Sharing::Locked`] waits for other users of the id;
    /// everyone else gets another directory where the existing ones are taken.
    ///
    /// # Errors
    /// [`StoreError::SeedNotFound`], [`StoreError::Seed`], [`StoreError::Cancelled`].
    pub fn cache_mount(
        &self,
        lease: &Lease,
        request: &CacheMountRequest<'_>,
        cancel: &CancelToken,
    ) -> Result<CacheMount, StoreError> {
        wait::until(cancel, || self.try_cache_mount(lease, request, cancel)).map(|(mount, _)| mount)
    }

    /// All cache mounts, the least recently used first.
    pub fn cache_mounts(&self) -> Result<Vec<CacheMountInfo>, StoreError> {
        let rows = self.db().read("list cache mounts", cache_mounts::all)?;
        let mut infos = Vec::with_capacity(rows.len());
        for row in rows {
            let dirs = self.layout().cache_mount(&row.directory);
            let size = match disk_usage(&dirs.top) {
                // The collector may have been faster.
                Err(error) if error.is_not_found() => continue,
                size => size?,
            };
            infos.push(CacheMountInfo {
                directory: row.directory,
                id: row.id,
                created_at: row.created_at,
                last_used: row.last_used,
                in_use: FileLock::is_held(&dirs.lock())?,
                size,
            });
        }
        Ok(infos)
    }

    /// The directories of the cache mounts that are called `id`, the oldest first. The first one that is free is what a
    /// user gets.
    pub fn cache_mounts_of(&self, id: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.db().read("look up cache mounts", |c| cache_mounts::of_id(c, id))?)
    }

    /// The directory of a cache mount, in use from now on as [`Sharing::Shared`] has it; `None` when somebody has it alone, or
    /// it is not there.
    pub fn read_cache_mount(&self, directory: &str) -> Result<Option<CacheMount>, StoreError> {
        match self.take_cache_mount(directory, Sharing::Shared)? {
            Found::Free(mount) => Ok(Some(mount)),
            Found::Busy | Found::Nothing => Ok(None),
        }
    }

    /// Removes a cache mount with all that is in it. `false` when somebody uses it, or it is not there.
    pub fn remove_cache_mount(&self, directory: &str) -> Result<bool, StoreError> {
        let Found::Free(mount) = self.take_cache_mount(directory, Sharing::Private)? else {
            return Ok(false);
        };
        self.db().write("remove a cache mount", |c| cache_mounts::delete(c, directory))?;
        self.discard(&self.layout().cache_mount(directory).top)?;
        drop(mount);
        Ok(true)
    }

    fn try_cache_mount(
        &self,
        lease: &Lease,
        request: &CacheMountRequest<'_>,
        cancel: &CancelToken,
    ) -> Result<Option<CacheMount>, StoreError> {
        if let Some(decided) = self.find_cache_mount(request)?.decided(request.sharing) {
            return Ok(decided);
        }
        // One makes a directory, and the others look again.
        let key = KeyHasher::new("lapstrake/claim-cache-mount/v1").str(request.id).finish();
        let _claim = self.claim(&key, cancel)?;
        if let Some(decided) = self.find_cache_mount(request)?.decided(request.sharing) {
            return Ok(decided);
        }
        self.make_cache_mount(lease, request, cancel)?;
        Ok(self.find_cache_mount(request)?.decided(request.sharing).flatten())
    }

    fn find_cache_mount(&self, request: &CacheMountRequest<'_>) -> Result<Found, StoreError> {
        let mut found = Found::Nothing;
        for directory in &self.cache_mounts_of(request.id)? {
            match self.take_cache_mount(directory, request.sharing)? {
                Found::Free(mount) => return Ok(Found::Free(mount)),
                Found::Busy => found = Found::Busy,
                Found::Nothing => {}
            }
        }
        Ok(found)
    }

    /// Locks a directory and sees whether it is there still.
    fn take_cache_mount(&self, directory: &str, sharing: Sharing) -> Result<Found, StoreError> {
        let dirs = self.layout().cache_mount(directory);
        let mode = if sharing == Sharing::Shared { LockMode::Shared } else { LockMode::Exclusive };
        let lock = match FileLock::try_acquire(&dirs.lock(), mode) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(Found::Busy),
            Err(error) if error.is_not_found() => return self.forget_cache_mount(directory),
            Err(error) => return Err(error.into()),
        };
        if !sys::fs::exists(&dirs.fs())? {
            return self.forget_cache_mount(directory);
        }
        let now = self.now_millis();
        let is_there = self.db().write("use a cache mount", |c| cache_mounts::touch(c, directory, now))?;
        if !is_there {
            return Ok(Found::Nothing);
        }
        Ok(Found::Free(CacheMount { dir: dirs.fs(), _lock: lock, _store: self.clone() }))
    }

    /// Removes the row of a directory that is not there.
    fn forget_cache_mount(&self, directory: &str) -> Result<Found, StoreError> {
        self.db().write("forget a cache mount", |c| cache_mounts::delete(c, directory))?;
        Ok(Found::Nothing)
    }

    /// Makes a directory for `request`.
    fn make_cache_mount(
        &self,
        lease: &Lease,
        request: &CacheMountRequest<'_>,
        cancel: &CancelToken,
    ) -> Result<(), StoreError> {
        self.add_cache_mount(lease, request.id, |directory| {
            if let Some(seed) = &request.seed {
                self.fill_cache_mount(lease, request.id, seed, directory, cancel)?;
            }
            let root = sys::fs::open(directory)?;
            sys::rootdir::set_owner_of(root.as_fd(), directory, request.uid, request.gid)?;
            Ok(sys::rootdir::set_mode_of(root.as_fd(), directory, request.mode)?)
        })
    }

    /// Makes a further cache mount that is called `id` and holds what `fill` writes into the directory it is given: aside,
    /// then under its name, then its row.
    pub fn add_cache_mount<E: From<StoreError>>(
        &self,
        lease: &Lease,
        id: &str,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let name = new_name().map_err(StoreError::from)?;
        let aside = self.scratch(lease)?;
        let dirs = CacheMountDirs { top: aside.path().to_owned() };
        // Held until the row is there, so that the collector does not take the directory for garbage.
        let Some(_lock) = FileLock::create(&dirs.lock()).map_err(StoreError::from)? else { return Ok(()) };
        sys::fs::create_dir(&dirs.fs(), 0o700).map_err(StoreError::from)?;
        fill(&dirs.fs())?;
        let place = || -> Result<(), StoreError> {
            sys::fs::create_dir_all(&self.layout().cache_mounts(), 0o700)?;
            sys::fs::rename(&dirs.top, &self.layout().cache_mount(&name).top)?;
            let now = self.now_millis();
            Ok(self.db().write("add a cache mount", |c| cache_mounts::insert(c, &name, id, now))?)
        };
        Ok(place()?)
    }

    /// Copies what a new directory begins with.
    fn fill_cache_mount(
        &self,
        lease: &Lease,
        id: &str,
        seed: &CacheSeed<'_>,
        dir: &Path,
        cancel: &CancelToken,
    ) -> Result<(), StoreError> {
        self.hold(lease, seed.snapshot)?;
        let failed = |source| StoreError::Seed { id: id.to_owned(), source };
        let tree = Tree::overlay(self.view_dirs(seed.snapshot)?).map_err(|error| failed(error.into()))?;
        let content = Selection::of_directory(&tree, Path::new(seed.path))
            .map_err(|error| failed(error.into()))?
            .ok_or_else(|| StoreError::SeedNotFound { id: id.to_owned(), path: seed.path.to_owned() })?;
        let options = WriterOptions { full_copy: true, userxattr: false, time: self.now() };
        let writer = LayerWriter::new(dir, None, options).map_err(|error| failed(error.into()))?;
        match copy::copy(&writer, &tree, &content, &CopyOptions::as_it_is(), cancel) {
            Ok(_) => Ok(()),
            Err(_) if cancel.is_cancelled() => Err(StoreError::Cancelled),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Found {
    /// The answer, where looking was enough: a directory, or that it takes waiting.
    fn decided(self, sharing: Sharing) -> Option<Option<CacheMount>> {
        match self {
            Self::Free(mount) => Some(Some(mount)),
            Self::Busy if sharing == Sharing::Locked => Some(None),
            Self::Busy | Self::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests;
