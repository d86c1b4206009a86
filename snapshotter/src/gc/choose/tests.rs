//! Which objects go first, and which may not go.

use std::time::Duration;

use super::super::SpaceLimits;
use super::*;
use crate::mark::Graph;
use crate::record::RecordFilter;

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
        kind: if one.id % 2 == 0 { RecordKind::GitCheckout } else { RecordKind::Regular },
        description: format!("step {}", one.id),
        uses: 0,
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

/// What goes at the time 1000, snapshots by number, then cache mounts.
fn dropped(rows: &Rows, mounts: &[CacheUsage], needed: &[i64], policy: Policy) -> (Vec<i64>, Vec<String>) {
    all_dropped(rows, mounts, needed, &[policy])
}

fn all_dropped(
    rows: &Rows,
    mounts: &[CacheUsage],
    needed: &[i64],
    policies: &[Policy],
) -> (Vec<i64>, Vec<String>) {
    let needed = Needed { imaged: needed.iter().map(|id| node(*id)).collect(), held: HashSet::new() };
    let dropped = choose(rows, mounts, &needed, policies, (1000, 0));
    assert_eq!(dropped.entries.len(), dropped.snapshots.len());
    let loose = dropped.loose.into_iter().map(|(_, id)| id).collect();
    (dropped.snapshots.iter().map(|id| id.row()).collect(), loose)
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
    let mount = |id: &str, in_use| cache_mount(id, 10 * MEBIBYTE, in_use);
    let mounts = [mount("idle", false), mount("used", true)];
    let of = |limit: u64| dropped(&rows, &mounts, &[], up_to(limit * MEBIBYTE));
    assert_eq!(of(40), (vec![], vec![]));
    // Cheaper than a download, then a download, then what took a minute.
    assert_eq!(of(30), (vec![2], vec![]));
    assert_eq!(of(20), (vec![2], vec!["idle".to_owned()]));
    assert_eq!(of(0), (vec![2, 1], vec!["idle".to_owned()]));
}

fn cache_mount(id: &str, bytes: u64, in_use: bool) -> CacheUsage {
    let used = base::Timestamp::from_millisecond(5).unwrap();
    CacheUsage {
        id: id.to_owned(),
        kind: RecordKind::CacheMount,
        description: String::new(),
        parents: Vec::new(),
        bytes,
        created_at: used,
        last_used: used,
        uses: None,
        cost_ms: None,
        shared: false,
        in_use,
    }
}

fn only(filter: &str) -> Policy {
    Policy { filters: vec![RecordFilter::parse(filter).unwrap()], ..Policy::DROP_CACHE }
}

#[test]
fn filters_choose_by_what_a_record_is() {
    let rows = rows(&[
        sample(1, None, MEBIBYTE, 0, 1),
        sample(2, Some(1), MEBIBYTE, 0, 2),
        sample(3, None, MEBIBYTE, 0, 3),
    ]);
    let mounts = [cache_mount("m", 1, false)];
    let of = |filter: &str| dropped(&rows, &mounts, &[], only(filter));
    assert_eq!(of("type==exec.cachemount"), (vec![], vec!["m".to_owned()]));
    assert_eq!(of("type==source.git.checkout"), (vec![2], vec![]));
    assert_eq!(of("description==step 3"), (vec![3], vec![]));
    assert_eq!(of("mutable").1, ["m"]);
    // 2 stands on it and stays.
    assert_eq!(of("id==1"), (vec![], vec![]));
    assert_eq!(dropped(&rows, &[], &[3], only("shared")).0, [3]);
    let either = Policy {
        filters: ["id==3", "id==2"].map(|filter| RecordFilter::parse(filter).unwrap()).into(),
        ..Policy::DROP_CACHE
    };
    assert_eq!(dropped(&rows, &[], &[], either).0, [2, 3]);
}

#[test]
fn policies_follow_one_another_until_there_is_room() {
    let rows = rows(&[sample(1, None, 10 * MEBIBYTE, 50, 1), sample(2, None, 10 * MEBIBYTE, 1, 999)]);
    let mounts = [cache_mount("m", 10 * MEBIBYTE, false)];
    let limited = |limit: u64, policy: Policy| Policy { limits: up_to(limit * MEBIBYTE).limits, ..policy };
    let mounts_first = |limit| limited(limit, only("type==exec.cachemount"));
    let old =
        |limit| limited(limit, Policy { unused_for: Some(Duration::from_millis(500)), ..Policy::DROP_CACHE });
    let of = |policies: &[Policy]| all_dropped(&rows, &mounts, &[], policies);
    assert_eq!(of(&[mounts_first(30), old(30)]), (vec![], vec![]));
    assert_eq!(of(&[mounts_first(25), old(25)]), (vec![], vec!["m".to_owned()]));
    assert_eq!(of(&[mounts_first(25), old(15)]), (vec![1], vec!["m".to_owned()]));
    assert_eq!(of(&[mounts_first(0), old(0)]), (vec![1], vec!["m".to_owned()]));
    assert_eq!(of(&[old(0), up_to(5 * MEBIBYTE)]), (vec![1, 2], vec!["m".to_owned()]));
    // What one policy frees, the next one need not.
    let free = |min_free| Policy {
        limits: SpaceLimits { min_free: Some(min_free * MEBIBYTE), ..SpaceLimits::NONE },
        ..only("type==exec.cachemount")
    };
    assert_eq!(of(&[free(10), Policy { filters: Vec::new(), ..free(10) }]), (vec![], vec!["m".to_owned()]));
}
