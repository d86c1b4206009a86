//! Cache rows and key-value rows.

use super::*;
use crate::gc::Policy;
use crate::test_support::{TestStore, key};

#[test]
fn links_must_match_in_every_slot() {
    let test = TestStore::new();
    let link = |slot, input, output| test.store.cache_link(&key(1), slot, &key(input), &key(output)).unwrap();
    link(0, 10, 100);
    link(0, 11, 101);
    link(1, 20, 100);
    link(1, 20, 101);
    link(1, 21, 102);
    let look = |slots: &[(u32, Vec<Key>)]| test.store.cache_lookup_links(&key(1), slots).unwrap();
    assert_eq!(look(&[(0, vec![key(10)])]), [key(100)]);
    assert_eq!(look(&[(0, vec![key(10), key(11)]), (1, vec![key(20)])]), [key(100), key(101)]);
    assert_eq!(look(&[(0, vec![key(11)]), (1, vec![key(20), key(21)])]), [key(101)]);
    assert_eq!(look(&[(0, vec![key(10)]), (1, vec![key(21)])]), []);
    assert_eq!(look(&[(0, vec![key(10)]), (2, vec![key(20)])]), []);
    assert_eq!(look(&[]), []);
    assert!(test.store.cache_lookup_links(&key(2), &[(0, vec![key(10)])]).unwrap().is_empty());
}

#[test]
fn values_come_back_and_the_last_one_counts() {
    let test = TestStore::new();
    assert_eq!(test.store.cache_get(&test.lease, &key(1)).unwrap(), None);
    let id = test.snapshot(None, "a");
    let value = CacheValue {
        snapshot: Some(id),
        content: Some(key(7)),
        metadata: b"m".to_vec(),
        cost_ms: 12,
        created: None,
        kind: RecordKind::GitCheckout,
        description: "ADD".to_owned(),
    };
    test.store.cache_put(&key(1), CacheValue::default()).unwrap();
    test.store.cache_put(&key(1), value.clone()).unwrap();
    let found = test.store.cache_get(&test.lease, &key(1)).unwrap().unwrap();
    assert!(found.created.is_some());
    assert_eq!(CacheValue { created: None, ..found }, value);
    assert!(test.store.cache_delete(&key(1)).unwrap());
    assert!(!test.store.cache_delete(&key(1)).unwrap());
    assert_eq!(test.store.cache_get(&test.lease, &key(1)).unwrap(), None);
}

#[test]
fn keys_are_found_by_their_snapshot() {
    let test = TestStore::new();
    let (one, other) = (test.snapshot(None, "a"), test.snapshot(None, "b"));
    let value = |id| CacheValue { snapshot: Some(id), ..CacheValue::default() };
    for (number, id) in [(2, one), (1, one), (3, other)] {
        test.store.cache_put(&key(number), value(id)).unwrap();
    }
    assert_eq!(test.store.cache_keys_of(one).unwrap(), [key(1), key(2)]);
    test.store.cache_delete(&key(3)).unwrap();
    assert_eq!(test.store.cache_keys_of(other).unwrap(), []);
}

#[test]
fn what_was_looked_up_is_held() {
    let mut test = TestStore::new();
    let id = test.snapshot(None, "a");
    test.store.cache_put(&key(1), CacheValue { snapshot: Some(id), ..CacheValue::default() }).unwrap();
    test.release();
    let reader = test.reopened();
    let lease = reader.lease("reader").unwrap();
    assert_eq!(reader.cache_get(&lease, &key(1)).unwrap().unwrap().snapshot, Some(id));
    assert_eq!(test.store.gc(Policy::DROP_CACHE).unwrap().snapshots, 0);
    assert!(test.exists(id));
    drop(lease);
    assert_eq!(test.store.gc(Policy::DROP_CACHE).unwrap().snapshots, 1);
}

#[test]
fn several_writes_are_all_or_nothing() {
    let test = TestStore::new();
    let gone = SnapshotId::from_u64(99);
    let writes = [
        CacheWrite::Link { op: key(1), slot: 0, input: key(2), output: key(3) },
        CacheWrite::Value {
            output: key(3),
            value: CacheValue { snapshot: Some(gone), ..CacheValue::default() },
        },
    ];
    assert!(matches!(test.store.cache_write(&writes), Err(StoreError::Database(_))));
    assert!(test.store.cache_lookup_links(&key(1), &[(0, vec![key(2)])]).unwrap().is_empty());
}

#[test]
fn content_keys_stay_with_their_snapshot() {
    let test = TestStore::new();
    let id = test.snapshot(None, "a");
    assert_eq!(test.store.content(id).unwrap(), None);
    test.store.set_content(id, &key(5)).unwrap();
    assert_eq!(test.store.content(id).unwrap(), Some(key(5)));
}

#[test]
fn buckets_are_separate() {
    let test = TestStore::new();
    let store = &test.store;
    store.kv_put("a", b"k", b"1").unwrap();
    store.kv_put("a", b"k", b"2").unwrap();
    store.kv_put("a", b"\x00", b"").unwrap();
    store.kv_put("b", b"k", b"3").unwrap();
    assert_eq!(store.kv_get("a", b"k").unwrap().as_deref(), Some(&b"2"[..]));
    assert_eq!(store.kv_list("a").unwrap(), [(vec![0], vec![]), (b"k".to_vec(), b"2".to_vec())]);
    assert!(store.kv_delete("a", b"k").unwrap() && !store.kv_delete("a", b"k").unwrap());
    assert_eq!(store.kv_clear("a").unwrap(), 1);
    assert_eq!(store.kv_get("b", b"k").unwrap().as_deref(), Some(&b"3"[..]));
}
