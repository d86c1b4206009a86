//! Merges: what they show, what they share, and what the collector makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::gc::Policy;
use crate::snapshot::CommitInfo;
use crate::test_support::{TestStore, key};
use crate::tree::Tree;
use crate::tree_fixture::{cannot_mount, describe, lines, mounted};

fn cancel() -> CancelToken {
    CancelToken::new()
}

impl TestStore {
    fn merged(&self, base: SnapshotId, upper: SnapshotId) -> SnapshotId {
        self.store.merge(&self.lease, Some(base), upper, None, &cancel()).unwrap()
    }

    fn shows(&self, id: SnapshotId) -> Vec<String> {
        describe(&Tree::overlay(self.store.view_dirs(id).unwrap()).unwrap())
    }
}

#[test]
fn a_merge_shows_both_and_can_be_built_upon() {
    for test in TestStore::each_driver() {
        let base = test.snapshot(Some(test.snapshot(None, "a")), "b");
        let upper = test.snapshot(Some(test.snapshot(None, "b")), "c");
        let merged = test.merged(base, upper);
        assert_eq!(test.shows(merged), lines("f a a\nf b b\nf c c"));
        assert_eq!(test.store.chain(merged).unwrap().len(), 4);
        let top = test.snapshot(Some(merged), "d");
        assert_eq!(test.shows(top), lines("f a a\nf b b\nf c c\nf d d"));
        test.assert_nothing_left();
    }
}

#[test]
fn content_keys_are_recorded_and_nothing_is_needed_below() {
    for test in TestStore::each_driver() {
        let (base, upper) = (test.snapshot(None, "a"), test.snapshot(None, "b"));
        let merge = |base| test.store.merge(&test.lease, base, upper, Some(&key(7)), &cancel()).unwrap();
        assert_eq!(merge(None), upper);
        let merged = merge(Some(base));
        assert_eq!(test.store.snapshot_info(merged).unwrap().content, Some(key(7)));
        let missing = SnapshotId::from_u64(99);
        for (base, upper) in [(missing, upper), (base, missing)] {
            let result = test.store.merge(&test.lease, Some(base), upper, None, &cancel());
            assert!(matches!(result, Err(StoreError::NoSuchSnapshot { id }) if id == missing));
        }
    }
}

#[test]
fn layers_of_a_merge_are_those_of_its_parts() {
    for test in TestStore::each_driver() {
        let (base, upper) = (test.snapshot(None, "a"), test.snapshot(None, "b"));
        let before = test.merged(base, upper);
        let diff_ids =
            [base, upper].map(|id| test.store.layer_id(&test.lease, id, None, &cancel()).unwrap().diff_id);
        // Learnt of the owner, and so of all who share; and the other way round.
        let after = test.merged(test.snapshot(None, "c"), upper);
        let expected = base::image::chain_id(&diff_ids);
        assert_eq!(test.store.snapshot_info(before).unwrap().chain_id, expected);
        assert_eq!(test.store.snapshot_info(after).unwrap().diff_id, Some(diff_ids[1]));
        let blob = test.store.layer(&test.lease, after, Compression::None, &cancel()).unwrap();
        assert_eq!(blob.diff_id, diff_ids[1]);
        assert_eq!(test.store.layer(&test.lease, upper, Compression::None, &cancel()).unwrap(), blob);
        test.assert_nothing_left();
    }
}

#[test]
fn a_merge_that_was_pulled_is_not_made_again() {
    let Some(test) = TestStore::overlay() else { return };
    let (base, upper) = (test.snapshot(None, "a"), test.snapshot(None, "b"));
    let upper_layer = test.store.layer(&test.lease, upper, Compression::None, &cancel()).unwrap();
    test.store.layer_id(&test.lease, base, None, &cancel()).unwrap();
    let pulled = test
        .store
        .apply_layer(&test.lease, Some(base), &upper_layer.descriptor, Some(&upper_layer.diff_id), &cancel())
        .unwrap();
    assert_eq!(test.merged(base, upper), pulled);
}

#[test]
fn stacking_costs_no_files() {
    let Some(test) = TestStore::overlay() else { return };
    let (base, upper) = (test.snapshot(None, "a"), test.snapshot(None, "b"));
    let used = || test.store.usage().unwrap().temporary.bytes;
    let before = used();
    let merged = test.merged(base, upper);
    assert_eq!(test.merged(base, upper), merged, "the same merge is the same snapshot");
    assert_eq!(used(), before, "a shared layer counts once");
    assert_eq!(sys::fs::list(&test.store.layout().snapshots()).unwrap().len(), 2);
    assert!(test.store.check().unwrap().is_clean());
    // A layer of a merge is shared by way of its owner.
    let again = test.merged(test.snapshot(None, "c"), merged);
    assert_eq!(test.shows(again), lines("f a a\nf b b\nf c c"));
    assert_eq!(sys::fs::list(&test.store.layout().snapshots()).unwrap().len(), 3);
    test.assert_nothing_left();
}

#[test]
fn a_layer_stays_while_somebody_shares_it() {
    for mut test in TestStore::each_driver() {
        let (base, upper) = (test.snapshot(None, "a"), test.snapshot(None, "b"));
        let merged = test.merged(base, upper);
        let blob = test.store.layer(&test.lease, merged, Compression::GZIP, &cancel()).unwrap();
        test.store.add_root("test", "merged", merged).unwrap();
        test.release();
        test.store.gc(Policy::DROP_CACHE).unwrap();
        assert_eq!(test.shows(merged), lines("f a a\nf b b"));
        assert!(test.store.check().unwrap().is_clean());
        let again = test.store.layer(&test.lease, merged, Compression::GZIP, &cancel()).unwrap();
        assert_eq!(again.diff_id, blob.diff_id);
        test.store.remove_root("test", "merged").unwrap();
        test.release();
        test.store.gc(Policy::DROP_CACHE).unwrap();
        assert!(!test.exists(merged) && !test.exists(base));
        assert_eq!(sys::fs::list(&test.store.layout().snapshots()).unwrap().len(), 0);
    }
}

#[test]
fn a_layer_whose_owner_is_lost_in_a_crash_is_lost_to_all() {
    let Some(test) = TestStore::overlay() else { return };
    let base = test.snapshot(None, "a");
    test.store.sync().unwrap();
    let upper = test.snapshot(None, "b");
    let merged = test.merged(base, upper);
    test.store
        .db()
        .write("pretend that only the merge was synced", |c| {
            c.execute("UPDATE snapshots SET synced = 1 WHERE id = ?1", [merged])?;
            crate::db::recovery::recover(c, "another boot", 0)
        })
        .unwrap();
    assert!(test.exists(base) && !test.exists(upper) && !test.exists(merged));
}

#[test]
fn a_root_that_looks_different_is_not_covered() {
    for test in TestStore::each_driver() {
        let active = test.store.prepare(&test.lease, None).unwrap();
        fs::set_permissions(active.layer_dir(), fs::Permissions::from_mode(0o1770)).unwrap();
        let base = active.commit(CommitInfo::default()).unwrap();
        let upper = test.snapshot(None, "b");
        let view = test.store.view_dirs(test.merged(base, upper)).unwrap();
        assert_eq!(fs::metadata(&view[0]).unwrap().permissions().mode() & 0o7777, 0o1770);
        assert!(view[0].join("b").exists());
    }
}

#[test]
fn the_kernel_mounts_a_layer_that_occurs_twice() {
    let (Some(test), None) = (TestStore::overlay(), cannot_mount()) else { return };
    let (base, upper) = (test.snapshot(None, "a"), test.snapshot(None, "b"));
    let merged = test.merged(test.snapshot(Some(test.merged(base, upper)), "c"), upper);
    let view = test.store.view_dirs(merged).unwrap();
    assert_eq!(view.len(), 3);
    assert_eq!(mounted(&view, test.dir.path()).unwrap(), lines("f a a\nf b b\nf c c"));
    assert_eq!(test.shows(merged), lines("f a a\nf b b\nf c c"));
}

/// Files that a layer brings, by path; what is in their way goes.
type Files = Vec<(&'static str, u8)>;

fn layers() -> impl Strategy<Value = Vec<Files>> {
    let path = prop::sample::select(vec!["a", "b", "a/x", "a/y", "b/x", "a/x/z", "b/x/z", "c/x"]);
    let layer = prop::collection::vec((path, any::<u8>()), 0..4);
    // Within one layer nothing replaces anything: that would take whiteouts.
    prop::collection::vec(layer.prop_map(without_conflicts), 1..3)
}

fn without_conflicts(files: Files) -> Files {
    let mut kept = Files::new();
    for (path, content) in files {
        if !kept.iter().any(|(other, _)| in_the_way(path, other)) {
            kept.push((path, content));
        }
    }
    kept
}

/// Whether two files cannot be in one tree.
fn in_the_way(path: &str, other: &str) -> bool {
    Path::new(other).starts_with(path) || Path::new(path).starts_with(other)
}

/// Puts files into a layer directory, whichever driver it is of.
fn write(dir: &Path, files: &Files) {
    for (path, content) in files {
        let path = dir.join(path);
        for parent in path.ancestors().skip(1).take_while(|parent| *parent != dir) {
            if parent.is_file() {
                fs::remove_file(parent).unwrap();
            }
        }
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content.to_string()).unwrap();
    }
}

/// The files that all layers together show.
fn model<'a>(layers: impl Iterator<Item = &'a Files>) -> Vec<String> {
    let mut shown: BTreeMap<&str, u8> = BTreeMap::new();
    for (path, content) in layers.flatten() {
        let is_in_the_way =
            |other: &str| Path::new(other).starts_with(path) || Path::new(path).starts_with(other);
        shown.retain(|other, _| !is_in_the_way(other));
        shown.insert(path, *content);
    }
    shown.into_iter().map(|(path, content)| format!("f {path} {content}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_merge_shows_what_the_model_shows(base in layers(), upper in layers()) {
        for test in TestStore::each_driver() {
            let build = |layers: &[Files]| {
                let mut top = None;
                for files in layers {
                    let active = test.store.prepare(&test.lease, top).unwrap();
                    write(active.layer_dir(), files);
                    top = Some(active.commit(CommitInfo::default()).unwrap());
                }
                top.unwrap()
            };
            let merged = test.merged(build(&base), build(&upper));
            let mut shown = test.shows(merged);
            shown.retain(|line| line.starts_with("f "));
            prop_assert_eq!(shown, model(base.iter().chain(&upper)));
            prop_assert!(test.store.check().unwrap().is_clean());
        }
    }
}
