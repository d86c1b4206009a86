//! Differences: laid over what they begin with, they show what they lead to.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::*;
use crate::test_support::{TestStore, key};
use crate::tree_fixture::describe;

const TIME: Timestamp = Timestamp::UNIX_EPOCH;

impl TestStore {
    fn difference(&self, lower: Option<SnapshotId>, upper: Option<SnapshotId>) -> Result<SnapshotId> {
        self.store.difference(&self.lease, lower, upper, (&key(3), TIME), &CancelToken::new())
    }

    fn view(&self, id: SnapshotId) -> Vec<String> {
        describe(&Tree::overlay(self.store.view_dirs(id).unwrap()).unwrap())
    }

    /// What the difference shows on top of `lower`.
    fn laid_over(&self, lower: SnapshotId, difference: SnapshotId) -> Vec<String> {
        let merged = self.store.merge(&self.lease, Some(lower), difference, None, &CancelToken::new());
        self.view(merged.unwrap())
    }

    fn written(&self, parent: Option<SnapshotId>, write: impl FnOnce(&Path)) -> SnapshotId {
        let active = self.store.prepare(&self.lease, parent).unwrap();
        write(active.layer_dir());
        active.commit(CommitInfo::default()).unwrap()
    }
}

#[test]
fn of_one_made_on_top_of_the_other_it_is_the_layers_between() {
    let Some(test) = TestStore::overlay() else { return };
    let lower = test.snapshot(None, "a");
    let upper = test.snapshot(Some(test.snapshot(Some(lower), "b")), "c");
    let difference = test.difference(Some(lower), Some(upper)).unwrap();
    assert_eq!(test.view(difference), ["f b b", "f c c"]);
    assert_eq!(test.laid_over(lower, difference), test.view(upper));
    assert_eq!(test.difference(Some(lower), Some(upper)).unwrap(), difference);
    let dirs = |id| test.store.view_dirs(id).unwrap();
    assert_eq!(dirs(difference)[..2], dirs(upper)[..2]);
    assert_eq!(test.view(test.difference(Some(upper), Some(upper)).unwrap()), Vec::<String>::new());
}

#[test]
fn of_others_it_is_what_is_new_and_marks_of_what_is_gone() {
    let Some(test) = TestStore::overlay() else { return };
    let write = |path: &Path, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    let lower = test.written(None, |dir| {
        write(&dir.join("same/file"), "as it was");
        write(&dir.join("dir/changed"), "before");
        write(&dir.join("dir/gone"), "gone");
        write(&dir.join("whole/dir/gone"), "gone");
        write(&dir.join("was/directory"), "x");
        write(&dir.join("was-file"), "x");
        symlink("a", dir.join("link")).unwrap();
    });
    let upper = test.written(None, |dir| {
        write(&dir.join("same/file"), "as it was");
        write(&dir.join("dir/changed"), "after!");
        write(&dir.join("dir/deep/new"), "new");
        write(&dir.join("was"), "a file now");
        write(&dir.join("was-file/in"), "y");
        symlink("b", dir.join("link")).unwrap();
        fs::set_permissions(dir.join("same"), fs::Permissions::from_mode(0o700)).unwrap();
    });
    let difference = test.difference(Some(lower), Some(upper)).unwrap();
    let shown = test.view(difference);
    assert!(!shown.iter().any(|line| line.contains("same/file")), "{shown:?}");
    assert_eq!(test.laid_over(lower, difference), test.view(upper));
    assert_eq!(test.store.snapshot_info(difference).unwrap().content, Some(key(3)));
    let all_gone = test.difference(Some(lower), None).unwrap();
    assert_eq!(test.laid_over(lower, all_gone), Vec::<String>::new());
    assert_eq!(test.difference(None, Some(upper)).unwrap(), upper);
}

#[test]
fn whole_copies_cannot_say_what_is_gone() {
    let test = TestStore::new();
    let (lower, upper) = (test.snapshot(None, "a"), test.snapshot(None, "b"));
    assert!(matches!(test.difference(Some(lower), Some(upper)), Err(StoreError::NoWhiteouts)));
    assert_eq!(test.difference(None, Some(upper)).unwrap(), upper);
}

#[test]
fn the_empty_layer_is_what_it_is_said_to_be() {
    let Some(test) = TestStore::overlay() else { return };
    let empty = test.store.empty(&test.lease).unwrap();
    assert_eq!(test.store.empty(&test.lease).unwrap(), empty);
    let layer = test.store.layer(&test.lease, empty, crate::Compression::None, &CancelToken::new()).unwrap();
    assert_eq!((layer.diff_id, layer.descriptor.size), EMPTY_LAYER);
}
