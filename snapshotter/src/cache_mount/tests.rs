//! Cache mounts: who shares them, what they begin with, and what the collector leaves alone.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::gc::Policy;
use crate::snapshot::CommitInfo;
use crate::test_support::TestStore;
use crate::tree_fixture::{build, describe, lines};

fn cancel() -> CancelToken {
    CancelToken::new()
}

fn request(id: &str, sharing: Sharing) -> CacheMountRequest<'_> {
    let (uid, gid) = sys::rootdir::own_ids();
    CacheMountRequest { id, sharing, seed: None, mode: 0o755, uid, gid }
}

impl TestStore {
    fn mount(&self, id: &str, sharing: Sharing) -> CacheMount {
        self.store.cache_mount(&self.lease, &request(id, sharing), &cancel()).unwrap()
    }

    fn directories(&self) -> usize {
        sys::fs::list(&self.store.layout().cache_mounts()).unwrap().len()
    }
}

#[test]
fn what_was_written_is_there_the_next_time() {
    let test = TestStore::new();
    for sharing in [Sharing::Shared, Sharing::Private, Sharing::Locked] {
        let first = test.mount("go", sharing);
        fs::write(first.dir().join("file"), "kept").unwrap();
        drop(first);
    }
    assert_eq!(fs::read_to_string(test.mount("go", Sharing::Shared).dir().join("file")).unwrap(), "kept");
    assert_eq!(fs::read_dir(test.mount("npm", Sharing::Shared).dir()).unwrap().count(), 0);
    assert_eq!(test.directories(), 2);
    assert!(test.store.check().unwrap().is_clean());
}

#[test]
fn users_share_or_get_another_directory() {
    let test = TestStore::new();
    let shared = [test.mount("go", Sharing::Shared), test.mount("go", Sharing::Shared)];
    assert_eq!(shared[0].dir(), shared[1].dir());
    let private = [test.mount("go", Sharing::Private), test.mount("go", Sharing::Private)];
    let dirs = [shared[0].dir(), private[0].dir(), private[1].dir()].map(Path::to_owned);
    assert!(dirs[0] != dirs[1] && dirs[1] != dirs[2] && dirs[0] != dirs[2]);
    drop((shared, private));
    let again = [test.mount("go", Sharing::Private), test.mount("go", Sharing::Private)];
    assert!(again.iter().all(|mount| dirs.contains(&mount.dir().to_owned())), "free ones are taken again");
    // Nobody waits for a private user.
    let shared = test.mount("go", Sharing::Shared);
    assert!(dirs.contains(&shared.dir().to_owned()));
    assert_eq!(test.directories(), 3);
}

#[test]
fn locked_users_come_one_after_the_other() {
    let test = TestStore::new();
    let first = test.mount("apt", Sharing::Locked);
    let be_alone_in = |dir: &Path| {
        let file = dir.join("alone");
        fs::OpenOptions::new().write(true).create_new(true).open(&file).unwrap();
        fs::remove_file(&file).unwrap();
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = test.reopened();
                let next = store.cache_mount(&test.lease, &request("apt", Sharing::Locked), &cancel());
                be_alone_in(next.unwrap().dir());
            });
        }
        be_alone_in(first.dir());
        drop(first);
    });
    assert_eq!(test.directories(), 1);
}

#[test]
fn waiting_can_be_cancelled() {
    let test = TestStore::new();
    let _first = test.mount("apt", Sharing::Locked);
    let cancel = CancelToken::new();
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| test.store.cache_mount(&test.lease, &request("apt", Sharing::Locked), &cancel));
        cancel.cancel();
        assert!(matches!(waiting.join().unwrap(), Err(StoreError::Cancelled)));
    });
}

#[test]
fn a_new_directory_begins_as_it_was_asked_for() {
    for test in TestStore::each_driver() {
        let active = test.store.prepare(&test.lease, None).unwrap();
        build(active.layer_dir(), "f seed/dir/file 1\nl seed/link dir\nl to-seed seed\nf other 2");
        let snapshot = active.commit(CommitInfo::default()).unwrap();
        let seed = Some(CacheSeed { snapshot, path: "/to-seed" });
        let wanted = CacheMountRequest { seed, mode: 0o1770, ..request("go", Sharing::Shared) };
        let mount = test.store.cache_mount(&test.lease, &wanted, &cancel()).unwrap();
        let shown = || describe(&Tree::directory(mount.dir(), None).unwrap());
        assert_eq!(shown(), lines("d dir\nf dir/file 1\nl link dir"));
        assert_eq!(fs::metadata(mount.dir()).unwrap().mode() & 0o7777, 0o1770);
        // Only a new one.
        fs::remove_file(mount.dir().join("link")).unwrap();
        let again = CacheMountRequest { mode: 0o700, ..wanted };
        let again = test.store.cache_mount(&test.lease, &again, &cancel()).unwrap();
        assert_eq!((again.dir(), shown()), (mount.dir(), lines("d dir\nf dir/file 1")));
        assert_eq!(fs::metadata(mount.dir()).unwrap().mode() & 0o7777, 0o1770);
        drop((mount, again));
        test.assert_nothing_left();
    }
}

#[test]
fn a_seed_that_is_no_directory_is_named_and_leaves_nothing() {
    let test = TestStore::new();
    let snapshot = test.snapshot(None, "file");
    for path in ["file", "missing", "../missing"] {
        let wanted =
            CacheMountRequest { seed: Some(CacheSeed { snapshot, path }), ..request("go", Sharing::Shared) };
        let error = test.store.cache_mount(&test.lease, &wanted, &cancel()).unwrap_err();
        assert!(matches!(&error, StoreError::SeedNotFound { id, path: p } if id == "go" && p == path));
    }
    assert!(test.store.check().unwrap().is_clean());
    assert!(test.store.cache_mounts().unwrap().is_empty());
}

#[test]
fn a_collection_leaves_alone_what_is_in_use() {
    let test = TestStore::new();
    let used = test.mount("used", Sharing::Shared);
    fs::write(used.dir().join("file"), "x").unwrap();
    drop(test.mount("idle", Sharing::Private));
    assert_eq!(test.store.gc(Policy::KEEP_CACHE).unwrap().loose, 0);
    let recent = Policy { unused_for: Some(std::time::Duration::from_secs(3600)), ..Policy::DROP_CACHE };
    assert_eq!(test.store.gc(recent).unwrap().loose, 0);
    assert_eq!(test.directories(), 2);
    assert_eq!(test.store.gc(Policy::DROP_CACHE).unwrap().loose, 1);
    let left = test.store.cache_mounts().unwrap();
    assert_eq!(left.iter().map(|info| (info.id.as_str(), info.in_use)).collect::<Vec<_>>(), [("used", true)]);
    assert!(used.dir().join("file").exists());
    drop(used);
    assert_eq!(test.store.gc(Policy::DROP_CACHE).unwrap().loose, 1);
    assert_eq!(test.directories(), 0);
    assert!(test.store.check().unwrap().is_clean());
}

#[test]
fn rows_and_directories_that_lost_each_other_are_dealt_with() {
    let test = TestStore::new();
    let lost = test.mount("go", Sharing::Shared).dir().parent().unwrap().to_owned();
    fs::remove_dir_all(&lost).unwrap();
    assert_eq!(test.store.check().unwrap().lost_cache_mounts.len(), 1);
    assert!(test.mount("go", Sharing::Locked).dir().exists());
    assert!(test.store.check().unwrap().is_clean());
    let orphan = test.store.layout().cache_mount("nobody").fs();
    fs::create_dir_all(&orphan).unwrap();
    assert_eq!(test.store.check().unwrap().without_row.len(), 1);
    test.store.gc(Policy::KEEP_CACHE).unwrap();
    assert!(!orphan.exists() && test.store.check().unwrap().is_clean());
}

#[test]
fn usage_tells_used_from_idle() {
    let test = TestStore::new();
    let used = test.mount("used", Sharing::Shared);
    fs::write(used.dir().join("file"), vec![1; 64 << 10]).unwrap();
    let idle = test.mount("idle", Sharing::Shared);
    fs::write(idle.dir().join("file"), vec![1; 128 << 10]).unwrap();
    drop(idle);
    let usage = test.store.usage().unwrap();
    assert_eq!((usage.cache_mounts.total, usage.cache_mounts.active), (2, 1));
    assert!(usage.cache_mounts.reclaimable >= 128 << 10, "{usage:?}");
    assert!(usage.cache_mounts.bytes >= usage.cache_mounts.reclaimable + (64 << 10), "{usage:?}");
    assert!(usage.total_bytes() >= usage.cache_mounts.bytes, "{usage:?}");
}

#[test]
fn a_restart_drops_what_may_be_half_made() {
    let test = TestStore::new();
    drop(test.mount("synced", Sharing::Shared));
    test.store.sync().unwrap();
    drop(test.mount("unsynced", Sharing::Shared));
    let recover = |c: &rusqlite::Connection| crate::db::recovery::recover(c, "another boot", 0);
    test.store.db().write("restart", recover).unwrap();
    let left = test.store.cache_mounts().unwrap();
    assert_eq!(left.iter().map(|info| info.id.as_str()).collect::<Vec<_>>(), ["synced"]);
}
