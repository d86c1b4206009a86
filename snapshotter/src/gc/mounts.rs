//! Collecting cache mounts. One that is in use is locked, and is never touched.

use std::collections::HashSet;
use std::ffi::OsString;

use sys::lock::{FileLock, LockMode};

use super::Policy;
use crate::db::{cache_mounts, to_millis};
use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// Removes the cache mounts that the policy does not keep. Answers how many.
    pub(super) fn drop_cache_mounts(&self, policy: Policy) -> Result<u64, StoreError> {
        let Some(deadline) = Policy::deadline(policy.max_idle_mounts, self.now_millis()) else {
            return Ok(0);
        };
        let mut dropped = 0;
        let rows = self.db().read("list cache mounts", cache_mounts::all)?;
        for row in rows.iter().filter(|row| to_millis(row.last_used) <= deadline) {
            let dirs = self.layout().cache_mount(&row.directory);
            let lock = match FileLock::try_acquire(&dirs.lock(), LockMode::Exclusive) {
                Ok(None) => continue,
                Ok(lock) => lock,
                // Lost, or another collector was faster.
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(error.into()),
            };
            self.db().write("drop a cache mount", |c| cache_mounts::delete(c, &row.directory))?;
            self.discard(&dirs.top)?;
            drop(lock);
            dropped += 1;
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
