//! Collecting what is no snapshot: cache mounts, and what is remembered of contexts. A cache mount that is
//! in use is locked, and is never touched; what is remembered of a context may go at any time.

use std::collections::HashSet;

use base::Timestamp;
use sys::lock::{FileLock, LockMode};

use super::Policy;
use crate::cache_mount::CacheMountInfo;
use crate::db::{cache_mounts, to_millis};
use crate::error::StoreError;
use crate::received::ReceivedInfo;
use crate::record::{CacheUsage, RecordKind};
use crate::stat_cache::StatCacheFile;
use crate::store::Store;

impl Store {
    /// The records of what is no snapshot, each kind with the least recently used first.
    pub(crate) fn loose_records(&self) -> Result<Vec<CacheUsage>, StoreError> {
        let mount = |mount: CacheMountInfo| CacheUsage {
            description: format!("cache mount {}", mount.id),
            bytes: mount.size,
            created_at: mount.created_at,
            in_use: mount.in_use,
            ..loose(RecordKind::CacheMount, mount.directory, mount.last_used)
        };
        let context = |file: StatCacheFile| CacheUsage {
            description: "hashes of a build context".to_owned(),
            bytes: file.bytes,
            ..loose(RecordKind::LocalSource, file.name, file.last_used)
        };
        let mounts = self.cache_mounts()?.into_iter().map(mount);
        let copy = |dir: ReceivedInfo| CacheUsage {
            description: "copy of a client's directory".to_owned(),
            bytes: dir.bytes,
            in_use: dir.in_use,
            ..loose(RecordKind::LocalSource, dir.name, dir.last_used)
        };
        let copies = self.received_dirs()?.into_iter().map(copy);
        Ok(mounts.chain(self.stat_cache_files()?.into_iter().map(context)).chain(copies).collect())
    }

    /// Removes these, but for those that somebody has begun to use. Answers which are gone.
    pub(super) fn drop_loose(
        &self,
        policies: &[Policy],
        chosen: &[(RecordKind, String)],
    ) -> Result<Vec<String>, StoreError> {
        let of = |kind| chosen.iter().filter(move |(is, _)| *is == kind).map(|(_, id)| id);
        let mut dropped = self.drop_cache_mounts(policies, &of(RecordKind::CacheMount).collect())?;
        for name in of(RecordKind::LocalSource) {
            // Both kinds are named by keys of their own.
            if self.drop_stat_cache(name)? || self.drop_received_dir(name)? {
                dropped.push(name.clone());
            }
        }
        Ok(dropped)
    }

    fn drop_cache_mounts(
        &self,
        policies: &[Policy],
        chosen: &HashSet<&String>,
    ) -> Result<Vec<String>, StoreError> {
        let now = self.now_millis();
        let Some(deadline) = policies.iter().filter_map(|policy| policy.deadline(now)).max() else {
            return Ok(Vec::new());
        };
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
}

/// A record that stands on nothing and that no image needs.
fn loose(kind: RecordKind, id: String, last_used: Timestamp) -> CacheUsage {
    CacheUsage {
        id,
        kind,
        description: String::new(),
        parents: Vec::new(),
        bytes: 0,
        created_at: last_used,
        last_used,
        uses: None,
        cost_ms: None,
        shared: false,
        in_use: false,
    }
}
