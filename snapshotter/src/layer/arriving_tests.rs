//! Layers that are unpacked while their blobs are received.

use std::thread;

use base::image::Descriptor;
use base::{CancelToken, Digest};

use super::LayerBlob;
use crate::blob::{Arriving, Expected};
use crate::compress::Compression;
use crate::error::StoreError;
use crate::gc::Policy;
use crate::snapshot::SnapshotId;
use crate::test_support::TestStore;

/// A layer with one file, and the bytes of its blob.
fn layer(form: Compression) -> (LayerBlob, Vec<u8>) {
    let from = TestStore::new();
    let id = from.snapshot(None, "file");
    let layer = from.store.layer(&from.lease, id, form, &CancelToken::new()).unwrap();
    let bytes = from.store.read_blob(&layer.descriptor.digest, 1 << 20).unwrap().unwrap();
    (layer, bytes)
}

/// Unpacks a layer while `bytes` come in pieces, as the blob that `descriptor` names.
fn receive(
    to: &TestStore,
    (descriptor, diff_id): (&Descriptor, &Digest),
    bytes: &[u8],
    begun: usize,
) -> (Result<SnapshotId, StoreError>, Result<(), StoreError>) {
    let (expected, cancel) =
        (Expected { digest: descriptor.digest, size: descriptor.size }, CancelToken::new());
    if begun > 0 {
        // Another has begun, and was interrupted.
        to.store.resume_ingest(&to.lease, &expected).unwrap().append(&bytes[..begun]).unwrap();
    }
    let arriving = Arriving::default();
    let send = || {
        let mut writer = to.store.resume_ingest(&to.lease, &expected)?;
        assert_eq!(writer.size(), begun as u64);
        writer.tell(&arriving)?;
        bytes[begun..].chunks(100).try_for_each(|piece| writer.append(piece))?;
        writer.finish(Some(expected)).map(drop)
    };
    thread::scope(|scope| {
        let sending = scope.spawn(send);
        arriving.begins();
        let unpacked =
            to.store.apply_arriving_layer(&to.lease, None, descriptor, &arriving, Some(diff_id), &cancel);
        (unpacked, sending.join().unwrap())
    })
}

#[test]
fn a_layer_is_unpacked_while_it_comes() {
    for form in [Compression::None, Compression::GZIP, Compression::ZSTD] {
        let (layer, bytes) = layer(form);
        for begun in [0, bytes.len() / 2] {
            for to in TestStore::each_driver() {
                let (unpacked, sent) = receive(&to, (&layer.descriptor, &layer.diff_id), &bytes, begun);
                sent.unwrap();
                let id = unpacked.unwrap();
                assert!(to.store.view_dirs(id).unwrap()[0].join("file").exists(), "{form:?}");
                // It is the layer that it came as.
                let again = to.store.layer(&to.lease, id, Compression::None, &CancelToken::new()).unwrap();
                assert_eq!(again.descriptor.digest, layer.descriptor.digest);
                assert!(to.store.check().unwrap().is_clean());
            }
        }
    }
}

#[test]
fn what_is_not_what_its_digest_says_becomes_no_snapshot() {
    for form in [Compression::None, Compression::GZIP, Compression::ZSTD] {
        let (layer, bytes) = layer(form);
        // The archive in it is whole and right, and has the digest that is expected; the blob has not.
        let mut longer = bytes.clone();
        longer.extend_from_slice(&vec![0; 1 << 20]);
        let wrong = Descriptor { digest: Digest::of(b"another"), ..layer.descriptor.clone() };
        for (descriptor, bytes) in [(&layer.descriptor, &longer), (&wrong, &bytes)] {
            let to = TestStore::new();
            let (unpacked, sent) = receive(&to, (descriptor, &layer.diff_id), bytes, 0);
            assert!(matches!(sent, Err(StoreError::BlobMismatch { .. })), "{sent:?}");
            assert!(matches!(unpacked, Err(StoreError::Apply { .. })), "{unpacked:?}");
            let chain_id = base::image::chain_id(&[layer.diff_id]).unwrap();
            assert_eq!(to.store.snapshot_by_chain_id(&to.lease, &chain_id).unwrap(), None);
            to.store.gc(Policy::KEEP_CACHE).unwrap();
            assert!(to.store.check().unwrap().is_clean());
        }
    }
}

#[test]
fn a_blob_that_breaks_off_ends_the_unpacking() {
    let (layer, bytes) = layer(Compression::GZIP);
    let (to, cancel) = (TestStore::new(), CancelToken::new());
    let expected = Expected { digest: layer.descriptor.digest, size: layer.descriptor.size };
    let arriving = Arriving::default();
    let unpacked = thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = to.store.resume_ingest(&to.lease, &expected).unwrap();
            writer.append(&bytes[..bytes.len() / 2]).unwrap();
            writer.tell(&arriving).unwrap();
            // It is dropped.
        });
        let diff_id = Some(&layer.diff_id);
        to.store.apply_arriving_layer(&to.lease, None, &layer.descriptor, &arriving, diff_id, &cancel)
    });
    assert!(matches!(unpacked, Err(StoreError::Apply { .. })), "{unpacked:?}");
    assert!(!arriving.begins(), "nobody begins with it again");
}

#[test]
fn what_nobody_sends_does_not_begin() {
    let arriving = Arriving::default();
    arriving.end();
    assert!(!arriving.begins());
}
