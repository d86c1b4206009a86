//! Snapshots: active, committed, dropped.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::driver::DriverKind;
use crate::test_support::{TestStore, key};

#[test]
fn a_chain_is_seen_topmost_first() {
    for test in TestStore::each_driver() {
        let base = test.snapshot(None, "a");
        let top = test.snapshot(Some(base), "b");
        assert_eq!(test.store.chain(top).unwrap(), [base, top]);
        assert_eq!(test.store.snapshot_info(top).unwrap().parent, Some(base));
        let view = test.store.view_dirs(top).unwrap();
        let files = |dir: &PathBuf| fs::read_dir(dir).unwrap().count();
        match test.store.driver_kind().unwrap() {
            DriverKind::Overlay => assert_eq!(view.iter().map(files).collect::<Vec<_>>(), [1, 1]),
            DriverKind::Native => assert_eq!(view.iter().map(files).collect::<Vec<_>>(), [2]),
        }
        assert!(view[0].join("b").exists());
        test.assert_nothing_left();
    }
}

#[test]
fn mounts_fit_the_driver() {
    for test in TestStore::each_driver() {
        let base = test.snapshot(None, "a");
        let below = test.store.view_dirs(base).unwrap();
        assert_eq!(
            test.store.mount_read_only(&test.lease, base).unwrap(),
            Mount::Bind { source: below[0].clone(), read_only: true }
        );
        let active = test.store.prepare(&test.lease, Some(base)).unwrap();
        match (test.store.driver_kind().unwrap(), active.mount().unwrap()) {
            (DriverKind::Overlay, Mount::Overlay { lower, upper: Some(upper), .. }) => {
                assert!(!active.is_full_copy());
                assert_eq!((lower, upper.upper.as_path()), (below, active.layer_dir()));
                assert!(fs::read_dir(upper.work).unwrap().next().is_none());
            }
            (DriverKind::Native, Mount::Bind { source, read_only: false }) => {
                assert!(active.is_full_copy());
                assert_eq!(source, active.layer_dir());
                assert!(active.lower_dirs().is_empty() && source.join("a").exists());
            }
            (kind, mount) => panic!("{kind}: {mount:?}"),
        }
        let top = active.commit(CommitInfo::default()).unwrap();
        let dirs = test.store.layout().snapshot(top);
        assert_eq!(sys::fs::list(&dirs.top).unwrap(), ["fs"]);
    }
}

#[test]
fn scratch_is_a_full_tree_with_a_plain_root() {
    for test in TestStore::each_driver() {
        let active = test.store.prepare(&test.lease, None).unwrap();
        assert!(active.is_full_copy());
        assert_eq!(fs::metadata(active.layer_dir()).unwrap().mode() & 0o7777, 0o755);
        assert!(matches!(active.mount().unwrap(), Mount::Bind { read_only: false, .. }));
    }
}

#[test]
fn a_child_begins_with_the_root_of_its_parent() {
    for test in TestStore::each_driver() {
        let active = test.store.prepare(&test.lease, None).unwrap();
        fs::set_permissions(active.layer_dir(), fs::Permissions::from_mode(0o1770)).unwrap();
        let base = active.commit(CommitInfo::default()).unwrap();
        let child = test.store.prepare(&test.lease, Some(base)).unwrap();
        assert_eq!(fs::metadata(child.layer_dir()).unwrap().mode() & 0o7777, 0o1770);
    }
}

#[test]
fn a_dropped_snapshot_leaves_nothing() {
    for test in TestStore::each_driver() {
        let base = test.snapshot(None, "a");
        let active = test.store.prepare(&test.lease, Some(base)).unwrap();
        active.mount().unwrap();
        fs::create_dir(active.layer_dir().join("closed")).unwrap();
        fs::write(active.layer_dir().join("closed/file"), b"x").unwrap();
        fs::set_permissions(active.layer_dir().join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
        let id = active.id();
        drop(active);
        assert!(!test.exists(id));
        assert!(test.store.check().unwrap().is_clean());
    }
}

#[test]
fn only_committed_snapshots_can_be_used() {
    let test = TestStore::new();
    let active = test.store.prepare(&test.lease, None).unwrap();
    let missing = SnapshotId::from_u64(77);
    for id in [active.id(), missing] {
        let is_missing = |result: Result<(), StoreError>| {
            assert!(matches!(result, Err(StoreError::NoSuchSnapshot { id: found }) if found == id));
        };
        is_missing(test.store.prepare(&test.lease, Some(id)).map(drop));
        is_missing(test.store.view_dirs(id).map(drop));
        is_missing(test.store.chain(id).map(drop));
        is_missing(test.store.mount_read_only(&test.lease, id).map(drop));
        is_missing(test.store.snapshot_info(id).map(drop));
    }
    assert_eq!(SnapshotId::from_u64(active.id().to_u64()), active.id());
}

#[test]
fn the_second_of_two_equal_layers_is_the_first() {
    let test = TestStore::new();
    let chain_id = Some(Digest::of(b"chain"));
    let commit = |file: &str| {
        let active = test.store.prepare(&test.lease, None).unwrap();
        fs::write(active.layer_dir().join(file), b"x").unwrap();
        let mine = active.id();
        (mine, active.commit(CommitInfo { chain_id, ..CommitInfo::default() }).unwrap())
    };
    let (first, committed) = commit("a");
    assert_eq!(first, committed);
    let (second, committed) = commit("a");
    assert_ne!(second, first);
    assert_eq!(committed, first);
    assert_eq!(test.store.snapshot_by_chain_id(&test.lease, &Digest::of(b"chain")).unwrap(), Some(first));
    assert!(test.store.check().unwrap().is_clean());
}

#[test]
fn commit_records_everything_in_one_go() {
    let test = TestStore::new();
    let active = test.store.prepare(&test.lease, None).unwrap();
    let id = active.id();
    let value = crate::cache::CacheValue { snapshot: Some(id), content: Some(key(2)), ..Default::default() };
    let info = CommitInfo {
        diff: Some((Digest::of(b"diff"), 10)),
        content: Some(key(1)),
        size: Some(4096),
        cache: vec![CacheWrite::Value { output: key(9), value }],
        ..CommitInfo::default()
    };
    active.commit(info).unwrap();
    let info = test.store.snapshot_info(id).unwrap();
    assert_eq!((info.diff_id, info.diff_size), (Some(Digest::of(b"diff")), Some(10)));
    assert_eq!((info.content, info.size), (Some(key(1)), Some(4096)));
    assert_eq!(test.store.cache_get(&test.lease, &key(9)).unwrap().unwrap().snapshot, Some(id));
}

#[test]
fn what_is_below_an_opaque_layer_is_not_seen() {
    let Some(test) = TestStore::overlay() else { return };
    let base = test.snapshot(None, "hidden");
    let active = test.store.prepare(&test.lease, Some(base)).unwrap();
    let opaque = active.commit(CommitInfo { opaque: true, ..CommitInfo::default() }).unwrap();
    let top = test.snapshot(Some(opaque), "seen");
    assert_eq!(test.store.view_dirs(top).unwrap().len(), 2);
    assert_eq!(test.store.chain(top).unwrap().len(), 3);
}
