//! How much disk the store takes, and for what.

mod detail;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use sys::fs::PathError;
use sys::rootdir::RootDir;

use crate::db::marks::{self, Rows};
use crate::db::{roots, snapshots};
use crate::error::StoreError;
use crate::mark::Node;
use crate::snapshot::SnapshotId;
use crate::store::Store;
pub use detail::{CacheUsage, ImageUsage, UsageDetails};

/// The kind of root under which the snapshots of containers are kept.
pub const CONTAINER_ROOT: &str = "container";

/// How much disk one kind of thing takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsagePart {
    /// How many there are.
    pub total: usize,
    /// How many are needed by something else.
    pub active: usize,
    /// Bytes of disk. What two kinds need counts for both; a layer that snapshots share counts once.
    pub bytes: u64,
    /// Bytes of disk that removing those not needed would free.
    pub reclaimable: u64,
}

/// How much disk the store takes, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Images; active are those that a container, or another root or lease, holds the layers of.
    pub images: UsagePart,
    /// Named roots of the kind [`CONTAINER_ROOT`]; the store does not know which of them run.
    pub containers: UsagePart,
    /// The build cache; its bytes are those that nothing else needs.
    pub build_cache: UsagePart,
    /// Cache mounts; active are those in use.
    pub cache_mounts: UsagePart,
    /// All blobs, snapshots and cache mounts together.
    pub total_bytes: u64,
}

impl Store {
    /// Counts what the store holds. Layers that were never counted are walked once, cache mounts always.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        self.measure_snapshots()?;
        let (rows, containers) = self.db().read_consistently("count the usage", |c| {
            Ok((marks::load(c)?, roots::of_kind(c, CONTAINER_ROOT)?))
        })?;
        let mounts = self.cache_mounts()?;
        let bytes =
            |in_use| mounts.iter().filter(|mount| mount.in_use == in_use).map(|mount| mount.size).sum();
        let (active, idle): (u64, u64) = (bytes(true), bytes(false));
        let cache_mounts = UsagePart {
            total: mounts.len(),
            active: mounts.iter().filter(|mount| mount.in_use).count(),
            bytes: active + idle,
            reclaimable: idle,
        };
        let counted = count(&rows, &containers);
        Ok(Usage { cache_mounts, total_bytes: counted.total_bytes + cache_mounts.bytes, ..counted })
    }

    /// Counts the layers of committed snapshots that were never counted.
    pub(crate) fn measure_snapshots(&self) -> Result<(), StoreError> {
        let rows = self.db().read("list snapshots", snapshots::all)?;
        let mut sizes = Vec::new();
        for row in rows.iter().filter(|row| !row.active && row.size.is_none()) {
            match disk_usage(&self.layout().snapshot(row.id).top) {
                Ok(size) => sizes.push((row.id, size)),
                // The collector may have been faster.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        if sizes.is_empty() {
            return Ok(());
        }
        Ok(self.db().write("record sizes", |c| {
            sizes.iter().try_for_each(|(id, size)| snapshots::set_size(c, *id, *size))
        })?)
    }
}

fn count(rows: &Rows, containers: &[SnapshotId]) -> Usage {
    let bytes = |nodes: &HashSet<Node>| nodes.iter().map(|node| rows.size(node)).sum::<u64>();
    let reach = |from: &[Node]| reach(rows, from);
    let distinct: HashSet<Node> = rows.images.iter().copied().collect();
    let held = reach(&rows.held);
    let is_active = |image: &Node| is_active(&reach(&[*image]), &held);
    let (active, idle): (Vec<Node>, Vec<Node>) = distinct.iter().copied().partition(is_active);
    let images = reach(&rows.images);
    let mut needed = held;
    rows.graph.mark(active.iter().copied(), &mut needed);
    let reclaimable: HashSet<Node> = reach(&idle).difference(&needed).copied().collect();
    let mut kept = needed;
    kept.extend(&images);
    let cached: Vec<Node> =
        rows.cache.iter().filter_map(|entry| entry.snapshot.map(Node::Snapshot)).collect();
    let cache_only: HashSet<Node> = reach(&cached).difference(&kept).copied().collect();
    let container_bytes = containers.iter().map(|id| rows.size(&Node::Snapshot(*id))).sum();
    Usage {
        images: UsagePart {
            total: distinct.len(),
            active: active.len(),
            bytes: bytes(&images),
            reclaimable: bytes(&reclaimable),
        },
        containers: UsagePart { total: containers.len(), active: 0, bytes: container_bytes, reclaimable: 0 },
        build_cache: UsagePart {
            total: rows.cache.len(),
            active: cached.iter().filter(|node| kept.contains(node)).count(),
            bytes: bytes(&cache_only),
            reclaimable: bytes(&cache_only),
        },
        cache_mounts: UsagePart::default(),
        total_bytes: rows.blobs.values().sum::<u64>() + rows.snapshots.values().sum::<u64>(),
    }
}

/// Everything that `from` needs, itself included.
fn reach(rows: &Rows, from: &[Node]) -> HashSet<Node> {
    let mut marked = HashSet::new();
    rows.graph.mark(from.iter().copied(), &mut marked);
    marked
}

/// Whether an image is needed: something holds the topmost snapshot of all that it needs.
fn is_active(needed: &HashSet<Node>, held: &HashSet<Node>) -> bool {
    let snapshots = needed.iter().filter_map(|node| match node {
        Node::Snapshot(id) => Some(*id),
        Node::Blob(_) => None,
    });
    snapshots.max().is_some_and(|top| held.contains(&Node::Snapshot(top)))
}

/// How much disk a tree takes, in bytes. A file with several names counts once.
pub(crate) fn disk_usage(path: &Path) -> Result<u64, PathError> {
    let root = RootDir::open(path)?;
    let mut seen = HashSet::new();
    let mut open = vec![PathBuf::new()];
    let mut blocks = root.stat("")?.map_or(0, |stat| stat.blocks);
    while let Some(path) = open.pop() {
        let Some(dir) = root.open_real_dir(&path)? else { continue };
        for (name, _) in dir.names()? {
            let Some(stat) = dir.stat(&name)? else { continue };
            if stat.is_dir() {
                open.push(path.join(name));
            } else if stat.links > 1 && !seen.insert(stat.inode) {
                continue;
            }
            blocks += stat.blocks;
        }
    }
    Ok(blocks * 512)
}

#[cfg(test)]
mod tests;
