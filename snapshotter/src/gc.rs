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
mod loose;
mod policy;
mod trash;

use std::collections::HashSet;
use std::ffi::OsString;

use base::{Digest, Key};
use sys::lock::{FileLock, LockMode};

use crate::db::marks;
use crate::db::{blobs, cache, leases, settings, snapshots};
use crate::error::StoreError;
use crate::held_dir::Owners;
use crate::layout::Layout;
use crate::mark::Node;
use crate::record::CacheUsage;
use crate::snapshot::SnapshotId;
use crate::store::Store;
use crate::usage::reach;
use choose::{Dropped, Needed, choose};
pub use policy::{Policy, SpaceLimits};

/// What is done to the database to see whether a collection is due.
const LAST_COLLECTION: &str = "look up the last collection";

/// What a collection has removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Freed {
    /// Snapshots, unfinished ones of dead processes included.
    pub snapshots: u64,
    /// Blobs.
    pub blobs: u64,
    /// Entries of the build cache.
    pub cache_entries: u64,
    /// Cache mounts, and what was remembered of contexts.
    pub loose: u64,
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
    /// Whether so much may have gone that the database should become smaller.
    drops_cache: bool,
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
        if self.drops_cache {
            self.store.db().compact()?;
        }
        Ok(Freed { bytes, ..self.freed })
    }
}

impl Store {
    /// Removes what nothing needs, and what dead processes left behind.
    pub fn gc(&self, policy: Policy) -> Result<Freed, StoreError> {
        self.collect(&[policy])?.remove_files()
    }

    /// The same for several policies, one after the other, but for removing the files: that is left to be
    /// done when the outcome was told.
    pub fn collect(&self, policies: &[Policy]) -> Result<Collection, StoreError> {
        let drops_cache = drops_cache(policies);
        self.bound_failed_steps(policies)?;
        let freed = match self.decide(policies) {
            // Deleting rows takes some space itself. Removing what is garbage already makes room for it.
            Err(error) if error.is_disk_full() => {
                self.sweep()?;
                let bytes = self.empty_trash()?;
                Freed { bytes, ..self.decide(policies)? }
            }
            decided => decided?,
        };
        self.sweep()?;
        self.forget_packed()?;
        self.sweep_partials(policies.contains(&Policy::DROP_CACHE))?;
        Ok(Collection { store: self.clone(), freed, drops_cache })
    }

    /// Whether the last automatic collection began at least `interval` milliseconds ago. Changes nothing.
    pub fn is_collection_due(&self, interval: i64) -> Result<bool, StoreError> {
        let last = self.db().read(LAST_COLLECTION, |c| settings::get(c, settings::COLLECTED))?;
        Ok(is_due(last.as_deref(), self.now_millis(), interval))
    }

    /// Notes that an automatic collection begins, if it is due. Of several who ask at once, one may begin.
    pub fn begin_collection(&self, interval: i64) -> Result<bool, StoreError> {
        let now = self.now_millis();
        Ok(self.db().write(LAST_COLLECTION, |c| {
            let due = is_due(settings::get(c, settings::COLLECTED)?.as_deref(), now, interval);
            if due {
                settings::put(c, settings::COLLECTED, &now.to_string())?;
            }
            Ok(due)
        })?)
    }

    /// Deletes the rows of what goes.
    fn decide(&self, policies: &[Policy]) -> Result<Freed, StoreError> {
        if policies.iter().any(|policy| policy.limits != SpaceLimits::NONE) {
            self.measure_snapshots()?;
        }
        let loose = if drops_cache(policies) { self.loose_records()? } else { Vec::new() };
        let free = sys::fs::free_space(self.root())?;
        let dead = self.dead_leases()?;
        let (freed, dropped) = self.delete_rows(policies, &dead, &loose, free)?;
        let gone = self.drop_loose(policies, &dropped.loose)?;
        let loose = gone.len() as u64;
        let objects = dropped.snapshots.iter().map(SnapshotId::to_string).chain(gone).collect();
        Ok(Freed { loose, objects, ..freed })
    }

    /// Moves files without rows and leftovers of dead processes to the trash.
    fn sweep(&self) -> Result<(), StoreError> {
        self.sweep_blobs()?;
        self.sweep_snapshots()?;
        self.sweep_unknown(Owners::CacheMounts)?;
        self.sweep_unknown(Owners::Containers)?;
        self.sweep_unknown(Owners::Volumes)?;
        self.sweep_builds()?;
        self.sweep_hints()?;
        self.sweep_stat_caches()?;
        self.sweep_ingests()?;
        self.sweep_archives(&|tar| self.discard(tar).map(drop))?;
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
        policies: &[Policy],
        dead: &[String],
        loose: &[CacheUsage],
        free: u64,
    ) -> Result<(Freed, Dropped), StoreError> {
        let now = self.now_millis();
        // Durably: after a power loss no row may come back whose files are gone.
        let deleted = self.db().write_durably("collect garbage", |c| {
            let before = snapshots::all(c)?.len();
            dead.iter().try_for_each(|lease| leases::bury(c, lease))?;
            let rows = marks::load(c)?;
            let needed = Needed { imaged: reach(&rows, &rows.images), held: reach(&rows, &rows.held) };
            let dropped = choose(&rows, loose, &needed, policies, (now, free));
            let mut marked = needed.imaged;
            marked.extend(needed.held);
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

    /// Moves files of blobs without rows to the trash, and removes directories that then hold none.
    fn sweep_blobs(&self) -> Result<(), StoreError> {
        let _excluded = FileLock::acquire(&self.layout().blobs_lock(), LockMode::Exclusive)?;
        let rows = self.db().read("list blobs", blobs::all)?;
        let known: HashSet<OsString> = rows.iter().map(|(digest, _)| digest.hex().into()).collect();
        for directory in sys::fs::list(&self.layout().blobs())? {
            let directory = self.layout().blobs().join(directory);
            let mut is_empty = true;
            for name in sys::fs::list(&directory)? {
                if known.contains(&name) {
                    is_empty = false;
                } else {
                    self.discard(&directory.join(name))?;
                }
            }
            if is_empty {
                sys::fs::remove_dir(&directory)?;
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
            let path = self.layout().ingests().join(&name);
            if !self.is_lease_live(Layout::ingest_owner(&name.to_string_lossy()))?
                && self.finish_conversion(&path)?
            {
                self.discard(&path)?;
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

fn drops_cache(policies: &[Policy]) -> bool {
    policies.iter().any(|policy| policy.unused_for.is_some())
}

/// Whether a collection that last began at `last` is due. A clock that was set back makes it due.
fn is_due(last: Option<&str>, now: i64, interval: i64) -> bool {
    let last = last.and_then(|last| last.parse::<i64>().ok());
    last.is_none_or(|last| last > now || now - last >= interval)
}

#[cfg(test)]
mod tests;
