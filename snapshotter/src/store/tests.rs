//! Opening: drivers, restarts of the machine, refusals.

use rusqlite::Connection;

use super::*;
use crate::gc::Policy;
use crate::test_support::{TestStore, key};
use crate::{CacheValue, CommitInfo};

/// Makes everything look as if the machine had been restarted since.
fn restart(test: &TestStore) {
    let connection = Connection::open(test.store.layout().database()).unwrap();
    connection.execute("UPDATE settings SET value = 'an earlier boot' WHERE name = 'boot'", []).unwrap();
}

#[test]
fn relative_roots_are_refused() {
    let error = Store::open(Path::new("store"), Options::default()).unwrap_err();
    assert!(matches!(error, StoreError::RelativeRoot { .. }));
}

#[test]
fn a_root_that_is_a_file_is_refused_by_path() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::write(&root, b"").unwrap();
    let error = Store::open(&root, Options::default()).unwrap_err();
    assert!(error.to_string().contains(&root.display().to_string()), "{error}");
}

#[test]
fn the_driver_is_chosen_once() {
    let test = TestStore::new();
    assert_eq!(test.store.driver_kind().unwrap(), DriverKind::Native);
    assert_eq!(test.reopened().driver_kind().unwrap(), DriverKind::Native);
    let options = Options { driver: Some(DriverKind::Overlay), ..Options::default() };
    let other = Store::open(&test.root(), options).unwrap();
    let error = other.driver_kind().unwrap_err();
    assert!(error.to_string().contains("uses the native driver"), "{error}");
}

#[test]
fn a_store_of_an_older_format_is_changed_when_nobody_else_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    layout.create().unwrap();
    crate::db::schema::create_first(&Connection::open(layout.database()).unwrap()).unwrap();
    let older_program = FileLock::acquire(&layout.store_lock(), LockMode::Shared).unwrap();
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| Store::open(dir.path(), Options::default()).unwrap());
        drop(older_program);
        assert!(opening.join().unwrap().check().unwrap().is_clean());
    });
    assert!(Store::open(dir.path(), Options::default()).unwrap().check().unwrap().is_clean());
}

#[test]
fn finding_the_driver_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), Options::default()).unwrap();
    let kind = store.driver_kind().unwrap();
    assert_eq!(Store::open(store.root(), Options::default()).unwrap().driver_kind().unwrap(), kind);
    assert!(store.check().unwrap().is_clean());
}

#[test]
fn a_restart_drops_what_was_not_synced() {
    let mut test = TestStore::new();
    let kept = test.snapshot(None, "kept");
    let image = test.image("kept", kept);
    test.store.sync().unwrap();
    let lost = test.snapshot(Some(kept), "lost");
    let lost_image = test.image("lost", lost);
    test.store.cache_put(&key(1), CacheValue { snapshot: Some(lost), ..CacheValue::default() }).unwrap();
    test.store.add_root("container", "c", lost).unwrap();
    let active = test.store.prepare(&test.lease, Some(kept)).unwrap();
    restart(&test);

    let store = test.reopened();
    assert!(store.view_dirs(kept).is_ok() && store.view_dirs(lost).is_err());
    assert!(store.open_blob(&image.digest).is_ok() && store.open_blob(&lost_image.digest).is_err());
    let names: Vec<String> = store.images().unwrap().into_iter().map(|image| image.name).collect();
    assert_eq!(names, ["kept"]);
    assert_eq!(store.cache_get(&test.lease, &key(1)).unwrap(), None);
    assert_eq!(store.root_of("container", "c").unwrap(), None);
    assert!(matches!(active.commit(CommitInfo::default()), Err(StoreError::SnapshotLost { .. })));
    assert!(store.check().unwrap().is_sound());
    test.release();
    store.gc(Policy::KEEP_CACHE).unwrap();
    assert!(store.check().unwrap().is_clean());
    assert!(store.view_dirs(kept).is_ok());
}

/// A directory that was on the disk before its row, which the power loss took.
#[test]
fn after_a_restart_no_id_is_that_of_a_directory_without_a_row() {
    let test = TestStore::new();
    let known = test.snapshot(None, "known");
    test.store.sync().unwrap();
    let left = test.store.layout().snapshots().join((known.to_u64() + 1).to_string());
    std::fs::create_dir(&left).unwrap();
    restart(&test);
    let store = test.reopened();
    let lease = store.lease("new").unwrap();
    let new = store.prepare(&lease, None).unwrap().commit(CommitInfo::default()).unwrap();
    assert_eq!(new.to_u64(), known.to_u64() + 2);
    assert_eq!(store.check().unwrap().without_row, [left]);
}

#[test]
fn within_one_boot_nothing_is_dropped() {
    let test = TestStore::new();
    let id = test.snapshot(None, "a");
    assert!(test.reopened().view_dirs(id).is_ok());
}

#[test]
fn sync_covers_what_was_committed_and_not_what_is_still_written() {
    let test = TestStore::new();
    let done = test.snapshot(None, "done");
    let active = test.store.prepare(&test.lease, Some(done)).unwrap();
    test.store.sync().unwrap();
    let late = active.commit(CommitInfo::default()).unwrap();
    restart(&test);
    let store = test.reopened();
    assert!(store.view_dirs(done).is_ok() && store.view_dirs(late).is_err());
}

#[test]
fn many_may_create_the_same_store_at_once() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let store = Store::open(&root, Options::default()).unwrap();
                    store.driver_kind().unwrap();
                    store.kv_put("bucket", b"key", b"value").unwrap();
                });
            }
        });
    }
}
