//! Blobs: written whole or not at all.

use super::*;
use crate::gc::Policy;
use crate::test_support::TestStore;

fn ingests(test: &TestStore) -> usize {
    sys::fs::list(&test.store.layout().ingests()).unwrap().len()
}

#[test]
fn content_comes_back_and_the_file_is_read_only() {
    let test = TestStore::new();
    let mut writer = test.store.ingest(&test.lease).unwrap();
    writer.write_all(b"hello ").unwrap();
    assert_eq!(writer.copy_from(&mut &b"world"[..]).unwrap(), 5);
    assert_eq!(writer.size(), 11);
    let digest = Digest::of(b"hello world");
    let blob = writer.finish(Some(Expected { digest, size: 11 })).unwrap();
    assert_eq!(blob, BlobInfo { digest, size: 11 });
    assert_eq!(test.store.read_blob(&digest, 11).unwrap().as_deref(), Some(&b"hello world"[..]));
    assert_eq!(test.store.blob(&test.lease, &digest).unwrap(), Some(blob));
    assert!(std::fs::metadata(test.store.blob_path(&digest)).unwrap().permissions().readonly());
    assert_eq!(ingests(&test), 0);
}

#[test]
fn a_mismatch_names_both_digests_and_keeps_nothing() {
    let test = TestStore::new();
    let expected = Expected { digest: Digest::of(b"good"), size: 4 };
    for content in [&b"evil"[..], b"good and more"] {
        let mut writer = test.store.ingest(&test.lease).unwrap();
        writer.write_all(content).unwrap();
        let error = writer.finish(Some(expected)).unwrap_err().to_string();
        assert!(error.contains(&expected.digest.to_string()), "{error}");
        assert!(error.contains(&Digest::of(content).to_string()), "{error}");
        assert!(error.contains(&format!("{} bytes", content.len())), "{error}");
        assert_eq!(test.store.blob(&test.lease, &Digest::of(content)).unwrap(), None);
    }
    assert!(test.store.check().unwrap().is_clean());
}

#[test]
fn a_right_digest_with_a_wrong_size_is_refused() {
    let test = TestStore::new();
    let mut writer = test.store.ingest(&test.lease).unwrap();
    writer.write_all(b"good").unwrap();
    let expected = Expected { digest: Digest::of(b"good"), size: 5 };
    assert!(matches!(writer.finish(Some(expected)), Err(StoreError::BlobMismatch { .. })));
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let test = TestStore::new();
    let mut writer = test.store.ingest(&test.lease).unwrap();
    writer.write_all(b"half").unwrap();
    assert_eq!(ingests(&test), 1);
    drop(writer);
    assert!(test.store.check().unwrap().is_clean());
}

#[test]
fn many_writers_of_the_same_content_all_succeed() {
    let test = TestStore::new();
    let content = vec![7; 100_000];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let store = test.reopened();
                let lease = store.lease("writer").unwrap();
                let mut writer = store.ingest(&lease).unwrap();
                writer.write_all(&content).unwrap();
                assert_eq!(writer.finish(None).unwrap().digest, Digest::of(&content));
                assert_eq!(
                    store.read_blob(&Digest::of(&content), 1 << 20).unwrap().as_deref(),
                    Some(&content[..])
                );
            });
        }
    });
    assert!(test.store.check().unwrap().is_clean());
}

#[test]
fn a_failing_source_is_not_a_failing_store() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "gone"))
        }
    }
    let test = TestStore::new();
    let mut writer = test.store.ingest(&test.lease).unwrap();
    assert!(matches!(writer.copy_from(&mut Broken), Err(StoreError::Content { .. })));
    drop(writer);
    assert_eq!(ingests(&test), 0);
}

#[test]
fn documents_have_a_limit_and_absence_is_no_error() {
    let test = TestStore::new();
    let blob = test.store.put_blob(&test.lease, b"12345").unwrap();
    assert!(matches!(
        test.store.read_blob(&blob.digest, 4),
        Err(StoreError::BlobTooLarge { size: 5, limit: 4, .. })
    ));
    let absent = Digest::of(b"absent");
    assert_eq!(test.store.read_blob(&absent, 4).unwrap(), None);
    assert!(
        matches!(test.store.open_blob(&absent), Err(StoreError::NoSuchBlob { digest }) if digest == absent)
    );
}

#[test]
fn a_damaged_file_is_found_and_named() {
    let test = TestStore::new();
    let blob = test.store.put_blob(&test.lease, b"12345").unwrap();
    let path = test.store.blob_path(&blob.digest);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"123").unwrap();
    let error = test.store.open_blob(&blob.digest).unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(test.store.check().unwrap().lost_blobs, [blob.digest]);
}

#[test]
fn a_file_without_row_is_replaced() {
    let test = TestStore::new();
    let path = test.store.blob_path(&Digest::of(b"content"));
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    std::fs::write(&path, b"").unwrap();
    test.store.put_blob(&test.lease, b"content").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"content");
}

/// The same content is collected and stored again and again: no row may ever lack its file.
#[test]
fn collecting_and_storing_the_same_content_at_once_is_safe() {
    let test = TestStore::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let store = test.reopened();
                    for round in 0..60u8 {
                        let lease = store.lease("worker").unwrap();
                        let blob = store.put_blob(&lease, &[round % 3; 10]).unwrap();
                        assert_eq!(store.read_blob(&blob.digest, 10).unwrap().unwrap(), [round % 3; 10]);
                    }
                })
            })
            .collect();
        let store = test.reopened();
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            store.gc(Policy::DROP_CACHE).unwrap();
        }
    });
    test.assert_nothing_left();
}

fn expected(content: &[u8]) -> Expected {
    Expected { digest: Digest::of(content), size: content.len() as u64 }
}

fn partials(test: &TestStore) -> usize {
    sys::fs::list(&test.store.layout().partials()).unwrap().len()
}

#[test]
fn interrupted_content_is_gone_on_with() {
    let test = TestStore::new();
    let content = b"first half, second half";
    let expected = expected(content);
    let mut writer = test.store.resume_ingest(&test.lease, &expected).unwrap();
    assert_eq!(writer.size(), 0);
    writer.copy_from(&mut &content[..11]).unwrap();
    drop(writer);
    // Another process, another day: a collection keeps what is new.
    let other = test.reopened();
    other.gc(Policy::KEEP_CACHE).unwrap();
    let mut writer = other.resume_ingest(&other.lease("other").unwrap(), &expected).unwrap();
    assert_eq!((writer.size(), writer.digester().finish()), (11, Digest::of(&content[..11])));
    writer.copy_from(&mut &content[11..]).unwrap();
    let blob = writer.finish(Some(expected)).unwrap();
    assert_eq!(blob.digest, expected.digest);
    assert_eq!(partials(&test), 0);
    let path = test.store.blob_path(&expected.digest);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(std::fs::read(path).unwrap(), content);
}

#[test]
fn two_writers_of_the_same_do_not_meet() {
    let test = TestStore::new();
    let content = b"content";
    let expected = expected(content);
    let mut first = test.store.resume_ingest(&test.lease, &expected).unwrap();
    first.copy_from(&mut &content[..3]).unwrap();
    let mut second = test.store.resume_ingest(&test.lease, &expected).unwrap();
    assert_eq!(second.size(), 0, "the second begins for itself");
    second.copy_from(&mut content.as_slice()).unwrap();
    second.finish(Some(expected)).unwrap();
    first.copy_from(&mut &content[3..]).unwrap();
    first.finish(Some(expected)).unwrap();
    assert_eq!(test.store.read_blob(&expected.digest, 100).unwrap().unwrap(), content);
    assert_eq!(partials(&test), 0);
}

#[test]
fn unfinished_content_that_turns_out_wrong_is_forgotten() {
    let test = TestStore::new();
    let expected = expected(b"right");
    let mut writer = test.store.resume_ingest(&test.lease, &expected).unwrap();
    writer.copy_from(&mut b"wrong".as_slice()).unwrap();
    assert!(matches!(writer.finish(Some(expected)), Err(StoreError::BlobMismatch { .. })));
    assert_eq!(partials(&test), 0);
    std::fs::write(test.store.layout().partial(&expected.digest), b"longer than right").unwrap();
    assert_eq!(test.store.resume_ingest(&test.lease, &expected).unwrap().size(), 0);
    let mut writer = test.store.resume_ingest(&test.lease, &expected).unwrap();
    writer.copy_from(&mut b"ri".as_slice()).unwrap();
    writer.discard();
    assert_eq!(partials(&test), 0);
}

#[test]
fn unfinished_content_goes_when_it_is_old_and_nobody_writes_it() {
    let test = TestStore::new();
    let old = std::time::SystemTime::UNIX_EPOCH;
    let begin = |content: &[u8]| {
        let writer = test.store.resume_ingest(&test.lease, &expected(content)).unwrap();
        let path = test.store.layout().partial(&Digest::of(content));
        std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
        writer
    };
    drop(begin(b"old"));
    let writing = begin(b"being written");
    drop(test.store.resume_ingest(&test.lease, &expected(b"new")).unwrap());
    let new = test.store.layout().partial(&Digest::of(b"new"));
    let now = std::time::SystemTime::from(test.store.now());
    std::fs::File::options().write(true).open(new).unwrap().set_modified(now).unwrap();
    test.store.gc(Policy::KEEP_CACHE).unwrap();
    assert_eq!(partials(&test), 2);
    drop(writing);
    test.store.gc(Policy::DROP_CACHE).unwrap();
    assert_eq!(partials(&test), 0);
}
