//! How much disk the store takes, and for what.

mod detail;
mod rest;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use sys::fs::PathError;
use sys::rootdir::RootDir;
use sys::stat::Kind;

use crate::db::marks::{self, Rows};
use crate::db::{containers, failed_steps, snapshots};
use crate::error::StoreError;
use crate::mark::Node;
use crate::record::{CacheUsage, RecordKind};
use crate::snapshot::SnapshotId;
use crate::store::Store;
pub use detail::{ImageUsage, UsageDetails};
pub(crate) use detail::{record, results};

/// How much disk one kind of thing takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsagePart {
    /// How many there are.
    pub total: usize,
    /// How many are needed by something else.
    pub active: usize,
    /// Bytes of disk.
    pub bytes: u64,
    /// Bytes of disk that removing those not needed would free.
    pub reclaimable: u64,
}

/// How much disk the store takes, and for what. All numbers are bytes of disk (blocks), as `du` counts them.
/// What several things need counts once, for the first of them in this order; so the sum is the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Images; active are those that a container, or another root or lease, holds the layers of.
    pub images: UsagePart,
    /// Containers; the store does not know which of them run.
    pub containers: UsagePart,
    /// Volumes; active are those that a container shows.
    pub volumes: UsagePart,
    /// The build cache, with what is remembered of contexts and what failed steps left. Active are results that images or live
    /// processes need.
    pub build_cache: UsagePart,
    /// Cache mounts; active are those in use.
    pub cache_mounts: UsagePart,
    /// What is being made, which is active, and what the next collection removes.
    pub temporary: UsagePart,
    /// What the store needs for itself: the database, locks, leases, directories.
    pub metadata_bytes: u64,
}

impl std::ops::Add for UsagePart {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            active: self.active + other.active,
            bytes: self.bytes + other.bytes,
            reclaimable: self.reclaimable + other.reclaimable,
        }
    }
}

impl Usage {
    /// Everything below the root of the store.
    pub fn total_bytes(&self) -> u64 {
        let parts =
            [self.images, self.containers, self.volumes, self.build_cache, self.cache_mounts, self.temporary];
        parts.iter().map(|part| part.bytes).sum::<u64>() + self.metadata_bytes
    }
}

impl Store {
    /// Counts what the store holds. Layers that were never counted are walked once; cache mounts, and what
    /// is being made, always.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        self.measure_snapshots()?;
        let (mut rows, containers, failed) = self.db().read_consistently("count the usage", |c| {
            Ok((marks::load(c)?, containers::all(c)?, failed_steps::snapshots(c)?))
        })?;
        self.weigh_blobs(&mut rows)?;
        let (mounts, contexts): (Vec<CacheUsage>, Vec<CacheUsage>) =
            self.loose_records()?.into_iter().partition(|record| record.kind == RecordKind::CacheMount);
        let snapshots: Vec<SnapshotId> = containers.iter().map(|container| container.snapshot).collect();
        let (mut counted, mut usage) = count(&rows, &snapshots);
        let failed = of_failed_steps(&rows, &failed, &mut counted);
        usage.containers.bytes += self.container_bytes(&containers)?;
        let (mounts, contexts) = (of_records(&mounts), of_records(&contexts));
        Ok(Usage {
            build_cache: usage.build_cache + contexts + failed,
            volumes: self.volumes_part()?,
            cache_mounts: mounts,
            temporary: self.temporary(&rows, &counted)?,
            // The last of all, since counting may write.
            metadata_bytes: self.metadata_bytes()?,
            ..usage
        })
    }

    /// Counts the layers of committed snapshots that were never counted.
    pub(crate) fn measure_snapshots(&self) -> Result<(), StoreError> {
        let rows = self.db().read("list snapshots", snapshots::all)?;
        let mut sizes = Vec::new();
        for row in rows.iter().filter(|row| !row.active && row.size.is_none()) {
            let dirs = self.layout().snapshot(row.id);
            match disk_usage(&dirs.top) {
                // Who uses a layer is not part of it: that comes and goes.
                Ok(size) => sizes.push((row.id, size.saturating_sub(rest::own(&dirs.users())?))),
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

fn of_records(records: &[CacheUsage]) -> UsagePart {
    let bytes = |in_use| records.iter().filter(|r| r.in_use == in_use).map(|r| r.bytes).sum::<u64>();
    UsagePart {
        total: records.len(),
        active: records.iter().filter(|record| record.in_use).count(),
        bytes: bytes(true) + bytes(false),
        reclaimable: bytes(false),
    }
}

/// What failed steps left and nothing that was counted before needs. Pruning the build cache removes all of it.
fn of_failed_steps(rows: &Rows, failed: &[SnapshotId], counted: &mut HashSet<Node>) -> UsagePart {
    let kept: Vec<Node> = failed.iter().copied().map(Node::Snapshot).collect();
    let own = &reach(rows, &kept) - counted;
    let bytes = own.iter().map(|node| rows.size(node)).sum();
    counted.extend(own);
    UsagePart { total: failed.len(), active: 0, bytes, reclaimable: bytes }
}

/// Counts what has rows. Answers also which nodes were counted.
fn count(rows: &Rows, containers: &[SnapshotId]) -> (HashSet<Node>, Usage) {
    let bytes = |nodes: &HashSet<Node>| nodes.iter().map(|node| rows.size(node)).sum::<u64>();
    let reach = |from: &[Node]| reach(rows, from);
    let held = reach(&rows.held);
    let imaged = reach(&rows.images);
    let contained: HashSet<Node> = containers.iter().copied().map(Node::Snapshot).collect();
    let contained = &reach(&contained.into_iter().collect::<Vec<_>>()) - &imaged;
    let results: Vec<Node> =
        rows.cache.iter().filter_map(|entry| entry.snapshot.map(Node::Snapshot)).collect();
    let cached = &(&reach(&results) - &imaged) - &contained;

    let distinct: HashSet<Node> = rows.images.iter().copied().collect();
    let is_active = |image: &Node| is_active(&reach(&[*image]), &held);
    let (active, idle): (Vec<Node>, Vec<Node>) = distinct.iter().copied().partition(is_active);
    let mut needed = held.clone();
    rows.graph.mark(active.iter().copied(), &mut needed);
    let usage = Usage {
        images: UsagePart {
            total: distinct.len(),
            active: active.len(),
            bytes: bytes(&imaged),
            reclaimable: bytes(&(&reach(&idle) - &needed)),
        },
        containers: UsagePart { total: containers.len(), bytes: bytes(&contained), ..UsagePart::default() },
        build_cache: UsagePart {
            total: rows.cache.len(),
            active: results.iter().filter(|node| imaged.contains(node) || held.contains(node)).count(),
            bytes: bytes(&cached),
            reclaimable: bytes(&(&cached - &held)),
        },
        ..Usage::default()
    };
    (&(&imaged | &contained) | &cached, usage)
}

/// Everything that `from` needs, itself included.
pub(crate) fn reach(rows: &Rows, from: &[Node]) -> HashSet<Node> {
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
///
/// # Errors
/// A directory of it cannot be read.
pub fn disk_usage(path: &Path) -> Result<u64, PathError> {
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

/// Bytes of content of the files below `path`, as they tell them: of those that are other than below `lower`, by size and
/// time, and of all.
pub(crate) fn content_size(path: &Path, lower: Option<&Path>) -> Result<(u64, u64), PathError> {
    let (root, lower) = (RootDir::open(path)?, lower.map(RootDir::open).transpose()?);
    let mut seen = HashSet::new();
    let mut open = vec![PathBuf::new()];
    let (mut changed, mut all) = (0, 0);
    while let Some(path) = open.pop() {
        let Some(dir) = root.open_real_dir(&path)? else { continue };
        let below = lower.as_ref().map(|lower| lower.open_real_dir(&path)).transpose()?.flatten();
        for (name, _) in dir.names()? {
            let Some(stat) = dir.stat(&name)? else { continue };
            if stat.is_dir() {
                open.push(path.join(name));
                continue;
            }
            if stat.kind != Kind::File || stat.links > 1 && !seen.insert(stat.inode) {
                continue;
            }
            all += stat.size;
            let before = below.as_ref().map(|below| below.stat(&name)).transpose()?.flatten();
            if before.is_none_or(|before| (before.size, before.mtime) != (stat.size, stat.mtime)) {
                changed += stat.size;
            }
        }
    }
    Ok((changed, all))
}

#[cfg(test)]
mod tests;
