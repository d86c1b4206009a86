//! The collector: removes what nothing needs.
//!
//! One short transaction decides. It drops the rows of dead leases, marks from images, named roots, live
//! leases and the cache entries that the policy keeps, and deletes all other rows. Only then do files go,
//! by one rule: what has no row is garbage. They are moved to the trash first, so that a name is free at
//! once and a crash leaves nothing but trash. Builds go on meanwhile:
//!
//! * A directory of a snapshot is made after its row, and its id is never used again. So a directory that
//!   was seen before the rows were read, and has no row, is garbage for ever.
//! * A cache mount has a lock that is held while it is made, used or removed.
//! * A blob's name can come back at any time. So files of blobs are moved away under the exclusive lock
//!   that excludes writers between giving a blob its name and recording its row.

mod mounts;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use base::Digest;
use sys::fs::PathError;
use sys::lock::{FileLock, LockMode};

use crate::db::marks::{self, CacheEntry, Rows};
use crate::db::{blobs, cache, leases, snapshots};
use crate::error::StoreError;
use crate::layout::Layout;
use crate::mark::Node;
use crate::snapshot::SnapshotId;
use crate::store::Store;

/// What of the cache a collection keeps. What images, named roots and live leases need is always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Entries that were not used for this long go; `None` keeps them whatever their age.
    pub max_idle: Option<Duration>,
    /// Entries go, the least recently used first, until what only the cache needs takes no more bytes of
    /// disk than this; `None` keeps them whatever their size.
    pub max_cache_bytes: Option<u64>,
    /// Cache mounts that nobody uses go, if nobody began to for this long; `None` keeps them.
    pub max_idle_mounts: Option<Duration>,
}

impl Policy {
    /// Keeps the whole cache.
    pub const KEEP_CACHE: Self = Self { max_idle: None, max_cache_bytes: None, max_idle_mounts: None };
    /// Drops the whole cache, cache mounts included.
    pub const DROP_CACHE: Self =
        Self { max_idle: Some(Duration::ZERO), max_cache_bytes: None, max_idle_mounts: Some(Duration::ZERO) };

    /// The time of last use, in milliseconds since 1970, up to which something idle goes.
    fn deadline(idle: Option<Duration>, now: i64) -> Option<i64> {
        idle.map(|idle| now.saturating_sub(i64::try_from(idle.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// What a collection has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freed {
    /// Snapshots, unfinished ones of dead processes included.
    pub snapshots: u64,
    /// Blobs.
    pub blobs: u64,
    /// Entries of the build cache.
    pub cache_entries: u64,
    /// Cache mounts.
    pub cache_mounts: u64,
    /// Bytes of disk.
    pub bytes: u64,
}

impl Store {
    /// Removes what nothing needs, and what dead processes left behind.
    pub fn gc(&self, policy: Policy) -> Result<Freed, StoreError> {
        // Deleting rows takes some space itself. On a full disk, this makes room for it.
        let mut bytes = self.sweep()?;
        if policy.max_cache_bytes.is_some() {
            self.measure_snapshots()?;
        }
        let dead = self.dead_leases()?;
        let freed = self.delete_rows(policy, &dead)?;
        let cache_mounts = self.drop_cache_mounts(policy)?;
        bytes += self.sweep()?;
        Ok(Freed { bytes, cache_mounts, ..freed })
    }

    /// Removes files without rows and leftovers of dead processes. Returns how many bytes of disk that was.
    fn sweep(&self) -> Result<u64, StoreError> {
        self.sweep_blobs()?;
        self.sweep_snapshots()?;
        self.sweep_cache_mounts()?;
        self.sweep_ingests()?;
        self.sweep_claims()?;
        self.empty_trash()
    }

    /// The leases whose owners are dead; their files go at once.
    fn dead_leases(&self) -> Result<Vec<String>, StoreError> {
        let mut dead = Vec::new();
        for name in sys::fs::list(&self.layout().leases())? {
            let path = self.layout().leases().join(&name);
            if let Some(lock) = FileLock::try_acquire(&path, LockMode::Exclusive)? {
                lock.remove()?;
                dead.extend(name.into_string().ok());
            }
        }
        for lease in self.db().read("list leases", leases::mentioned)? {
            if !self.is_lease_live(&lease)? {
                dead.push(lease);
            }
        }
        Ok(dead)
    }

    fn delete_rows(&self, policy: Policy, dead: &[String]) -> Result<Freed, StoreError> {
        let now = self.now_millis();
        let deleted = self.db().write("collect garbage", |c| {
            let before = snapshots::all(c)?.len();
            dead.iter().try_for_each(|lease| leases::release(c, lease))?;
            let rows = marks::load(c)?;
            let (marked, dropped) = choose(&rows, policy, now);
            dropped.iter().try_for_each(|entry| cache::delete(c, &entry.output).map(drop))?;
            let garbage: Vec<SnapshotId> =
                rows.snapshots.keys().copied().filter(|id| !marked.contains(&Node::Snapshot(*id))).collect();
            snapshots::delete(c, &garbage)?;
            let lost: Vec<&Digest> =
                rows.blobs.keys().filter(|digest| !marked.contains(&Node::Blob(**digest))).collect();
            lost.iter().try_for_each(|digest| blobs::delete(c, digest))?;
            cache::prune_links(c)?;
            marks::prune_documents(c)?;
            Ok(Freed {
                snapshots: (before - rows.snapshots.len() + garbage.len()) as u64,
                blobs: lost.len() as u64,
                cache_entries: dropped.len() as u64,
                cache_mounts: 0,
                bytes: 0,
            })
        })?;
        Ok(deleted)
    }

    /// Moves files of blobs without rows to the trash.
    fn sweep_blobs(&self) -> Result<(), StoreError> {
        let _excluded = FileLock::acquire(&self.layout().blobs_lock(), LockMode::Exclusive)?;
        let rows = self.db().read("list blobs", blobs::all)?;
        let known: HashSet<OsString> = rows.iter().map(|(digest, _)| digest.hex().into()).collect();
        for directory in sys::fs::list(&self.layout().blobs())? {
            let directory = self.layout().blobs().join(directory);
            for name in sys::fs::list(&directory)? {
                if !known.contains(&name) {
                    self.discard(&directory.join(name))?;
                }
            }
        }
        Ok(())
    }

    /// Moves directories of snapshots without rows to the trash.
    fn sweep_snapshots(&self) -> Result<(), StoreError> {
        // In this order: see the module.
        let names = sys::fs::list(&self.layout().snapshots())?;
        let rows = self.db().read("list snapshots", snapshots::all)?;
        let owners = rows.iter().filter(|row| !row.shares);
        let known: HashSet<OsString> = owners.map(|row| row.id.to_string().into()).collect();
        for name in names.iter().filter(|name| !known.contains(*name)) {
            self.discard(&self.layout().snapshots().join(name))?;
        }
        Ok(())
    }

    /// Removes what dead writers left.
    fn sweep_ingests(&self) -> Result<(), StoreError> {
        for name in sys::fs::list(&self.layout().ingests())? {
            if !self.is_lease_live(Layout::ingest_owner(&name.to_string_lossy()))? {
                self.discard(&self.layout().ingests().join(name))?;
            }
        }
        Ok(())
    }

    /// Removes the files of claims that nobody holds.
    fn sweep_claims(&self) -> Result<(), StoreError> {
        for name in sys::fs::list(&self.layout().claims())? {
            if let Some(lock) =
                FileLock::try_acquire(&self.layout().claims().join(name), LockMode::Exclusive)?
            {
                lock.remove()?;
            }
        }
        Ok(())
    }

    /// Moves something to the trash. That another collector was faster is fine.
    pub(crate) fn discard(&self, path: &Path) -> Result<(), PathError> {
        let name = crate::store::new_name()?;
        match sys::fs::rename(path, &self.layout().trashed(&name, self.next_number())) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    fn empty_trash(&self) -> Result<u64, StoreError> {
        let names = sys::fs::list(&self.layout().trash())?;
        let removed = names.iter().map(|name| sys::fs::remove_tree(&self.layout().trash().join(name)));
        Ok(removed.map(|removed| Ok(removed?.bytes)).sum::<Result<u64, PathError>>()?)
    }
}

/// What is needed, and which cache entries the policy drops.
fn choose(rows: &Rows, policy: Policy, now: i64) -> (HashSet<Node>, Vec<CacheEntry>) {
    let mut marked = HashSet::new();
    rows.graph.mark(rows.images.iter().chain(&rows.held).copied(), &mut marked);
    let oldest = Policy::deadline(policy.max_idle, now);
    let mut cache_bytes = 0u64;
    let mut dropped = Vec::new();
    for entry in &rows.cache {
        if oldest.is_some_and(|oldest| entry.last_used <= oldest) {
            dropped.push(entry.clone());
            continue;
        }
        let added = rows.graph.mark(entry.snapshot.map(Node::Snapshot), &mut marked);
        let more = cache_bytes + added.iter().map(|node| rows.size(node)).sum::<u64>();
        if policy.max_cache_bytes.is_some_and(|limit| more > limit) {
            added.iter().for_each(|node| {
                marked.remove(node);
            });
            dropped.push(entry.clone());
        } else {
            cache_bytes = more;
        }
    }
    (marked, dropped)
}

#[cfg(test)]
mod tests;
