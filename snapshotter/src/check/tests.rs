//! Stores damaged on purpose: what is found, and what is left after repair.

use std::fs;

use base::CancelToken;
use base::image::{Descriptor, Manifest, media_type};

use super::*;
use crate::cache::CacheValue;
use crate::test_support::{TestStore, key};

fn verify(test: &TestStore) -> Findings {
    test.store.verify(&CancelToken::new()).unwrap()
}

/// Repairs what is found, which must leave a clean store.
fn repair(test: &TestStore) {
    test.store.repair(&verify(test), &CancelToken::new()).unwrap();
    assert_eq!(verify(test), Findings::default());
}

/// Overwrites a blob's file, which is read-only.
fn overwrite(test: &TestStore, digest: &Digest, bytes: &[u8]) {
    let path = test.store.blob_path(digest);
    fs::remove_file(&path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_sound_store_has_no_findings() {
    let mut test = TestStore::new();
    let id = test.snapshot(None, "a");
    test.image("image", id);
    test.release();
    test.store.gc(crate::Policy::KEEP_CACHE).unwrap();
    assert_eq!(verify(&test), Findings::default());
    repair(&test);
    assert!(test.store.resolve("image").unwrap().is_some());
}

#[test]
fn what_stands_on_a_lost_snapshot_is_forgotten_with_it() {
    let test = TestStore::new();
    let base = test.snapshot(None, "base");
    let lost = test.snapshot(Some(base), "lost");
    let above = test.snapshot(Some(lost), "above");
    let other = test.snapshot(Some(base), "other");
    for (number, id) in [(1, base), (2, lost), (3, above), (4, other)] {
        let value = CacheValue { snapshot: Some(id), ..CacheValue::default() };
        test.store.cache_put(&key(number), value).unwrap();
    }
    test.store.add_root("container", "c", above).unwrap();
    fs::remove_dir_all(test.store.layout().snapshot(lost).top).unwrap();
    let findings = verify(&test);
    assert_eq!((findings.lost_snapshots, findings.orphaned_snapshots), (vec![lost], vec![above]));
    repair(&test);
    let left = |n: u8| test.store.cache_get(&test.lease, &key(n)).unwrap().is_some();
    assert_eq!([left(1), left(2), left(3), left(4)], [true, false, false, true]);
    assert!(test.exists(other) && !test.exists(above));
}

#[test]
fn a_row_without_its_parent_is_an_orphan() {
    let test = TestStore::new();
    let base = test.snapshot(None, "base");
    let above = test.snapshot(Some(base), "above");
    let cut = |c: &rusqlite::Connection| {
        c.pragma_update(None, "foreign_keys", false)?;
        c.execute("DELETE FROM snapshots WHERE id = ?1", [base]).map(drop)
    };
    let connection = rusqlite::Connection::open(test.store.layout().database()).unwrap();
    cut(&connection).unwrap();
    let findings = verify(&test);
    assert_eq!(findings.orphaned_snapshots, [above]);
    assert_eq!(findings.without_row.len(), 1);
    repair(&test);
    assert!(!test.exists(above));
}

#[test]
fn blobs_with_other_content_are_found_and_forgotten() {
    let test = TestStore::new();
    let put = |bytes: &[u8]| test.store.put_blob(&test.lease, bytes).unwrap().digest;
    let (changed, cut, gone, good) = (put(b"changed"), put(b"cut"), put(b"gone"), put(b"good"));
    overwrite(&test, &changed, b"CHANGED");
    overwrite(&test, &cut, b"c");
    fs::remove_file(test.store.blob_path(&gone)).unwrap();
    let mut findings = verify(&test);
    findings.lost_blobs.sort();
    let mut lost = vec![cut, gone];
    lost.sort();
    assert_eq!((findings.lost_blobs, findings.wrong_blobs), (lost, vec![changed]));
    repair(&test);
    let is_there = |digest: &Digest| test.store.open_blob(digest).is_ok();
    assert_eq!(
        [is_there(&changed), is_there(&cut), is_there(&gone), is_there(&good)],
        [false, false, false, true]
    );
}

#[test]
fn a_blob_that_was_written_again_is_not_forgotten() {
    let test = TestStore::new();
    let digest = test.store.put_blob(&test.lease, b"content").unwrap().digest;
    overwrite(&test, &digest, b"CONTENT");
    let findings = verify(&test);
    overwrite(&test, &digest, b"content");
    test.store.repair(&findings, &CancelToken::new()).unwrap();
    assert!(test.store.open_blob(&digest).is_ok());
}

#[test]
fn an_image_is_whole_while_its_layers_are_there_in_one_form() {
    let test = TestStore::new();
    let id = test.snapshot(None, "a");
    let manifest = test.image("image", id);
    let parsed: Manifest = serde_json::from_slice(&read(&test, &manifest.digest)).unwrap();
    fs::remove_file(test.store.blob_path(&parsed.layers[0].digest)).unwrap();
    let findings = verify(&test);
    assert_eq!((findings.lost_blobs.len(), findings.incomplete_images.len()), (1, 0));
    fs::remove_dir_all(test.store.layout().snapshot(id).top).unwrap();
    assert_eq!(verify(&test).incomplete_images, ["image"]);
    repair(&test);
    assert_eq!(test.store.resolve("image").unwrap(), None);
}

#[test]
fn an_image_without_its_config_is_forgotten() {
    let test = TestStore::new();
    let manifest = test.image("image", test.snapshot(None, "a"));
    let parsed: Manifest = serde_json::from_slice(&read(&test, &manifest.digest)).unwrap();
    overwrite(&test, &parsed.config.digest, b"{}");
    assert_eq!(verify(&test).incomplete_images, ["image"]);
    repair(&test);
    assert_eq!(test.store.images().unwrap(), []);
}

#[test]
fn layers_that_were_never_fetched_are_no_damage() {
    let test = TestStore::new();
    let layer = Descriptor::new(media_type::OCI_LAYER_GZIP, Digest::of(b"packed"), 6);
    let manifest = test.manifest(&[Digest::of(b"layer")], vec![layer]);
    test.store.tag("image", &manifest).unwrap();
    assert_eq!(verify(&test), Findings::default());
}

fn read(test: &TestStore, digest: &Digest) -> Vec<u8> {
    fs::read(test.store.blob_path(digest)).unwrap()
}
