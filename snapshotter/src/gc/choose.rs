//! Which parts of the cache a collection drops. Pure.
//!
//! What is dropped as a whole is an *object*: all entries of one snapshot, an entry without files, or a
//! cache mount. A snapshot keeps those it was built on, so dropping one that others stand on frees nothing
//! and costs later: only objects that nothing in the cache stands on may go, and then those below them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use base::Key;

use super::Policy;
use crate::db::marks::{CacheEntry, Rows};
use crate::db::to_millis;
use crate::mark::Node;
use crate::record::{CacheUsage, RecordKind};
use crate::snapshot::SnapshotId;
use crate::usage::{record, results};

/// What the smallest object is taken to occupy, in bytes, so that one without files has a price as well.
const LEAST_BYTES: u64 = 4096;

/// How fast what is no snapshot is taken to be made again, in bytes per millisecond (10 MB/s, a download):
/// nobody knows how long that takes.
const REFILL_SPEED: u64 = 10_000;

/// What goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Cache entries.
    pub(super) entries: Vec<Key>,
    /// The snapshots whose entries these are.
    pub(super) snapshots: Vec<SnapshotId>,
    /// What is no snapshot, by kind and id.
    pub(super) loose: Vec<(RecordKind, String)>,
}

/// Something that is dropped as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Result(SnapshotId),
    /// An entry whose step left no files.
    Empty(Key),
    /// What is no snapshot.
    Loose(RecordKind, String),
}

/// What decides which object goes first: milliseconds to make a mebibyte of it again, then last use.
type Rank = (u64, i64, Object);

/// What may not go, and why.
#[derive(Debug, Clone, Default)]
pub(super) struct Needed {
    /// What images need.
    pub(super) imaged: HashSet<Node>,
    /// What named roots and live leases need.
    pub(super) held: HashSet<Node>,
}

impl Needed {
    fn contains(&self, node: &Node) -> bool {
        self.imaged.contains(node) || self.held.contains(node)
    }
}

/// What `policies` drop, one after the other. `loose` are the records that are no snapshots; `free` is how
/// many bytes of the file system are free.
pub(super) fn choose(
    rows: &Rows,
    loose: &[CacheUsage],
    needed: &Needed,
    policies: &[Policy],
    (now, free): (i64, u64),
) -> Dropped {
    let mut cache = Cache::new(rows, loose, needed);
    let before = cache.used;
    for policy in policies {
        let Some(deadline) = policy.deadline(now) else { continue };
        let keep = policy.limits.keep(cache.used, free.saturating_add(before - cache.used));
        let round = Round {
            policy,
            deadline,
            keep,
            // What frees nothing does not help to get below a limit.
            drop_needed: policy.all && keep.is_none(),
        };
        cache.apply(&round);
    }
    cache.dropped
}

/// One policy, now.
struct Round<'a> {
    policy: &'a Policy,
    /// The time of last use up to which something may go.
    deadline: i64,
    /// How many bytes may stay; `None` to drop all that may go.
    keep: Option<u64>,
    drop_needed: bool,
}

/// The state of choosing.
struct Cache<'a> {
    rows: &'a Rows,
    needed: &'a Needed,
    results: BTreeMap<SnapshotId, Vec<&'a CacheEntry>>,
    empty: BTreeMap<Key, &'a CacheEntry>,
    loose: BTreeMap<(RecordKind, String), &'a CacheUsage>,
    /// How many kept nodes of the cache need a node.
    users: HashMap<Node, usize>,
    /// Bytes that the cache takes now.
    used: u64,
    /// What may go now, the cheapest on top.
    offered: BinaryHeap<Reverse<Rank>>,
    dropped: Dropped,
}

impl<'a> Cache<'a> {
    fn new(rows: &'a Rows, loose: &'a [CacheUsage], needed: &'a Needed) -> Self {
        let results = results(rows);
        let mut cached = HashSet::new();
        rows.graph.mark(results.keys().copied().map(Node::Snapshot), &mut cached);
        let mut users = HashMap::new();
        for below in cached.iter().flat_map(|node| rows.graph.needs(node)) {
            *users.entry(*below).or_default() += 1;
        }
        let own = cached.iter().filter(|node| !needed.contains(node)).map(|node| rows.size(node));
        let used = own.sum::<u64>() + loose.iter().map(|record| record.bytes).sum::<u64>();
        let empty = rows.cache.iter().filter(|entry| entry.snapshot.is_none());
        Self {
            rows,
            needed,
            results,
            empty: empty.map(|entry| (entry.output, entry)).collect(),
            loose: loose.iter().map(|record| ((record.kind, record.id.clone()), record)).collect(),
            users,
            used,
            offered: BinaryHeap::new(),
            dropped: Dropped::default(),
        }
    }

    /// Offers everything that may go at once, and drops the cheapest until the policy is content.
    fn apply(&mut self, round: &Round<'_>) {
        self.offered.clear();
        let free: Vec<SnapshotId> =
            self.results.keys().copied().filter(|id| !self.has_users(&Node::Snapshot(*id))).collect();
        free.into_iter().for_each(|id| self.offer(round, id));
        self.offer_empty(round);
        self.offer_loose(round);
        while round.keep.is_none_or(|keep| self.used > keep) {
            let Some(Reverse((_, _, object))) = self.offered.pop() else { break };
            self.drop_object(round, object);
        }
    }

    fn offer_empty(&mut self, round: &Round<'_>) {
        // Nothing is known of them that one could filter by.
        if !round.policy.filters.is_empty() {
            return;
        }
        for entry in self.empty.values().filter(|entry| entry.last_used <= round.deadline) {
            let object = Object::Empty(entry.output);
            self.offered.push(Reverse((price(entry.cost_ms, 0), entry.last_used, object)));
        }
    }

    fn offer_loose(&mut self, round: &Round<'_>) {
        for record in self.loose.values().filter(|record| !record.in_use) {
            let last_used = to_millis(record.last_used);
            if last_used <= round.deadline && round.policy.fits(|| (*record).clone()) {
                let price = price(record.bytes / REFILL_SPEED, record.bytes);
                let object = Object::Loose(record.kind, record.id.clone());
                self.offered.push(Reverse((price, last_used, object)));
            }
        }
    }

    /// Offers a result that nothing in the cache stands on, if the policy lets it go.
    fn offer(&mut self, round: &Round<'_>, id: SnapshotId) {
        let node = Node::Snapshot(id);
        let Some(entries) = self.results.get(&id) else { return };
        let last_used = entries.iter().map(|entry| entry.last_used).max().unwrap_or(0);
        if last_used > round.deadline || (self.needed.contains(&node) && !round.drop_needed) {
            return;
        }
        let record = || record(self.rows, id, entries, &self.needed.imaged, &self.needed.held);
        if !round.policy.fits(record) {
            return;
        }
        let cost = entries.iter().map(|entry| entry.cost_ms).max().unwrap_or(0);
        let blobs = self.rows.graph.needs(&node).iter().filter(|below| matches!(below, Node::Blob(_)));
        let bytes = self.size(&node) + blobs.map(|blob| self.size(blob)).sum::<u64>();
        self.offered.push(Reverse((price(cost, bytes), last_used, Object::Result(id))));
    }

    fn drop_object(&mut self, round: &Round<'_>, object: Object) {
        match object {
            Object::Empty(output) => {
                self.empty.remove(&output);
                self.dropped.entries.push(output);
            }
            Object::Loose(kind, id) => {
                let key = (kind, id);
                let record = self.loose.remove(&key);
                self.used = self.used.saturating_sub(record.map_or(0, |record| record.bytes));
                self.dropped.loose.push(key);
            }
            Object::Result(id) => {
                let entries = self.results.remove(&id).unwrap_or_default();
                self.dropped.entries.extend(entries.iter().map(|entry| entry.output));
                self.dropped.snapshots.push(id);
                self.release(round, Node::Snapshot(id));
            }
        }
    }

    /// Nothing needs `node` any more: what only it stood on goes, or is offered, too.
    fn release(&mut self, round: &Round<'_>, node: Node) {
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
                    Node::Snapshot(id) if self.results.contains_key(id) => self.offer(round, *id),
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
