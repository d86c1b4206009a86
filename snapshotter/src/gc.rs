//! The collector: removes what nothing needs.
//!
//! One short transaction decides. It drops the rows of dead leases, marks from images, named roots, live
//! leases and the cache entries that the policies keep, and deletes all other rows. Only then do files go,
//! by one rule: what has no row is garbage. They are moved to the trash first, so that a name is free at
//! once and a crash leaves nothing but trash. With that the collection is decided and can be told; what
//! takes time, removing the files, comes after it (`trash`). Builds go on meanwhile:
//!
//! * A directory of a snapshot is made after its row, and its id is never used again. So a directory that
//!   was seen before the rows were read, and has no row, is garbage for ever.
//! * A cache mount has a lock that is held while it is made, used or removed.
//! * A blob's name can come back at any time. So files of blobs are moved away under the exclusive lock
//!   that excludes writers between giving a blob its name and recording its row.

mod choose;
mod mounts;
mod policy;
mod trash;

use std::collections::HashSet;
use std::ffi::OsString;

use base::{Digest, Key};
use sys::lock::{FileLock, LockMode};

use crate::db::marks;
use crate::db::{blobs, cache, leases, snapshots};
use crate::error::StoreError;
use crate::layout::Layout;
use crate::mark::Node;
use crate::snapshot::SnapshotId;
use crate::store::Store;
use choose::{Dropped, IdleMount, choose};
pub use policy::{Policy, SpaceLimits};

/// What a collection has removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Freed {
    /// Snapshots, unfinished ones of dead processes included.
    pub snapshots: u64,
    /// Blobs.
    pub blobs: u64,
    /// Entries of the build cache.
    pub cache_entries: u64,
    /// Cache mounts.
    pub cache_mounts: u64,
    /// What of the cache was dropped, by the ids of [`CacheUsage`](crate::CacheUsage).
    pub objects: Vec<String>,
    /// Bytes of disk: exactly what the removed files and directories occupied.
    pub bytes: u64,
}

/// A collection that is decided: rows are gone, files are in the trash.
#[derive(Debug)]
#[must_use = "the files are still there"]
pub struct Collection {
    store: Store,
    freed: Freed,
}

impl Collection {
    /// What goes. The bytes of files that are still to be removed are not in it.
    pub fn freed(&self) -> &Freed {
        &self.freed
    }

    /// Removes the files and gives the space of the database back. Whatever is left when this fails or the
    /// process dies is removed by the next collection.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove_files(self) -> Result<Freed, StoreError> {
        let bytes = self.freed.bytes + self.store.empty_trash()?;
        self.store.db().compact()?;
        Ok(Freed { bytes, ..self.freed })
    }
}

impl Store {
    /// Removes what nothing needs, and what dead processes left behind.
    pub fn gc(&self, policy: Policy) -> Result<Freed, StoreError> {
        self.collect(policy)?.remove_files()
    }

    /// The same, but for removing the files: that is left to be done when the outcome was told.
    pub fn collect(&self, policy: Policy) -> Result<Collection, StoreError> {
        let freed = match self.decide(policy) {
            // Deleting rows takes some space itself. Removing what is garbage already makes room for it.
            Err(error) if error.is_disk_full() => {
                self.sweep()?;
                let bytes = self.empty_trash()?;
                Freed { bytes, ..self.decide(policy)? }
            }
            decided => decided?,
        };
        self.sweep()?;
        self.sweep_partials(policy)?;
        Ok(Collection { store: self.clone(), freed })
    }

    /// Deletes the rows of what goes.
    fn decide(&self, policy: Policy) -> Result<Freed, StoreError> {
        if policy.limits != SpaceLimits::NONE {
            self.measure_snapshots()?;
        }
        let mounts = self.idle_mounts(policy)?;
        let free = sys::fs::free_space(self.root())?;
        let dead = self.dead_leases()?;
        let (freed, dropped) = self.delete_rows(policy, &dead, &mounts, free)?;
        let directories = self.drop_cache_mounts(policy, &dropped.mounts)?;
        let cache_mounts = directories.len() as u64;
        let objects = dropped.snapshots.iter().map(SnapshotId::to_string).chain(directories).collect();
        Ok(Freed { cache_mounts, objects, ..freed })
    }

    /// Moves files without rows and leftovers of dead processes to the trash.
    fn sweep(&self) -> Result<(), StoreError> {
        self.sweep_blobs()?;
        self.sweep_snapshots()?;
        self.sweep_cache_mounts()?;
        self.sweep_ingests()?;
        self.sweep_claims()
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

    /// Decides, in one transaction.
    fn delete_rows(
        &self,
        policy: Policy,
        dead: &[String],
        mounts: &[IdleMount],
        free: u64,
    ) -> Result<(Freed, Dropped), StoreError> {
        let now = self.now_millis();
        let deleted = self.db().write("collect garbage", |c| {
            let before = snapshots::all(c)?.len();
            dead.iter().try_for_each(|lease| leases::release(c, lease))?;
            let rows = marks::load(c)?;
            let mut marked = HashSet::new();
            rows.graph.mark(rows.images.iter().chain(&rows.held).copied(), &mut marked);
            let dropped = choose(&rows, mounts, &marked, &policy, (now, free));
            dropped.entries.iter().try_for_each(|output| cache::delete(c, output).map(drop))?;
            let gone: HashSet<Key> = dropped.entries.iter().copied().collect();
            let kept = rows.cache.iter().filter(|entry| !gone.contains(&entry.output));
            rows.graph.mark(kept.filter_map(|entry| entry.snapshot).map(Node::Snapshot), &mut marked);
            let garbage: Vec<SnapshotId> =
                rows.snapshots.keys().copied().filter(|id| !marked.contains(&Node::Snapshot(*id))).collect();
            snapshots::delete(c, &garbage)?;
            let lost: Vec<&Digest> =
                rows.blobs.keys().filter(|digest| !marked.contains(&Node::Blob(**digest))).collect();
            lost.iter().try_for_each(|digest| blobs::delete(c, digest))?;
            cache::prune_links(c)?;
            marks::prune_documents(c)?;
            let freed = Freed {
                snapshots: (before - rows.snapshots.len() + garbage.len()) as u64,
                blobs: lost.len() as u64,
                cache_entries: dropped.entries.len() as u64,
                ..Freed::default()
            };
            Ok((freed, dropped))
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
        let owners = rows.iter().filter(|row| row.layer.is_none());
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
}

#[cfg(test)]
mod tests;
