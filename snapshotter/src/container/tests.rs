//! Containers keep what they write to, and their names are their own.

use super::*;
use crate::gc::Policy;
use crate::test_support::TestStore;

const ID: &str = "c0ffee";

/// A container on top of a new snapshot, which has written a file.
fn container(test: &TestStore, id: &str, name: &str) -> ContainerRecord {
    let base = test.snapshot(None, "base");
    let active = test.store.prepare(&test.lease, Some(base)).unwrap();
    std::fs::write(active.layer_dir().join("written"), vec![1; 64 << 10]).unwrap();
    let dir = test.store.create_container_dir(id).unwrap();
    std::fs::write(dir.path().join("state"), "x").unwrap();
    test.store.keep_container(id, name, &Digest::of(b"image"), active).unwrap()
}

#[test]
fn a_container_outlives_its_maker_and_collections() {
    for mut test in TestStore::each_driver() {
        let record = container(&test, ID, "web");
        test.release();
        test.store.gc(Policy::DROP_CACHE).unwrap();
        let store = test.reopened();
        assert_eq!(store.container_named("web").unwrap(), Some(record.clone()));
        assert_eq!(store.containers().unwrap(), std::slice::from_ref(&record));
        assert!(store.layout().snapshot(record.snapshot).fs().join("written").exists());
        assert!(store.check().unwrap().is_clean(), "{:?}", store.check().unwrap());
        let dir = store.lock_container(ID).unwrap().unwrap();
        assert!(test.store.lock_container(ID).unwrap().is_none());
        store.remove_container(&record, dir).unwrap();
        assert!(!store.layout().snapshot(record.snapshot).top.exists());
        assert!(matches!(store.lock_container(ID), Err(StoreError::NoSuchContainer { .. })));
        drop(store);
        test.assert_nothing_left();
    }
}

#[test]
fn a_name_has_one_container() {
    let test = TestStore::new();
    let first = container(&test, ID, "web");
    let active = test.store.prepare(&test.lease, None).unwrap();
    let _dir = test.store.create_container_dir("decaf").unwrap();
    let taken = test.store.keep_container("decaf", "web", &first.image, active).unwrap_err();
    assert!(matches!(&taken, StoreError::ContainerNameTaken { id, .. } if id == ID), "{taken}");
    container(&test, "bad", "db");
    assert!(test.store.rename_container("bad", "web").is_err());
    test.store.rename_container("bad", "other").unwrap();
    assert_eq!(test.store.container("bad").unwrap().unwrap().name, "other");
}

#[test]
fn directories_without_rows_go_once_nobody_makes_them() {
    let mut test = TestStore::new();
    let dir = test.store.create_container_dir(ID).unwrap();
    test.release();
    test.store.gc(Policy::KEEP_CACHE).unwrap();
    assert!(dir.path().exists() && test.store.check().unwrap().is_clean());
    let path = dir.path().to_owned();
    drop(dir);
    assert_eq!(test.store.check().unwrap().without_row, std::slice::from_ref(&path));
    test.store.gc(Policy::KEEP_CACHE).unwrap();
    assert!(!path.exists());
}

#[test]
fn what_containers_take_is_counted_as_theirs() {
    let mut test = TestStore::new();
    container(&test, ID, "web");
    test.release();
    let usage = test.store.usage().unwrap();
    assert_eq!(usage.containers.total, 1);
    assert!(usage.containers.bytes >= 64 << 10 && usage.temporary.bytes == 0, "{usage:?}");
    assert_eq!(usage.total_bytes(), crate::usage::disk_usage(test.store.root()).unwrap());
}
