//! Containers keep what they write to, and their names are their own.

use super::*;
use crate::gc::Policy;
use crate::test_support::TestStore;

const ID: &str = "c0ffee";

/// A container on top of a new snapshot, which has written a file.
fn container(test: &TestStore, id: &str, name: &str) -> ContainerRecord {
    let base = test.snapshot(None, "base");
    let dir = test.store.create_container_dir(id).unwrap();
    std::fs::write(dir.path().join("state"), "x").unwrap();
    let image = test.store.put_blob(&test.lease, b"image").unwrap().digest;
    let new = NewContainer {
        id,
        name,
        image: &image,
        target: &image,
        parent: Some(base),
        volumes: &[],
        images: &[],
        networks: &[],
    };
    let unfinished = test.store.begin_container(&new, &dir).unwrap();
    unfinished.mount().unwrap();
    let record = unfinished.keep();
    let written = test.store.layout().snapshot(record.snapshot).fs().join("written");
    std::fs::write(written, vec![1; 64 << 10]).unwrap();
    record
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
        store.remove_container(&record, dir, false).unwrap();
        assert!(!store.layout().snapshot(record.snapshot).top.exists());
        assert!(matches!(store.lock_container(ID), Err(StoreError::NoSuchContainer { .. })));
        drop(store);
        test.assert_nothing_left();
    }
}

#[test]
fn what_a_container_shows_of_another_image_stays_as_long_as_it() {
    let mut test = TestStore::new();
    let shown = test.snapshot(None, "shown");
    let image = test.store.put_blob(&test.lease, b"image").unwrap().digest;
    let dir = test.store.create_container_dir(ID).unwrap();
    let images = [(image, Some(shown)), (image, None)];
    let new = NewContainer {
        id: ID,
        name: "web",
        image: &image,
        target: &image,
        parent: None,
        volumes: &[],
        images: &images,
        networks: &[],
    };
    let record = test.store.begin_container(&new, &dir).unwrap().keep();
    test.release();
    test.store.gc(Policy::DROP_CACHE).unwrap();
    assert!(test.store.read_only_view(shown).is_ok());
    test.store.remove_container(&record, dir, false).unwrap();
    test.store.gc(Policy::DROP_CACHE).unwrap();
    // What is gone by now is refused, and leaves nothing.
    let dir = test.store.create_container_dir(ID).unwrap();
    let gone = test.store.begin_container(&new, &dir);
    assert!(matches!(gone, Err(StoreError::NoSuchBlob { .. } | StoreError::NoSuchSnapshot { .. })));
    drop(gone);
    drop(dir);
    test.assert_nothing_left();
}

#[test]
fn a_name_has_one_container() {
    let test = TestStore::new();
    let first = container(&test, ID, "web");
    let dir = test.store.create_container_dir("decaf").unwrap();
    let new = NewContainer {
        id: "decaf",
        name: "web",
        image: &first.image,
        target: &first.image,
        parent: None,
        volumes: &[],
        images: &[],
        networks: &[],
    };
    let taken = test.store.begin_container(&new, &dir).unwrap_err();
    assert!(matches!(&taken, StoreError::ContainerNameTaken { id, .. } if id == ID), "{taken}");
    container(&test, "bad", "db");
    assert!(test.store.rename_container("bad", "web").is_err());
    test.store.rename_container("bad", "other").unwrap();
    assert_eq!(test.store.container("bad").unwrap().unwrap().name, "other");
}

#[test]
fn a_container_that_was_not_finished_is_taken_back() {
    for mut test in TestStore::each_driver() {
        let base = test.snapshot(None, "base");
        let dir = test.store.create_container_dir(ID).unwrap();
        let image = test.store.put_blob(&test.lease, b"image").unwrap().digest;
        let new = NewContainer {
            id: ID,
            name: "web",
            image: &image,
            target: &image,
            parent: Some(base),
            volumes: &[],
            images: &[],
            networks: &[],
        };
        let unfinished = test.store.begin_container(&new, &dir).unwrap();
        let snapshot = test.store.containers().unwrap()[0].snapshot;
        assert!(test.store.layout().snapshot(snapshot).fs().exists());
        drop(unfinished);
        assert_eq!(test.store.containers().unwrap(), []);
        assert!(!test.store.layout().snapshot(snapshot).top.exists());
        drop(dir);
        test.release();
        test.assert_nothing_left();
    }
}

#[test]
fn an_image_that_was_removed_meanwhile_gets_no_container() {
    let mut test = TestStore::new();
    let base = test.snapshot(None, "base");
    let image = test.store.put_blob(&test.lease, b"image").unwrap().digest;
    test.release();
    test.store.gc(Policy::DROP_CACHE).unwrap();
    let dir = test.store.create_container_dir(ID).unwrap();
    let new = NewContainer {
        id: ID,
        name: "web",
        image: &image,
        target: &image,
        parent: Some(base),
        volumes: &[],
        images: &[],
        networks: &[],
    };
    let error = test.store.begin_container(&new, &dir).unwrap_err();
    assert!(matches!(&error, StoreError::NoSuchBlob { digest } if *digest == image), "{error}");
    let kept = test.store.lease("test").unwrap();
    test.store.put_blob(&kept, b"image").unwrap();
    let error = test.store.begin_container(&new, &dir).unwrap_err();
    assert!(matches!(&error, StoreError::NoSuchSnapshot { id } if *id == base), "{error}");
    assert_eq!(test.store.containers().unwrap(), []);
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
    // The document of the image that it was made of.
    test.store.gc(Policy::KEEP_CACHE).unwrap();
    let usage = test.store.usage().unwrap();
    assert_eq!(usage.containers.total, 1);
    assert!(usage.containers.bytes >= 64 << 10 && usage.temporary.bytes == 0, "{usage:?}");
    assert_eq!(usage.total_bytes(), crate::usage::disk_usage(test.store.root()).unwrap());
}
