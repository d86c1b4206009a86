//! Claims: one works, the others wait, and nobody waits for the dead.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::test_support::{TestStore, key};

#[test]
fn one_computes_and_the_others_find_the_result() {
    let test = TestStore::new();
    let computed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let store = test.reopened();
                let _claim = store.claim(&key(1), &CancelToken::new()).unwrap();
                if store.kv_get("results", b"1").unwrap().is_none() {
                    computed.fetch_add(1, Ordering::SeqCst);
                    store.kv_put("results", b"1", b"done").unwrap();
                }
            });
        }
    });
    assert_eq!(computed.load(Ordering::SeqCst), 1);
    assert!(sys::fs::list(&test.store.layout().claims()).unwrap().is_empty());
}

#[test]
fn a_claim_says_whether_it_had_to_wait() {
    let test = TestStore::new();
    let first = test.store.claim(&key(1), &CancelToken::new()).unwrap();
    assert!(!first.waited());
    assert!(test.store.try_claim(&key(1)).unwrap().is_none());
    assert!(test.store.try_claim(&key(2)).unwrap().is_some());
    let path = test.store.layout().claim(&key(1));
    let second = std::thread::scope(|scope| {
        let second = scope.spawn(|| test.store.claim(&key(1), &CancelToken::new()).unwrap());
        assert!(path.exists());
        drop(first);
        second.join().unwrap()
    });
    // Whether it came before or after the drop is chance; that it has the claim is not.
    assert!(test.store.try_claim(&key(1)).unwrap().is_none());
    drop(second);
}

#[test]
fn waiting_ends_with_a_cancel() {
    let test = TestStore::new();
    let _held = test.store.claim(&key(1), &CancelToken::new()).unwrap();
    let cancel = CancelToken::new();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| test.store.claim(&key(1), &cancel));
        cancel.cancel();
        assert!(matches!(waiting.join().unwrap(), Err(StoreError::Cancelled)));
    });
}
