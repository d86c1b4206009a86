//! Hints are found by their key, written by many at once, and go when nobody used them for long.

use std::time::{Duration, SystemTime};

use base::Timestamp;

use super::*;
use crate::build::{BuildRecord, BuildStatus};
use crate::test_support::TestStore;

const KEY: Key = Key::from_bytes([3; 32]);

#[test]
fn a_hint_is_there_once_it_was_kept() {
    let test = TestStore::new();
    assert!(!test.store.has_hint(HintKind::Graph, &KEY).unwrap());
    assert_eq!(test.store.hint(HintKind::Graph, &KEY).unwrap(), None);
    test.store.put_hint(HintKind::Graph, &KEY, b"steps").unwrap();
    assert!(test.store.has_hint(HintKind::Graph, &KEY).unwrap());
    assert_eq!(test.store.hint(HintKind::Graph, &KEY).unwrap().as_deref(), Some(&b"steps"[..]));
    assert!(!test.store.has_hint(HintKind::Listing, &KEY).unwrap(), "another kind");
}

#[test]
fn any_number_may_keep_the_same_hint_at_once() {
    let test = TestStore::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for number in 0..20 {
                    let key = Key::from_bytes([number; 32]);
                    test.store.put_hint(HintKind::Listing, &key, &[number; 1000]).unwrap();
                }
            });
        }
    });
    assert_eq!(
        std::fs::read_dir(test.root().join("listings-v1")).unwrap().count(),
        20,
        "nothing is left beside"
    );
}

#[test]
fn what_nobody_used_for_long_goes_and_a_use_keeps_it() {
    let test = TestStore::new();
    test.store.put_build(&build()).unwrap();
    let used = Key::from_bytes([4; 32]);
    for key in [KEY, used] {
        test.store.put_hint(HintKind::Listing, &key, b"x").unwrap();
        let path = test.root().join("listings-v1").join(key.hex());
        let old = SystemTime::now() - Duration::from_secs(30 * 24 * 3600);
        std::fs::File::open(path).unwrap().set_modified(old).unwrap();
    }
    assert!(test.store.has_hint(HintKind::Listing, &used).unwrap());
    test.store.sweep_hints().unwrap();
    assert!(test.store.hint(HintKind::Listing, &used).unwrap().is_some());
    assert_eq!(test.store.hint(HintKind::Listing, &KEY).unwrap(), None);
    test.store.remove_build("a").unwrap();
    test.store.sweep_hints().unwrap();
    assert_eq!(test.store.hint(HintKind::Listing, &used).unwrap(), None, "there is nothing to explain");
}

fn build() -> BuildRecord {
    BuildRecord {
        id: "a".to_owned(),
        project: KEY,
        name: "a".to_owned(),
        created: Timestamp::UNIX_EPOCH,
        ended: None,
        status: BuildStatus::Running,
        pinned: false,
    }
}
