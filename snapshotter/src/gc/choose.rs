//! Which parts of the cache a collection drops. Pure.
//!
//! What is dropped as a whole is an *object*: all entries of one snapshot, an entry without files, or a
//! cache mount. A snapshot keeps those it was built on, so dropping one that others stand on frees nothing
//! and costs later: only objects that nothing in the cache stands on may go, and then those below them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use base::Key;

use super::Policy;
use crate::db::marks::{CacheEntry, Rows};
use crate::mark::Node;
use crate::snapshot::SnapshotId;

/// What the smallest object is taken to occupy, in bytes, so that one without files has a price as well.
const LEAST_BYTES: u64 = 4096;

/// How fast a cache mount is taken to be filled again, in bytes per millisecond (10 MB/s, a download):
/// nobody knows how long that takes.
const REFILL_SPEED: u64 = 10_000;

/// A cache mount, as the policy sees it.
#[derive(Debug, Clone)]
pub(super) struct IdleMount {
    pub(super) directory: String,
    pub(super) bytes: u64,
    /// Milliseconds since 1970.
    pub(super) last_used: i64,
    pub(super) in_use: bool,
}

/// What goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Cache entries.
    pub(super) entries: Vec<Key>,
    /// The snapshots whose entries these are.
    pub(super) snapshots: Vec<SnapshotId>,
    /// Directories of cache mounts.
    pub(super) mounts: Vec<String>,
}

/// Something that is dropped as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Result(SnapshotId),
    /// An entry whose step left no files.
    Empty(Key),
    Mount(String),
}

/// What decides which object goes first: milliseconds to make a mebibyte of it again, then last use.
type Rank = (u64, i64, Object);

/// The entries of one snapshot, taken together.
#[derive(Default)]
struct Built {
    outputs: Vec<Key>,
    last_used: i64,
    cost_ms: u64,
}

impl Built {
    fn add(&mut self, entry: &CacheEntry) {
        self.outputs.push(entry.output);
        self.last_used = self.last_used.max(entry.last_used);
        self.cost_ms = self.cost_ms.max(entry.cost_ms);
    }
}

/// What `policy` drops. `needed` is what images, roots and leases need; `free` is how many bytes of the
/// file system are free.
pub(super) fn choose(
    rows: &Rows,
    mounts: &[IdleMount],
    needed: &HashSet<Node>,
    policy: &Policy,
    (now, free): (i64, u64),
) -> Dropped {
    let Some(deadline) = policy.deadline(now) else { return Dropped::default() };
    let mut cache = Cache::new(rows, needed);
    let used = cache.used + mounts.iter().map(|mount| mount.bytes).sum::<u64>();
    let keep = policy.limits.keep(used, free);
    cache.used = used;
    cache.deadline = deadline;
    // What frees nothing does not help to get below a limit.
    cache.drop_needed = policy.all && keep.is_none();
    cache.offer_all(mounts);
    cache.drop_down_to(keep, mounts)
}

/// The state of choosing.
struct Cache<'a> {
    rows: &'a Rows,
    needed: &'a HashSet<Node>,
    results: HashMap<SnapshotId, Built>,
    /// How many kept nodes of the cache need a node.
    users: HashMap<Node, usize>,
    /// Bytes that the cache takes now.
    used: u64,
    deadline: i64,
    drop_needed: bool,
    /// What may go now, the cheapest on top.
    offered: BinaryHeap<Reverse<Rank>>,
}

impl<'a> Cache<'a> {
    fn new(rows: &'a Rows, needed: &'a HashSet<Node>) -> Self {
        let mut results: HashMap<SnapshotId, Built> = HashMap::new();
        for entry in &rows.cache {
            if let Some(snapshot) = entry.snapshot {
                results.entry(snapshot).or_default().add(entry);
            }
        }
        let mut cached = HashSet::new();
        rows.graph.mark(results.keys().copied().map(Node::Snapshot), &mut cached);
        let mut users = HashMap::new();
        for below in cached.iter().flat_map(|node| rows.graph.needs(node)) {
            *users.entry(*below).or_default() += 1;
        }
        let used = cached.difference(needed).map(|node| rows.size(node)).sum();
        let (deadline, drop_needed, offered) = (i64::MIN, false, BinaryHeap::new());
        Self { rows, needed, results, users, used, deadline, drop_needed, offered }
    }

    /// Offers everything that may go at once.
    fn offer_all(&mut self, mounts: &[IdleMount]) {
        let free: Vec<SnapshotId> =
            self.results.keys().copied().filter(|id| !self.has_users(&Node::Snapshot(*id))).collect();
        free.into_iter().for_each(|id| self.offer(id));
        let empty = self.rows.cache.iter().filter(|entry| entry.snapshot.is_none());
        for entry in empty.filter(|entry| entry.last_used <= self.deadline) {
            let rank = price(entry.cost_ms, 0);
            self.offered.push(Reverse((rank, entry.last_used, Object::Empty(entry.output))));
        }
        for mount in mounts.iter().filter(|mount| !mount.in_use && mount.last_used <= self.deadline) {
            let rank = price(mount.bytes / REFILL_SPEED, mount.bytes);
            self.offered.push(Reverse((rank, mount.last_used, Object::Mount(mount.directory.clone()))));
        }
    }

    /// Offers a result that nothing in the cache stands on, if the policy lets it go.
    fn offer(&mut self, id: SnapshotId) {
        let node = Node::Snapshot(id);
        let Some(result) = self.results.get(&id) else { return };
        if result.last_used > self.deadline || (self.needed.contains(&node) && !self.drop_needed) {
            return;
        }
        let blobs = self.rows.graph.needs(&node).iter().filter(|below| matches!(below, Node::Blob(_)));
        let bytes = self.size(&node) + blobs.map(|blob| self.size(blob)).sum::<u64>();
        self.offered.push(Reverse((price(result.cost_ms, bytes), result.last_used, Object::Result(id))));
    }

    /// Drops what was offered, the cheapest first, until no more than `keep` bytes are left.
    fn drop_down_to(mut self, keep: Option<u64>, mounts: &[IdleMount]) -> Dropped {
        let sizes: HashMap<&str, u64> =
            mounts.iter().map(|mount| (mount.directory.as_str(), mount.bytes)).collect();
        let mut dropped = Dropped::default();
        while keep.is_none_or(|keep| self.used > keep) {
            let Some(Reverse((_, _, object))) = self.offered.pop() else { break };
            match object {
                Object::Empty(output) => dropped.entries.push(output),
                Object::Mount(directory) => {
                    let bytes = sizes.get(directory.as_str()).copied().unwrap_or(0);
                    self.used = self.used.saturating_sub(bytes);
                    dropped.mounts.push(directory);
                }
                Object::Result(id) => {
                    let result = self.results.remove(&id).unwrap_or_default();
                    dropped.entries.extend(result.outputs);
                    dropped.snapshots.push(id);
                    self.release(Node::Snapshot(id));
                }
            }
        }
        dropped
    }

    /// Nothing needs `node` any more: what only it stood on goes, or is offered, too.
    fn release(&mut self, node: Node) {
        let mut gone = vec![node];
        while let Some(node) = gone.pop() {
            self.used = self.used.saturating_sub(self.size(&node));
            for below in self.rows.graph.needs(&node) {
                let users = self.users.entry(*below).or_default();
                *users = users.saturating_sub(1);
                if *users > 0 {
                    continue;
                }
                match below {
                    Node::Snapshot(id) if self.results.contains_key(id) => self.offer(*id),
                    _ => gone.push(*below),
                }
            }
        }
    }

    fn has_users(&self, node: &Node) -> bool {
        self.users.get(node).is_some_and(|users| *users > 0)
    }

    /// Bytes that are free when `node` goes.
    fn size(&self, node: &Node) -> u64 {
        if self.needed.contains(node) { 0 } else { self.rows.size(node) }
    }
}

/// Milliseconds for each mebibyte.
fn price(cost_ms: u64, bytes: u64) -> u64 {
    let price = u128::from(cost_ms) * (1 << 20) / u128::from(bytes.max(LEAST_BYTES));
    u64::try_from(price).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
