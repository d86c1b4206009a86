//! Collecting cache mounts. One that is in use is locked, and is never touched.

use std::collections::HashSet;
use std::ffi::OsString;

use sys::lock::{FileLock, LockMode};

use super::Policy;
use super::choose::IdleMount;
use crate::cache_mount::CacheMountInfo;
use crate::db::{cache_mounts, to_millis};
use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// The cache mounts, as a policy sees them; none where it keeps them all.
    pub(super) fn idle_mounts(&self, policy: Policy) -> Result<Vec<IdleMount>, StoreError> {
        if policy.unused_for.is_none() {
            return Ok(Vec::new());
        }
        let idle = |mount: CacheMountInfo| IdleMount {
            directory: mount.directory,
            bytes: mount.size,
            last_used: to_millis(mount.last_used),
            in_use: mount.in_use,
        };
        Ok(self.cache_mounts()?.into_iter().map(idle).collect())
    }

    /// Removes these cache mounts, but for those that somebody has begun to use. Answers which are gone.
    pub(super) fn drop_cache_mounts(
        &self,
        policy: Policy,
        chosen: &[String],
    ) -> Result<Vec<String>, StoreError> {
        let Some(deadline) = policy.deadline(self.now_millis()) else { return Ok(Vec::new()) };
        let chosen: HashSet<&String> = chosen.iter().collect();
        let mut dropped = Vec::new();
        let rows = self.db().read("list cache mounts", cache_mounts::all)?;
        let idle = |row: &cache_mounts::Listed| {
            chosen.contains(&row.directory) && to_millis(row.last_used) <= deadline
        };
        for row in rows.into_iter().filter(idle) {
            let dirs = self.layout().cache_mount(&row.directory);
            let lock = match FileLock::try_acquire(&dirs.lock(), LockMode::Exclusive) {
                Ok(None) => continue,
                Ok(lock) => lock,
                // Another collector was faster.
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error.into()),
            };
            self.db().write("drop a cache mount", |c| cache_mounts::delete(c, &row.directory))?;
            self.discard(&dirs.top)?;
            drop(lock);
            dropped.push(row.directory);
        }
        Ok(dropped)
    }

    /// Moves directories of cache mounts without rows to the trash.
    pub(super) fn sweep_cache_mounts(&self) -> Result<(), StoreError> {
        for name in self.unknown_cache_mounts()? {
            let dirs = self.layout().cache_mount(&name.to_string_lossy());
            // Locked while it is made and has no row yet, and so it may have one now.
            match FileLock::try_acquire(&dirs.lock(), LockMode::Exclusive) {
                Ok(Some(_lock)) if self.unknown_cache_mounts()?.contains(&name) => self.discard(&dirs.top)?,
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The names of directories of cache mounts that have no row.
    pub(crate) fn unknown_cache_mounts(&self) -> Result<Vec<OsString>, StoreError> {
        // In this order: a row comes after its directory.
        let names = match sys::fs::list(&self.layout().cache_mounts()) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            names => names?,
        };
        let rows = self.db().read("list cache mounts", cache_mounts::all)?;
        let known: HashSet<OsString> = rows.into_iter().map(|row| row.directory.into()).collect();
        Ok(names.into_iter().filter(|name| !known.contains(name)).collect())
    }
}
