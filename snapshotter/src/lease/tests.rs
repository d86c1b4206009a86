//! Leases: they hold while somebody has them.

use crate::db::leases;
use crate::gc::Policy;
use crate::test_support::TestStore;

#[test]
fn a_lease_lives_until_its_last_clone_is_dropped() {
    let test = TestStore::new();
    let lease = test.store.lease("build").unwrap();
    let (id, path) = (lease.id().to_owned(), test.store.layout().lease(lease.id()));
    let note = std::fs::read_to_string(&path).unwrap();
    assert_eq!(note, format!("{} build\n", std::process::id()));
    let clone = lease.clone();
    drop(lease);
    assert!(test.store.is_lease_live(&id).unwrap());
    drop(clone);
    assert!(!test.store.is_lease_live(&id).unwrap() && !path.exists());
}

#[test]
fn live_leases_say_what_they_are_for() {
    let test = TestStore::new();
    let purposes = || {
        let notes = test.store.lease_notes().unwrap();
        assert!(notes.iter().all(|note| note.process == std::process::id()), "{notes:?}");
        let mut purposes: Vec<String> = notes.into_iter().map(|note| note.purpose).collect();
        purposes.sort();
        purposes
    };
    let before = purposes();
    let lease = test.reopened().lease("zzz: it is said").unwrap();
    assert_eq!(purposes().last().unwrap(), "zzz: it is said");
    drop(lease);
    assert_eq!(purposes(), before);
}

#[test]
fn each_lease_holds_by_itself() {
    let mut test = TestStore::new();
    let id = test.snapshot(None, "a");
    let other = test.reopened();
    let lease = other.lease("other").unwrap();
    other.hold(&lease, id).unwrap();
    test.release();
    test.store.gc(Policy::DROP_CACHE).unwrap();
    assert!(test.exists(id));
    drop(lease);
    test.store.gc(Policy::DROP_CACHE).unwrap();
    assert!(!test.exists(id));
}

#[test]
fn a_chain_is_held_by_its_top_alone() {
    let mut test = TestStore::new();
    let base = test.snapshot(None, "a");
    let top = test.snapshot(Some(base), "b");
    let other = test.reopened();
    let lease = other.lease("other").unwrap();
    assert_eq!(other.hold_chain(&lease, top).unwrap(), [base, top]);
    other.hold(&lease, base).unwrap();
    let names = [lease.id().to_owned()];
    let held = other.db().read("list what is held", |c| leases::held_by(c, &names)).unwrap();
    assert_eq!(held, [top], "what is below needs no row");
    test.release();
    test.store.gc(Policy::DROP_CACHE).unwrap();
    assert!(test.exists(base) && test.exists(top));
    drop(lease);
    test.store.gc(Policy::DROP_CACHE).unwrap();
    assert!(!test.exists(base) && !test.exists(top));
}

#[test]
fn an_unfinished_snapshot_keeps_its_lease_and_its_parent() {
    let mut test = TestStore::new();
    let base = test.snapshot(None, "a");
    let active = test.store.prepare(&test.lease, Some(base)).unwrap();
    test.release();
    test.store.gc(Policy::DROP_CACHE).unwrap();
    let top = active.commit(crate::CommitInfo::default()).unwrap();
    assert_eq!(test.store.gc(Policy::DROP_CACHE).unwrap().snapshots, 2);
    assert!(!test.exists(top) && !test.exists(base));
}
