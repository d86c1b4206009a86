//! What a collection keeps and what it removes, on small stores.

use super::*;
use crate::cache::CacheValue;
use crate::snapshot::CommitInfo;
use crate::test_support::{TestStore, key};

#[test]
fn what_a_lease_holds_stays_and_then_goes() {
    let mut fixture = TestStore::new();
    let base = fixture.snapshot(None, "a");
    let top = fixture.snapshot(Some(base), "b");
    let blob = fixture.store.put_blob(&fixture.lease, b"blob").unwrap();
    assert_eq!(fixture.store.gc(Policy::DROP_CACHE).unwrap(), Freed::default());
    assert!(fixture.exists(top) && fixture.store.open_blob(&blob.digest).is_ok());
    fixture.release();
    let freed = fixture.store.gc(Policy::DROP_CACHE).unwrap();
    assert_eq!((freed.snapshots, freed.blobs), (2, 1));
    assert!(freed.bytes > 0);
    assert!(!fixture.exists(top) && fixture.store.open_blob(&blob.digest).is_err());
    assert!(fixture.store.check().unwrap().is_clean());
}

#[test]
fn an_image_keeps_its_documents_layers_and_snapshots() {
    let mut fixture = TestStore::new();
    let base = fixture.snapshot(None, "a");
    let manifest = fixture.image("docker.io/library/a:1", base);
    let other = fixture.snapshot(None, "other");
    fixture.release();
    let freed = fixture.store.gc(Policy::DROP_CACHE).unwrap();
    assert_eq!((freed.snapshots, freed.blobs), (1, 0));
    assert!(fixture.exists(base) && !fixture.exists(other));
    assert!(fixture.store.open_blob(&manifest.digest).is_ok());
    fixture.store.untag("docker.io/library/a:1").unwrap();
    let freed = fixture.store.gc(Policy::DROP_CACHE).unwrap();
    assert_eq!((freed.snapshots, freed.blobs), (1, 3));
    assert!(fixture.store.check().unwrap().is_clean());
}

#[test]
fn a_named_root_keeps_its_chain_until_removed() {
    let mut fixture = TestStore::new();
    let base = fixture.snapshot(None, "a");
    let top = fixture.snapshot(Some(base), "b");
    fixture.store.add_root("container", "c1", top).unwrap();
    fixture.release();
    fixture.store.gc(Policy::DROP_CACHE).unwrap();
    assert_eq!(fixture.store.chain(top).unwrap(), [base, top]);
    assert!(fixture.store.remove_root("container", "c1").unwrap());
    assert_eq!(fixture.store.gc(Policy::DROP_CACHE).unwrap().snapshots, 2);
    assert!(matches!(fixture.store.add_root("container", "c1", top), Err(StoreError::NoSuchSnapshot { .. })));
}

#[test]
fn the_cache_is_kept_by_size_newest_first() {
    let mut fixture = TestStore::new();
    let big = |fixture: &TestStore, name: &str| {
        let active = fixture.store.prepare(&fixture.lease, None).unwrap();
        std::fs::write(active.layer_dir().join(name), vec![1; 100_000]).unwrap();
        active.commit(CommitInfo::default()).unwrap()
    };
    let snapshots = [big(&fixture, "a"), big(&fixture, "b")];
    for (number, snapshot) in (1..).zip(snapshots) {
        let value = CacheValue { snapshot: Some(snapshot), ..CacheValue::default() };
        fixture.store.cache_put(&key(number), value).unwrap();
        fixture.store.cache_link(&key(100), 0, &key(number + 50), &key(number)).unwrap();
    }
    fixture.release();
    assert_eq!(fixture.store.gc(Policy::KEEP_CACHE).unwrap(), Freed::default());
    let limits = SpaceLimits { max_used: Some(150_000), ..SpaceLimits::NONE };
    let policy = Policy { limits, ..Policy::DROP_CACHE };
    let freed = fixture.store.gc(policy).unwrap();
    assert_eq!((freed.snapshots, freed.cache_entries), (1, 1));
    let kept: Vec<u8> = [1, 2]
        .into_iter()
        .filter(|n| fixture.store.cache_get(&fixture.lease, &key(*n)).unwrap().is_some())
        .collect();
    assert_eq!(kept.len(), 1);
    let link = |n: u8| fixture.store.cache_lookup_links(&key(100), &[(0, vec![key(n + 50)])]).unwrap();
    assert_eq!(link(kept[0]), [key(kept[0])]);
    assert!(link(3 - kept[0]).is_empty());
}

#[test]
fn leftovers_of_the_dead_are_removed() {
    let fixture = TestStore::new();
    let layout = fixture.store.layout();
    let name = crate::store::new_name().unwrap();
    std::fs::write(layout.lease(&name), b"1 dead\n").unwrap();
    std::fs::write(layout.ingest(&name, 0), b"half").unwrap();
    let orphan = layout.blob(&Digest::of(b"no row"));
    std::fs::create_dir(orphan.parent().unwrap()).unwrap();
    std::fs::write(orphan, b"no row").unwrap();
    std::fs::create_dir_all(layout.snapshot(SnapshotId::from_row(999)).fs()).unwrap();
    std::fs::create_dir(layout.trashed(&name, 1)).unwrap();
    let writer = fixture.store.ingest(&fixture.lease).unwrap();
    let findings = fixture.store.check().unwrap();
    assert!(findings.is_sound());
    assert_eq!((findings.without_row.len(), findings.leftovers.len()), (2, 3));
    fixture.store.gc(Policy::KEEP_CACHE).unwrap();
    assert!(fixture.store.check().unwrap().is_clean());
    writer.finish(None).unwrap();
    drop(fixture.dir);
}

#[test]
fn links_that_lead_on_to_a_value_stay() {
    let mut fixture = TestStore::new();
    let id = fixture.snapshot(None, "a");
    fixture.store.cache_link(&key(1), 0, &key(2), &key(3)).unwrap();
    fixture.store.cache_link(&key(4), 0, &key(3), &key(5)).unwrap();
    fixture.store.cache_link(&key(4), 0, &key(9), &key(8)).unwrap();
    fixture.store.cache_put(&key(5), CacheValue { snapshot: Some(id), ..CacheValue::default() }).unwrap();
    fixture.release();
    fixture.store.gc(Policy::KEEP_CACHE).unwrap();
    let found = |op, input| fixture.store.cache_lookup_links(&key(op), &[(0, vec![key(input)])]).unwrap();
    assert_eq!((found(1, 2), found(4, 3), found(4, 9)), (vec![key(3)], vec![key(5)], vec![]));
}

#[test]
fn exactly_what_went_is_counted() {
    let mut fixture = TestStore::new();
    let kept = fixture.snapshot(None, "kept");
    fixture.image("kept", kept);
    let gone = fixture.snapshot(Some(kept), "gone");
    fixture.store.cache_put(&key(1), CacheValue { snapshot: Some(gone), ..CacheValue::default() }).unwrap();
    fixture.release();
    let disk = |part: &str| crate::usage::disk_usage(&fixture.root().join(part)).unwrap();
    let all = || ["snapshots-v1", "blobs-v1", "trash", "ingest"].map(disk).iter().sum::<u64>();
    let (before, usage) = (all(), fixture.store.usage().unwrap());
    let freed = fixture.store.gc(Policy { all: false, ..Policy::DROP_CACHE }).unwrap();
    assert_eq!(freed.objects, [gone.to_string()]);
    assert!(freed.bytes > 0);
    assert_eq!(freed.bytes, before - all());
    assert_eq!(freed.bytes, usage.build_cache.reclaimable);
}

#[test]
fn an_automatic_collection_is_due_once_in_a_while() {
    let fixture = TestStore::new();
    let store = &fixture.store;
    assert!(store.is_collection_due(60_000).unwrap());
    assert!(store.begin_collection(60_000).unwrap());
    assert!(!store.is_collection_due(60_000).unwrap() && !store.begin_collection(60_000).unwrap());
    assert!(store.begin_collection(0).unwrap());
    assert!(is_due(Some("1000"), 61_000, 60_000) && !is_due(Some("1000"), 60_999, 60_000));
    assert!(is_due(Some("99999"), 61_000, 60_000) && is_due(Some("?"), 0, 60_000));
}
