//! How much disk every single image and part of the cache takes.

use std::collections::{BTreeMap, HashMap, HashSet};

use base::{Digest, Timestamp};

use super::{is_active, reach};
use crate::db::marks::{self, CacheEntry, Rows};
use crate::db::{from_millis, leases, roots};
use crate::error::StoreError;
use crate::mark::Node;
use crate::snapshot::SnapshotId;
use crate::store::Store;

/// How much disk one image takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// The manifest or index that its names stand for.
    pub target: Digest,
    /// Bytes of everything that it needs.
    pub bytes: u64,
    /// Bytes of what no other image needs.
    pub unique_bytes: u64,
    /// Whether a container, another root or a lease holds its layers.
    pub in_use: bool,
}

/// How much disk one object of the build cache takes: the result of a step, or a cache mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheUsage {
    /// Names it, also among what a collection has dropped.
    pub id: String,
    /// What its users call a cache mount; `None` for a result.
    pub mount: Option<String>,
    /// Bytes of its own files. A directory that several results share counts for the first.
    pub bytes: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used.
    pub last_used: Timestamp,
    /// How long it took to make, in milliseconds; `None` when nobody measured it.
    pub cost_ms: Option<u64>,
    /// Whether an image needs it as well.
    pub shared: bool,
    /// Whether a live process or a container uses it.
    pub in_use: bool,
}

/// The single parts of what the store holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageDetails {
    /// Every image, once, by digest.
    pub images: Vec<ImageUsage>,
    /// Results in the order in which they were made, then cache mounts, the least recently used first.
    pub cache: Vec<CacheUsage>,
}

impl Store {
    /// Counts what the store holds, part by part.
    pub fn usage_details(&self) -> Result<UsageDetails, StoreError> {
        self.measure_snapshots()?;
        let live = self.live_leases()?;
        let (rows, held) = self.db().read_consistently("count the usage", |c| {
            let mut held = leases::held_by(c, &live)?;
            held.extend(roots::all(c)?);
            Ok((marks::load(c)?, held))
        })?;
        let held: Vec<Node> = held.into_iter().map(Node::Snapshot).collect();
        let held = reach(&rows, &held);
        let mut cache = results(&rows, &held);
        cache.extend(self.cache_mounts()?.into_iter().map(|mount| CacheUsage {
            id: mount.directory,
            mount: Some(mount.id),
            bytes: mount.size,
            created_at: mount.created_at,
            last_used: mount.last_used,
            cost_ms: None,
            shared: false,
            in_use: mount.in_use,
        }));
        Ok(UsageDetails { images: images(&rows, &held), cache })
    }

    fn live_leases(&self) -> Result<Vec<String>, StoreError> {
        let mut live = Vec::new();
        for lease in self.db().read("list leases", leases::mentioned)? {
            if self.is_lease_live(&lease)? {
                live.push(lease);
            }
        }
        Ok(live)
    }
}

fn images(rows: &Rows, held: &HashSet<Node>) -> Vec<ImageUsage> {
    let distinct: BTreeMap<Node, HashSet<Node>> =
        rows.images.iter().map(|image| (*image, reach(rows, &[*image]))).collect();
    let mut users: HashMap<Node, usize> = HashMap::new();
    for node in distinct.values().flatten() {
        *users.entry(*node).or_default() += 1;
    }
    let usage = |(image, needed): (&Node, &HashSet<Node>)| {
        let Node::Blob(target) = *image else { return None };
        let bytes = |nodes: &mut dyn Iterator<Item = &Node>| nodes.map(|node| rows.size(node)).sum();
        Some(ImageUsage {
            target,
            bytes: bytes(&mut needed.iter()),
            unique_bytes: bytes(&mut needed.iter().filter(|node| users.get(node) == Some(&1))),
            in_use: is_active(needed, held),
        })
    };
    distinct.iter().filter_map(usage).collect()
}

fn results(rows: &Rows, held: &HashSet<Node>) -> Vec<CacheUsage> {
    let imaged = reach(rows, &rows.images);
    let mut entries: BTreeMap<SnapshotId, Vec<&CacheEntry>> = BTreeMap::new();
    for entry in &rows.cache {
        if let Some(id) = entry.snapshot {
            entries.entry(id).or_default().push(entry);
        }
    }
    let usage = |(id, entries): (&SnapshotId, &Vec<&CacheEntry>)| {
        let node = Node::Snapshot(*id);
        let cost = entries.iter().map(|entry| entry.cost_ms).max().unwrap_or(0);
        let time = |times: Option<i64>| from_millis(times.unwrap_or(0));
        CacheUsage {
            id: id.to_string(),
            mount: None,
            bytes: rows.size(&node),
            created_at: time(entries.iter().map(|entry| entry.created).min()),
            last_used: time(entries.iter().map(|entry| entry.last_used).max()),
            cost_ms: (cost > 0).then_some(cost),
            shared: imaged.contains(&node),
            in_use: held.contains(&node),
        }
    };
    entries.iter().map(usage).collect()
}
