//! How much disk every single image and part of the cache takes.

use std::collections::{BTreeMap, HashMap, HashSet};

use base::Digest;

use super::{is_active, reach};
use crate::db::marks::{self, CacheEntry, Rows};
use crate::db::{containers, from_millis, leases, roots};
use crate::error::StoreError;
use crate::mark::Node;
use crate::record::CacheUsage;
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

/// The single parts of what the store holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageDetails {
    /// Every image, once, by digest.
    pub images: Vec<ImageUsage>,
    /// Results in the order in which they were made, then cache mounts and what is remembered of contexts.
    pub cache: Vec<CacheUsage>,
}

impl Store {
    /// Counts what the store holds, part by part.
    pub fn usage_details(&self) -> Result<UsageDetails, StoreError> {
        self.measure_snapshots()?;
        let live = self.live_leases()?;
        let (mut rows, held) = self.db().read_consistently("count the usage", |c| {
            let mut held = leases::held_by(c, &live)?;
            held.extend(roots::all(c)?);
            held.extend(containers::all(c)?.into_iter().map(|container| container.snapshot));
            held.extend(containers::shown_images(c)?);
            Ok((marks::load(c)?, held))
        })?;
        self.weigh_blobs(&mut rows)?;
        let held: Vec<Node> = held.into_iter().map(Node::Snapshot).collect();
        let held = reach(&rows, &held);
        let imaged = reach(&rows, &rows.images);
        let mut cache: Vec<CacheUsage> =
            results(&rows).iter().map(|(id, entries)| record(&rows, *id, entries, &imaged, &held)).collect();
        cache.extend(self.loose_records()?);
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

/// The entries of the cache by the snapshots that they lead to.
pub(crate) fn results(rows: &Rows) -> BTreeMap<SnapshotId, Vec<&CacheEntry>> {
    let mut entries: BTreeMap<SnapshotId, Vec<&CacheEntry>> = BTreeMap::new();
    for entry in &rows.cache {
        if let Some(id) = entry.snapshot {
            entries.entry(id).or_default().push(entry);
        }
    }
    entries
}

/// What people see of a snapshot with these entries. `imaged` is what images need, `held` what somebody uses.
pub(crate) fn record(
    rows: &Rows,
    id: SnapshotId,
    entries: &[&CacheEntry],
    imaged: &HashSet<Node>,
    held: &HashSet<Node>,
) -> CacheUsage {
    let node = Node::Snapshot(id);
    let cost = entries.iter().map(|entry| entry.cost_ms).max().unwrap_or(0);
    let time = |times: Option<i64>| from_millis(times.unwrap_or(0));
    // Other steps may have come to the same result; the first one made it.
    let described = entries.iter().filter(|entry| !entry.description.is_empty());
    let first = described.min_by_key(|entry| entry.created);
    let below = rows.graph.needs(&node).iter();
    CacheUsage {
        id: id.to_string(),
        kind: first.map(|entry| entry.kind).unwrap_or_default(),
        description: first.map(|entry| entry.description.clone()).unwrap_or_default(),
        parents: below
            .filter_map(|node| match node {
                Node::Snapshot(id) => Some(id.to_string()),
                Node::Blob(_) => None,
            })
            .collect(),
        bytes: rows.size(&node),
        created_at: time(entries.iter().map(|entry| entry.created).min()),
        last_used: time(entries.iter().map(|entry| entry.last_used).max()),
        uses: Some(entries.iter().map(|entry| entry.uses).sum()),
        cost_ms: (cost > 0).then_some(cost),
        shared: imaged.contains(&node),
        in_use: held.contains(&node),
    }
}
