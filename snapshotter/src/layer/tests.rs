//! Layers: from a snapshot to a blob and back, each once.

use std::fs;

use base::image::media_type;

use super::*;
use crate::snapshot::ActiveSnapshot;
use crate::test_support::TestStore;

fn cancel() -> CancelToken {
    CancelToken::new()
}

fn commit(active: ActiveSnapshot) -> SnapshotId {
    active.commit(CommitInfo::default()).unwrap()
}

/// Moves the layers of `chain` from one store to another as a registry would, and returns the snapshot.
fn transfer(from: &TestStore, to: &TestStore, top: SnapshotId, form: Compression) -> SnapshotId {
    let mut parent = None;
    for id in from.store.chain(top).unwrap() {
        let layer = from.store.layer(&from.lease, id, form, &cancel()).unwrap();
        let bytes = from.store.read_blob(&layer.descriptor.digest, 1 << 20).unwrap().unwrap();
        to.store.put_blob(&to.lease, &bytes).unwrap();
        let applied =
            to.store.apply_layer(&to.lease, parent, &layer.descriptor, Some(&layer.diff_id), &cancel());
        parent = Some(applied.unwrap());
    }
    parent.unwrap()
}

#[test]
fn layers_travel_between_stores_of_all_drivers() {
    for (from, form) in TestStore::each_driver().into_iter().zip([Compression::GZIP, Compression::ZSTD]) {
        for to in TestStore::each_driver() {
            let base = from.store.prepare(&from.lease, None).unwrap();
            fs::create_dir(base.layer_dir().join("dir")).unwrap();
            fs::write(base.layer_dir().join("dir/old"), b"old").unwrap();
            let base = commit(base);
            let top = from.snapshot(Some(base), "new");
            let received = transfer(&from, &to, top, form);
            let chain = to.store.chain(received).unwrap();
            assert_eq!(chain.len(), 2);
            let view = to.store.view_dirs(received).unwrap();
            assert!(view.iter().any(|dir| dir.join("dir/old").exists()));
            assert_eq!(fs::read(view[0].join("new")).unwrap(), b"new");
            let chain_id = to.store.snapshot_info(received).unwrap().chain_id;
            assert!(chain_id.is_some());
            assert_eq!(chain_id, from.store.snapshot_info(top).unwrap().chain_id);
        }
    }
}

#[test]
fn chain_ids_follow_in_whatever_order_layers_become_known() {
    let test = TestStore::new();
    let base = test.snapshot(None, "a");
    let middle = test.snapshot(Some(base), "b");
    let top = test.snapshot(Some(middle), "c");
    let diff_ids = [top, base, middle].map(|id| {
        let layer = test.store.layer_id(&test.lease, id, None, &cancel()).unwrap();
        layer.diff_id
    });
    let expected = chain_id(&[diff_ids[1], diff_ids[2], diff_ids[0]]);
    assert_eq!(test.store.snapshot_info(top).unwrap().chain_id, expected);
}

#[test]
fn equal_layers_that_were_built_twice_have_equal_chain_ids() {
    let test = TestStore::new();
    let make = || {
        let active = test.store.prepare(&test.lease, None).unwrap();
        fs::File::open(active.layer_dir()).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        let id = commit(active);
        test.store.layer_id(&test.lease, id, None, &cancel()).unwrap();
        id
    };
    let (first, second) = (make(), make());
    let chain_id = test.store.snapshot_info(second).unwrap().chain_id.unwrap();
    assert_eq!(test.store.snapshot_info(first).unwrap().chain_id, Some(chain_id));
    assert_eq!(test.store.snapshot_by_chain_id(&test.lease, &chain_id).unwrap(), Some(first));
}

#[test]
fn a_layer_is_unpacked_once() {
    let (from, to) = (TestStore::new(), TestStore::new());
    let top = from.snapshot(Some(from.snapshot(None, "a")), "b");
    let first = transfer(&from, &to, top, Compression::GZIP);
    assert_eq!(transfer(&from, &to, top, Compression::GZIP), first);
    // Another compression is the same layer.
    assert_eq!(transfer(&from, &to, top, Compression::None), first);
    assert_eq!(sys::fs::list(&to.store.layout().snapshots()).unwrap().len(), 2);
}

#[test]
fn many_that_unpack_the_same_layer_get_the_same_snapshot() {
    let (from, to) = (TestStore::new(), TestStore::new());
    let id = from.snapshot(None, "a");
    let layer = from.store.layer(&from.lease, id, Compression::GZIP, &cancel()).unwrap();
    let bytes = from.store.read_blob(&layer.descriptor.digest, 1 << 20).unwrap().unwrap();
    to.store.put_blob(&to.lease, &bytes).unwrap();
    let ids: Vec<SnapshotId> = std::thread::scope(|scope| {
        let apply = |expected: Option<Digest>| {
            let store = to.reopened();
            let lease = store.lease("puller").unwrap();
            store.apply_layer(&lease, None, &layer.descriptor, expected.as_ref(), &cancel()).unwrap()
        };
        let expected = [Some(layer.diff_id), Some(layer.diff_id), None, None];
        let threads = expected.map(|expected| scope.spawn(move || apply(expected)));
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(to.store.check().unwrap().is_clean());
}

#[test]
fn a_pulled_layer_is_pushed_as_it_came() {
    let (from, to) = (TestStore::new(), TestStore::new());
    let id = from.snapshot(None, "a");
    let sent = from.store.layer(&from.lease, id, Compression::Gzip(1), &cancel()).unwrap();
    let received = transfer(&from, &to, id, Compression::Gzip(1));
    for form in [Compression::None, Compression::ZSTD, Compression::GZIP] {
        assert_eq!(to.store.layer(&to.lease, received, form, &cancel()).unwrap(), sent);
    }
    assert_eq!(to.store.layer_id(&to.lease, received, None, &cancel()).unwrap(), sent);
}

#[test]
fn a_layer_with_other_content_is_refused_and_leaves_nothing() {
    let test = TestStore::new();
    let layer =
        test.store.layer(&test.lease, test.snapshot(None, "a"), Compression::GZIP, &cancel()).unwrap();
    let to = TestStore::new();
    let bytes = test.store.read_blob(&layer.descriptor.digest, 1 << 20).unwrap().unwrap();
    to.store.put_blob(&to.lease, &bytes).unwrap();
    let wrong = Digest::of(b"another layer");
    let result = to.store.apply_layer(&to.lease, None, &layer.descriptor, Some(&wrong), &cancel());
    assert!(matches!(result, Err(StoreError::Apply { layer: l, .. }) if l == layer.descriptor.digest));
    to.store.put_blob(&to.lease, &bytes[..bytes.len() / 2]).unwrap();
    let half = Digest::of(&bytes[..bytes.len() / 2]);
    let half = Descriptor::new(media_type::OCI_LAYER_GZIP, half, bytes.len() as u64 / 2);
    let result = to.store.apply_layer(&to.lease, None, &half, None, &cancel());
    assert!(matches!(result, Err(StoreError::Apply { .. })));
    let absent = Descriptor::new(media_type::OCI_LAYER_GZIP, wrong, 1);
    let result = to.store.apply_layer(&to.lease, None, &absent, None, &cancel());
    assert!(matches!(result, Err(StoreError::NoSuchBlob { .. })));
    assert!(to.store.check().unwrap().is_clean());
    assert_eq!(sys::fs::list(&to.store.layout().snapshots()).unwrap().len(), 0);
}

#[test]
fn the_digest_is_known_before_the_blob_exists() {
    let test = TestStore::new();
    let id = test.snapshot(None, "a");
    let known = test.store.layer_id(&test.lease, id, None, &cancel()).unwrap();
    assert_eq!(test.store.blob(&test.lease, &known.descriptor.digest).unwrap(), None);
    assert_eq!(test.store.layer_size(&known.diff_id).unwrap(), Some(known.descriptor.size));
    assert_eq!(test.store.snapshot_info(id).unwrap().chain_id, Some(known.diff_id));
    let made = test.store.layer(&test.lease, id, Compression::None, &cancel()).unwrap();
    assert_eq!(made, known);
    assert!(test.store.blob(&test.lease, &known.descriptor.digest).unwrap().is_some());
}

#[test]
fn a_layer_is_written_once_and_again_when_its_blob_is_gone() {
    let mut test = TestStore::new();
    let id = test.snapshot(None, "a");
    let value = crate::CacheValue { snapshot: Some(id), ..crate::CacheValue::default() };
    test.store.cache_put(&crate::test_support::key(1), value).unwrap();
    let first = test.store.layer(&test.lease, id, Compression::GZIP, &cancel()).unwrap();
    let written = fs::metadata(test.store.blob_path(&first.descriptor.digest)).unwrap().modified().unwrap();
    assert_eq!(test.store.layer(&test.lease, id, Compression::GZIP, &cancel()).unwrap(), first);
    let again = fs::metadata(test.store.blob_path(&first.descriptor.digest)).unwrap().modified().unwrap();
    assert_eq!(written, again);
    // The blob is kept with its snapshot.
    test.release();
    assert_eq!(test.store.gc(crate::Policy::KEEP_CACHE).unwrap().blobs, 0);
    test.store
        .db()
        .write("lose the blob", |c| crate::db::blobs::delete(c, &first.descriptor.digest))
        .unwrap();
    assert_eq!(test.store.layer(&test.lease, id, Compression::GZIP, &cancel()).unwrap(), first);
    assert!(test.store.open_blob(&first.descriptor.digest).is_ok());
}

#[test]
fn clamped_times_are_another_layer_of_the_same_snapshot() {
    let test = TestStore::new();
    let id = test.snapshot(None, "a");
    let plain = test.store.layer(&test.lease, id, Compression::None, &cancel()).unwrap();
    let form = LayerForm { compression: Compression::None, clamp_mtime: Some(0) };
    let clamped = test.store.layer(&test.lease, id, form, &cancel()).unwrap();
    assert_ne!(plain.diff_id, clamped.diff_id);
    assert_eq!(test.store.layer_id(&test.lease, id, Some(0), &cancel()).unwrap(), clamped);
    assert_eq!(test.store.snapshot_info(id).unwrap().diff_id, Some(plain.diff_id));
}

#[test]
fn a_pulled_layer_is_converted_once_for_each_compression() {
    let (from, to) = (TestStore::new(), TestStore::new());
    let id = from.snapshot(None, "a");
    let received = transfer(&from, &to, id, Compression::Gzip(1));
    let original = to.store.layer(&to.lease, received, Compression::ZSTD, &cancel()).unwrap();
    let convert = |form: Compression| to.store.converted_layer(&to.lease, received, form, &cancel()).unwrap();
    // The level does not matter when the method is the same.
    assert_eq!(convert(Compression::Gzip(9)), original);
    for form in [Compression::ZSTD, Compression::Zstd(7), Compression::None] {
        let converted = convert(form);
        assert_eq!(converted.diff_id, original.diff_id, "{form:?}");
        assert_eq!(converted.descriptor.media_type, form.media_type());
        let path = to.store.blob_path(&converted.descriptor.digest);
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(convert(form), converted, "{form:?}");
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written, "{form:?} was written twice");
    }
    // Nothing but the original is what others get without asking for a conversion.
    assert_eq!(to.store.layer(&to.lease, received, Compression::ZSTD, &cancel()).unwrap(), original);
    assert!(to.store.check().unwrap().is_clean());
}

#[test]
fn a_layer_that_was_built_needs_no_conversion() {
    let test = TestStore::new();
    let id = test.snapshot(None, "a");
    let written = test.store.layer(&test.lease, id, Compression::ZSTD, &cancel()).unwrap();
    let converted = test.store.converted_layer(&test.lease, id, Compression::ZSTD, &cancel()).unwrap();
    assert_eq!(converted, written);
}

#[test]
fn a_damaged_blob_is_not_converted() {
    let (from, to) = (TestStore::new(), TestStore::new());
    let id = from.snapshot(None, "a");
    let received = transfer(&from, &to, id, Compression::None);
    let original = to.store.layer(&to.lease, received, Compression::None, &cancel()).unwrap().descriptor;
    let path = to.store.blob_path(&original.digest);
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![7; original.size as usize]).unwrap();
    let result = to.store.converted_layer(&to.lease, received, Compression::ZSTD, &cancel());
    assert!(matches!(result, Err(StoreError::DiffIdMismatch { layer, .. }) if layer == original.digest));
}

#[test]
fn cancelled_work_leaves_nothing() {
    let test = TestStore::new();
    let id = test.snapshot(None, "a");
    let cancelled = CancelToken::new();
    cancelled.cancel();
    let result = test.store.layer(&test.lease, id, Compression::GZIP, &cancelled);
    assert!(matches!(result, Err(StoreError::Cancelled)));
    assert!(test.store.check().unwrap().is_clean());
}

#[test]
fn a_layer_is_made_when_its_blob_is_asked_for() {
    let test = TestStore::new();
    let id = test.snapshot(None, "file");
    for form in [Compression::None, Compression::Gzip(4), Compression::Zstd(2)] {
        let form = LayerForm { compression: form, clamp_mtime: Some(1_700_000_000) };
        let made = test.store.layer(&test.lease, id, form, &cancel()).unwrap().descriptor;
        test.store.db().write("lose the blob", |c| crate::db::blobs::delete(c, &made.digest)).unwrap();
        let lease = test.store.lease("reader").unwrap();
        let planned = test.store.planned_blob(Some(&lease), &made.digest).unwrap().unwrap();
        assert_eq!(planned, BlobInfo { digest: made.digest, size: made.size });
        assert!(test.store.open_blob(&made.digest).is_err(), "asking makes nothing");
        assert_eq!(test.store.make_blob(&lease, &made.digest, &cancel()).unwrap(), Some(planned));
        assert_eq!(test.store.open_blob(&made.digest).unwrap().metadata().unwrap().len(), made.size);
    }
    let unknown = base::Digest::of(b"unknown");
    assert_eq!(test.store.planned_blob(None, &unknown).unwrap(), None);
    assert_eq!(test.store.make_blob(&test.lease, &unknown, &cancel()).unwrap(), None);
}

#[test]
fn forms_have_names_that_lead_back() {
    for compression in [Compression::None, Compression::Gzip(9), Compression::Zstd(-3)] {
        for clamp_mtime in [None, Some(-5)] {
            let form = LayerForm { compression, clamp_mtime };
            assert_eq!(LayerForm::from_name(&form.name()), Some(form));
        }
    }
    assert_eq!(LayerForm::from_name("original"), None);
}
