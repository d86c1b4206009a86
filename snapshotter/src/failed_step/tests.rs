//! Failed steps are kept until there are too many, and go with their builds.

use base::{Key, Timestamp};

use super::*;
use crate::build::{BuildRecord, BuildStatus};
use crate::test_support::TestStore;

const NOW: i64 = 100 * 24 * 3_600_000;

fn row(build: &str, age: i64, bytes: u64) -> KeptRow {
    KeptRow { build: build.to_owned(), created: Some(NOW - age), pinned: false, bytes }
}

#[test]
fn number_age_and_size_are_bounded() {
    let many: Vec<KeptRow> = (0..12).map(|age| row(&age.to_string(), age, 1)).collect();
    assert_eq!(too_much(&many, NOW, None), ["10", "11"]);
    let old = [row("new", 1, 0), row("old", KEPT_FOR + 1, 0)];
    assert_eq!(too_much(&old, NOW, None), ["old"]);
    let large = [row("a", 1, MOST_BYTES + 1), row("b", 2, 1)];
    assert_eq!(too_much(&large, NOW, None), ["b"], "the newest stays");
    assert_eq!(too_much(&large, NOW, Some(NOW)), ["a", "b"], "unless somebody prunes");
    let pinned = [KeptRow { pinned: true, ..row("a", KEPT_FOR + 1, 1) }];
    assert!(too_much(&pinned, NOW, Some(NOW)).is_empty());
    let orphan = [KeptRow { created: None, ..row("a", 0, 1) }];
    assert_eq!(too_much(&orphan, NOW, None), ["a"]);
}

fn put_build(test: &TestStore, id: &str) {
    let created = test.store.now();
    let (status, project) = (BuildStatus::Failed, Key::from_bytes([1; 32]));
    let ended: Option<Timestamp> = Some(created);
    let name = "app".to_owned();
    let build = BuildRecord { id: id.to_owned(), project, name, created, ended, status, pinned: false };
    test.store.put_build(&build).unwrap();
}

#[test]
fn what_is_kept_survives_collections_and_goes_with_its_build_or_the_cache() {
    let test = TestStore::new();
    for (id, other) in [("a1", "a"), ("b2", "a1b")] {
        put_build(&test, id);
        put_build(&test, other);
        let lease = test.store.lease("test").unwrap();
        let active = test.store.prepare(&lease, None).unwrap();
        std::fs::write(active.layer_dir().join("left"), "by the process").unwrap();
        let kept = test.store.keep_failed_step(id, vec![Some(FailedPart::Written(active)), None]).unwrap();
        assert_eq!(kept.len(), 2);
        drop(lease);
        test.store.gc(Policy::KEEP_CACHE).unwrap();
        let snapshot = test.store.failed_part(id, 0).unwrap().unwrap();
        assert_eq!(Some(snapshot), kept[0]);
        assert!(test.store.view_dirs(snapshot).unwrap()[0].join("left").exists());
        assert_eq!(test.store.failed_part(id, 1).unwrap(), None);
        assert_eq!(test.store.failed_part(other, 0).unwrap(), None);
        assert!(test.store.remove_build(other).unwrap());
    }
    assert_eq!(test.store.failed_steps().unwrap().len(), 2);
    assert!(test.store.remove_build("a1").unwrap());
    assert_eq!(test.store.failed_steps().unwrap(), ["b2"]);
    let freed = test.store.gc(Policy::DROP_CACHE).unwrap();
    assert!(test.store.failed_steps().unwrap().is_empty());
    assert_eq!(freed.snapshots, 2);
}
