//! Builds are remembered, found by their ids, and go when there are too many.

use std::time::Duration;

use super::*;
use crate::test_support::TestStore;

fn record(id: &str, second: i64) -> BuildRecord {
    BuildRecord {
        id: id.to_owned(),
        project: Key::from_bytes([1; 32]),
        name: "app".to_owned(),
        created: Timestamp::from_second(second).unwrap(),
        ended: None,
        status: BuildStatus::Running,
        pinned: false,
    }
}

fn ids(builds: &[BuildRecord]) -> Vec<&str> {
    builds.iter().map(|build| build.id.as_str()).collect()
}

#[test]
fn a_build_is_running_while_its_directory_is_held() {
    let test = TestStore::new();
    let directory = test.store.create_build_dir("a1").unwrap();
    test.store.put_build(&record("a1", 1)).unwrap();
    assert!(test.store.is_building("a1").unwrap());
    assert!(!test.store.remove_build("a1").unwrap(), "it runs");
    drop(directory);
    assert!(!test.store.is_building("a1").unwrap());
    assert!(test.store.remove_build("a1").unwrap());
    assert!(!test.store.build_path("a1").exists());
    assert!(!test.store.remove_build("a1").unwrap(), "there is none");
}

#[test]
fn what_became_of_a_build_replaces_its_row_and_a_pin_stays() {
    let test = TestStore::new();
    test.store.put_build(&record("a1", 1)).unwrap();
    assert!(test.store.pin_build("a1", true).unwrap());
    let ended = Some(Timestamp::from_second(5).unwrap());
    let build = BuildRecord { ended, status: BuildStatus::Completed, ..record("a1", 1) };
    test.store.put_build(&build).unwrap();
    assert_eq!(test.store.builds().unwrap(), [BuildRecord { pinned: true, ..build }]);
    assert!(!test.store.pin_build("b", true).unwrap());
}

#[test]
fn a_build_in_which_nothing_ran_is_a_row_alone() {
    let test = TestStore::new();
    let content = BuildContent { record: b"{}".to_vec(), events: b"x\n".to_vec() };
    let build = BuildRecord { status: BuildStatus::Completed, ..record("a1", 1) };
    test.store.insert_build(&build, &content).unwrap();
    test.store.put_build(&record("b", 1)).unwrap();
    assert_eq!(test.store.build_content("a1").unwrap(), Some(content));
    assert_eq!(test.store.build_content("b").unwrap(), None);
    assert!(!test.store.is_building("a1").unwrap());
    assert!(test.store.remove_build("a1").unwrap());
    assert_eq!(test.store.build_content("a1").unwrap(), None);
}

#[test]
fn builds_are_found_by_the_beginning_of_an_id() {
    let test = TestStore::new();
    for (id, second) in [("abc1", 1), ("abc2", 2), ("b", 3)] {
        test.store.put_build(&record(id, second)).unwrap();
    }
    assert_eq!(ids(&test.store.builds_beginning_with("abc").unwrap()), ["abc1", "abc2"]);
    assert_eq!(ids(&test.store.builds_beginning_with("abc2").unwrap()), ["abc2"]);
    for none in ["", "abd", "a'; --", "%"] {
        assert!(test.store.builds_beginning_with(none).unwrap().is_empty(), "{none}");
    }
    let newest = |back: u32| test.store.build_before_newest(back).unwrap().map(|build| build.id);
    assert_eq!([0, 2, 3].map(newest), [Some("b".to_owned()), Some("abc1".to_owned()), None]);
    assert_eq!(ids(&test.store.builds_of(&Key::from_bytes([1; 32]), 2).unwrap()), ["b", "abc2"]);
    assert!(test.store.builds_of(&Key::from_bytes([2; 32]), 2).unwrap().is_empty());
}

#[test]
fn the_newest_build_is_the_last_one_also_when_the_clock_was_set_back() {
    let test = TestStore::new();
    test.store.put_build(&record("early", 10)).unwrap();
    test.store.put_build(&record("ahead", 1_000)).unwrap();
    test.store.put_build(&record("back1", 20)).unwrap();
    let content = BuildContent { record: b"{}".to_vec(), events: Vec::new() };
    test.store.insert_build(&record("back2", 19), &content).unwrap();
    // What became of a build moves it nowhere, and what comes from elsewhere is as old as it says.
    test.store.put_build(&BuildRecord { status: BuildStatus::Failed, ..record("ahead", 1_000) }).unwrap();
    test.store.put_foreign_build(&record("foreign", 15)).unwrap();
    let order = ["back2", "back1", "ahead", "foreign", "early"];
    assert_eq!(ids(&test.store.builds().unwrap()), order);
    assert_eq!(ids(&test.store.builds_of(&Key::from_bytes([1; 32]), 9).unwrap()), order);
    for (back, id) in (0..).zip(order) {
        assert_eq!(test.store.build_before_newest(back).unwrap().unwrap().id, id);
    }
}

#[test]
fn the_oldest_builds_go_and_pinned_ones_stay() {
    let test = TestStore::new();
    let number = i64::try_from(MOST_BUILDS).unwrap() + 3;
    for second in 0..number {
        let id = format!("b{second}");
        drop(test.store.create_build_dir(&id).unwrap());
        test.store.put_build(&record(&id, second)).unwrap();
    }
    test.store.pin_build("b0", true).unwrap();
    test.store.sweep_builds().unwrap();
    let builds = test.store.builds().unwrap();
    assert_eq!(builds.len(), MOST_BUILDS + 1);
    assert_eq!(ids(&builds).last(), Some(&"b0"));
    assert!(!test.store.build_path("b1").exists() && test.store.build_path("b0").exists());
}

#[test]
fn directories_without_a_row_go_unless_a_build_holds_them() {
    let test = TestStore::new();
    drop(test.store.create_build_dir("dead").unwrap());
    let alive = test.store.create_build_dir("alive").unwrap();
    test.store.sweep_builds().unwrap();
    assert!(!test.store.build_path("dead").exists());
    assert!(alive.path().exists());
}

#[test]
fn it_is_remembered_when_a_result_went() {
    let test = TestStore::new();
    let (key, other) = (Key::from_bytes([7; 32]), Key::from_bytes([8; 32]));
    test.store.cache_put(&key, crate::CacheValue::default()).unwrap();
    test.store.cache_put(&key, crate::CacheValue::default()).unwrap();
    assert_eq!(test.store.removed_at(&key).unwrap(), None, "it was replaced");
    test.store.cache_delete(&key).unwrap();
    let removed = test.store.removed_at(&key).unwrap().unwrap();
    let age = test.store.now().duration_since(removed);
    assert!(Duration::try_from(age).unwrap_or_default() < Duration::from_secs(600), "{removed}");
    assert_eq!(test.store.removed_at(&other).unwrap(), None);
}
