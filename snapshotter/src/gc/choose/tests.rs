//! Which objects go first, and which may not go.

use std::time::Duration;

use super::super::SpaceLimits;
use super::*;
use crate::mark::Graph;

/// A snapshot of `bytes` on `parent`, with a cache entry that took `cost_ms` and was used at `last_used`.
struct Sample {
    id: i64,
    parent: Option<i64>,
    bytes: u64,
    cost_ms: u64,
    last_used: i64,
}

fn sample(id: i64, parent: Option<i64>, bytes: u64, cost_ms: u64, last_used: i64) -> Sample {
    Sample { id, parent, bytes, cost_ms, last_used }
}

fn node(id: i64) -> Node {
    Node::Snapshot(SnapshotId::from_row(id))
}

fn rows(samples: &[Sample]) -> Rows {
    let mut graph = Graph::default();
    for one in samples {
        if let Some(parent) = one.parent {
            graph.refer(node(one.id), node(parent));
        }
    }
    let entry = |one: &Sample| CacheEntry {
        output: Key::from_bytes([one.id as u8; 32]),
        snapshot: Some(SnapshotId::from_row(one.id)),
        created: 0,
        last_used: one.last_used,
        cost_ms: one.cost_ms,
    };
    Rows {
        graph,
        images: Vec::new(),
        held: Vec::new(),
        cache: samples.iter().map(entry).collect(),
        blobs: HashMap::new(),
        snapshots: samples.iter().map(|one| (SnapshotId::from_row(one.id), one.bytes)).collect(),
    }
}

const MEBIBYTE: u64 = 1 << 20;

fn up_to(max_used: u64) -> Policy {
    let limits = SpaceLimits { max_used: Some(max_used), ..SpaceLimits::NONE };
    Policy { limits, ..Policy::DROP_CACHE }
}

/// What goes at the time 1000, snapshots by number, then mounts.
fn dropped(rows: &Rows, mounts: &[IdleMount], needed: &[i64], policy: Policy) -> (Vec<i64>, Vec<String>) {
    let needed = needed.iter().map(|id| node(*id)).collect();
    let dropped = choose(rows, mounts, &needed, &policy, (1000, u64::MAX));
    assert_eq!(dropped.entries.len(), dropped.snapshots.len());
    (dropped.snapshots.iter().map(|id| id.row()).collect(), dropped.mounts)
}

#[test]
fn the_cheapest_per_byte_goes_first_then_the_oldest() {
    let rows = rows(&[
        sample(1, None, MEBIBYTE, 60_000, 1),
        sample(2, None, 10 * MEBIBYTE, 60_000, 900),
        sample(3, None, 10 * MEBIBYTE, 60_000, 800),
        sample(4, None, MEBIBYTE, 10, 999),
    ]);
    assert_eq!(dropped(&rows, &[], &[], up_to(21 * MEBIBYTE)).0, [4]);
    assert_eq!(dropped(&rows, &[], &[], up_to(20 * MEBIBYTE)).0, [4, 3]);
    assert_eq!(dropped(&rows, &[], &[], up_to(MEBIBYTE)).0, [4, 3, 2]);
    assert_eq!(dropped(&rows, &[], &[], up_to(22 * MEBIBYTE)).0, [0i64; 0]);
}

#[test]
fn what_others_stand_on_goes_after_them() {
    let rows = rows(&[
        sample(1, None, MEBIBYTE, 0, 1),
        sample(2, Some(1), MEBIBYTE, 5000, 2),
        sample(3, Some(1), MEBIBYTE, 9000, 3),
    ]);
    assert_eq!(dropped(&rows, &[], &[], up_to(2 * MEBIBYTE)).0, [2]);
    assert_eq!(dropped(&rows, &[], &[], up_to(0)).0, [2, 3, 1]);
    // 3 is too young to go, and keeps 1.
    let old = Policy { unused_for: Some(Duration::from_millis(998)), ..Policy::DROP_CACHE };
    assert_eq!(dropped(&rows, &[], &[], old).0, [2]);
}

#[test]
fn what_is_needed_anyway_goes_only_with_all() {
    let rows = rows(&[sample(1, None, MEBIBYTE, 0, 1), sample(2, Some(1), MEBIBYTE, 0, 2)]);
    assert_eq!(dropped(&rows, &[], &[1], Policy { all: false, ..Policy::DROP_CACHE }).0, [2]);
    assert_eq!(dropped(&rows, &[], &[1], Policy::DROP_CACHE).0, [2, 1]);
    assert_eq!(dropped(&rows, &[], &[1], up_to(0)).0, [2]);
    assert_eq!(dropped(&rows, &[], &[], Policy::KEEP_CACHE).0, [0i64; 0]);
}

#[test]
fn cache_mounts_count_and_go_unless_in_use() {
    let rows = rows(&[sample(1, None, 10 * MEBIBYTE, 60_000, 1), sample(2, None, 10 * MEBIBYTE, 1, 1)]);
    let mount = |directory: &str, in_use| IdleMount {
        directory: directory.to_owned(),
        bytes: 10 * MEBIBYTE,
        last_used: 5,
        in_use,
    };
    let mounts = [mount("idle", false), mount("used", true)];
    let of = |limit: u64| dropped(&rows, &mounts, &[], up_to(limit * MEBIBYTE));
    assert_eq!(of(40), (vec![], vec![]));
    // Cheaper than a download, then a download, then what took a minute.
    assert_eq!(of(30), (vec![2], vec![]));
    assert_eq!(of(20), (vec![2], vec!["idle".to_owned()]));
    assert_eq!(of(0), (vec![2, 1], vec!["idle".to_owned()]));
}
