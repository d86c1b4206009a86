//! Pushing blobs and manifests.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use base::Digest;
use base::image::{Descriptor, media_type};
use registry::{BlobPush, BlobSource, Client, ClientOptions, ErrorKind, RetryPolicy};
use testkit::FaultyRegistry;
use testkit::registry::{Fault, Login};

use crate::fixture::{assert_says, client, impatient, noise, options, reference};

const SIZE: u32 = 700_000;

fn blob() -> (Descriptor, BlobSource) {
    let bytes = noise(SIZE);
    let descriptor = Descriptor::new(media_type::OCI_LAYER, Digest::of(&bytes), bytes.len() as u64);
    (descriptor, BlobSource::Bytes(bytes.into()))
}

/// The same from a file.
fn blob_in_file() -> (tempfile::NamedTempFile, Descriptor, BlobSource) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&noise(SIZE)).unwrap();
    let path = file.path().to_owned();
    let source = BlobSource::File(Arc::new(move || std::fs::File::open(&path)));
    (file, blob().0, source)
}

#[tokio::test]
async fn a_blob_is_sent_once() {
    let registry = FaultyRegistry::start();
    registry.require(Login::AnonymousToken);
    let (name, (descriptor, source)) = (reference(&registry, "app"), blob());
    let client = client();
    assert!(!client.blob_exists(&name, &descriptor.digest).await.unwrap());
    let push = || client.push_blob(&name, &descriptor, &source, None, None);
    assert_eq!(push().await.unwrap(), BlobPush::Uploaded);
    assert_eq!(push().await.unwrap(), BlobPush::Existed);
    assert!(client.blob_exists(&name, &descriptor.digest).await.unwrap());
    assert_eq!(registry.stored("app", &descriptor.digest).unwrap(), noise(SIZE));
    assert_eq!(registry.seen("PUT").len(), 1);
}

#[tokio::test]
async fn a_file_is_sent_as_a_stream_and_says_how_far_it_is() {
    let registry = FaultyRegistry::start();
    let (_file, descriptor, source) = blob_in_file();
    let told = Arc::new(Mutex::new(Vec::new()));
    let inner = told.clone();
    let progress: registry::Progress = Arc::new(move |bytes| inner.lock().unwrap().push(bytes));
    let name = reference(&registry, "app");
    client().push_blob(&name, &descriptor, &source, None, Some(progress)).await.unwrap();
    assert_eq!(registry.stored("app", &descriptor.digest).unwrap(), noise(SIZE));
    assert_eq!(told.lock().unwrap().last(), Some(&u64::from(SIZE)));
}

#[tokio::test]
async fn a_blob_of_another_repository_is_mounted() {
    let registry = FaultyRegistry::start();
    registry.require(Login::AnonymousToken);
    let (descriptor, source) = blob();
    registry.put_blob("base", &noise(SIZE));
    let push = |from| {
        let (name, descriptor, source) = (reference(&registry, "app"), descriptor.clone(), source.clone());
        async move { client().push_blob(&name, &descriptor, &source, Some(from), None).await.unwrap() }
    };
    assert_eq!(push("base").await, BlobPush::Mounted);
    assert_eq!(registry.seen("PUT").len(), 0);
    assert_eq!(registry.stored("app", &descriptor.digest).unwrap().len(), SIZE as usize);
}

#[tokio::test]
async fn a_blob_that_cannot_be_mounted_is_sent() {
    let registry = FaultyRegistry::start();
    let (name, (descriptor, source)) = (reference(&registry, "app"), blob());
    let pushed = client().push_blob(&name, &descriptor, &source, Some("nothing"), None).await.unwrap();
    assert_eq!(pushed, BlobPush::Uploaded);
    assert_eq!(registry.seen("POST").len(), 1);
}

#[tokio::test]
async fn an_upload_that_breaks_goes_on() {
    let registry = FaultyRegistry::start();
    registry.inject(1, "PUT", Fault::CloseUpload(300_000));
    registry.inject(1, "PUT", Fault::Status(503, Some(0)));
    let (_file, descriptor, source) = blob_in_file();
    let name = reference(&registry, "app");
    client().push_blob(&name, &descriptor, &source, None, None).await.unwrap();
    assert_eq!((registry.seen("POST").len(), registry.seen("PUT").len()), (1, 3));
    assert_eq!(registry.seen("PATCH").len(), 1, "all of it was there when the second PUT broke");
    assert_eq!(registry.stored("app", &descriptor.digest).unwrap(), noise(SIZE));
}

/// Pushes a blob to a registry that lets the first request break as `fault` says, and gives how many bytes it took in all.
async fn push_that_breaks(registry: &FaultyRegistry, client: &Client, fault: Fault) -> usize {
    registry.inject(1, "PUT", fault);
    let (_file, descriptor, source) = blob_in_file();
    let name = reference(registry, "app");
    client.push_blob(&name, &descriptor, &source, None, None).await.unwrap();
    assert_eq!(registry.stored("app", &descriptor.digest).unwrap(), noise(SIZE));
    registry.seen("/uploads/").iter().map(|seen| seen.body_length).sum()
}

#[tokio::test]
async fn what_has_arrived_before_a_break_is_not_sent_again() {
    for part in [1, 400_000, SIZE as usize] {
        let registry = FaultyRegistry::start();
        let sent = push_that_breaks(&registry, &client(), Fault::CloseUpload(part)).await;
        // That there is one byte is not told apart from that there is none.
        let lost = if part == 1 { SIZE as usize } else { 0 };
        assert!((SIZE as usize..=SIZE as usize + lost + 1).contains(&sent), "{sent} bytes after {part}");
        let chunks = registry.seen("PATCH");
        let ranges: Vec<_> = chunks.iter().flat_map(|seen| &seen.headers).collect();
        if part == 400_000 {
            let range = ("content-range".to_owned(), "400000-699999".to_owned());
            assert!(ranges.contains(&&range), "{ranges:?}");
        }
    }
}

#[tokio::test]
async fn an_upload_that_stalls_goes_on() {
    // More than the kernel's buffers take.
    let registry = FaultyRegistry::start();
    registry.inject(1, "PUT", Fault::StallUpload(400_000));
    let bytes = noise(40_000_000);
    let descriptor = Descriptor::new(media_type::OCI_LAYER, Digest::of(&bytes), bytes.len() as u64);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let source = BlobSource::file(file.path());
    let name = reference(&registry, "app");
    impatient().push_blob(&name, &descriptor, &source, None, None).await.unwrap();
    let sent: usize = registry.seen("/uploads/").iter().map(|seen| seen.body_length).sum();
    assert_eq!(sent, bytes.len());
    assert_eq!(registry.stored("app", &descriptor.digest).unwrap().len(), bytes.len());
}

#[tokio::test]
async fn an_upload_may_break_often_as_long_as_it_gets_on() {
    let registry = FaultyRegistry::start();
    let bytes = noise(12_000_000);
    registry.inject(1, "PUT", Fault::CloseUpload(1_500_000));
    registry.inject(6, "PATCH", Fault::CloseUpload(1_048_576));
    let descriptor = Descriptor::new(media_type::OCI_LAYER, Digest::of(&bytes), bytes.len() as u64);
    let source = BlobSource::Bytes(bytes.clone().into());
    let name = reference(&registry, "app");
    client().push_blob(&name, &descriptor, &source, None, None).await.unwrap();
    let sent: usize = registry.seen("/uploads/").iter().map(|seen| seen.body_length).sum();
    assert_eq!(sent, bytes.len());
    assert_eq!(registry.seen("POST").len(), 1);
    // The chunks have become smaller with each break.
    let chunks: Vec<usize> = registry.seen("PATCH").iter().map(|seen| seen.body_length).collect();
    assert!(chunks.iter().all(|chunk| *chunk <= 1 << 20), "{chunks:?}");
}

#[tokio::test]
async fn an_upload_that_is_lost_or_damaged_begins_anew() {
    let size = SIZE as usize;
    for (fault, expected) in [
        (Fault::LoseUpload(400_000), 400_000 + size),
        // That it is wrong turns out when all is there.
        (Fault::DamageUpload(400_000), size + size),
    ] {
        let registry = FaultyRegistry::start();
        let sent = push_that_breaks(&registry, &client(), fault).await;
        assert_eq!((sent, registry.seen("POST").len()), (expected, 2));
    }
}

#[tokio::test]
async fn a_blob_whose_last_answer_was_lost_is_not_sent_again() {
    let registry = FaultyRegistry::start();
    let (_file, descriptor, source) = blob_in_file();
    let name = reference(&registry, "app");
    // Everything arrives, the answer does not.
    registry.inject(1, "PUT", Fault::CloseAfter(0));
    client().push_blob(&name, &descriptor, &source, None, None).await.unwrap();
    let sent: usize = registry.seen("/uploads/").iter().map(|seen| seen.body_length).sum();
    assert_eq!(sent, SIZE as usize);
}

#[tokio::test]
async fn chunks_are_as_large_as_the_registry_asks() {
    let registry = FaultyRegistry::start();
    registry.announce_chunk_min_length(5_000_000);
    let bytes = noise(12_000_000);
    registry.inject(1, "PUT", Fault::Status(413, None));
    registry.inject(3, "PATCH", Fault::Status(413, None));
    let descriptor = Descriptor::new(media_type::OCI_LAYER, Digest::of(&bytes), bytes.len() as u64);
    let name = reference(&registry, "app");
    let client =
        Client::new(ClientOptions { retry: RetryPolicy { attempts: 5, ..options().retry }, ..options() });
    client.push_blob(&name, &descriptor, &BlobSource::Bytes(bytes.into()), None, None).await.unwrap();
    let chunks = registry.seen("PATCH");
    let taken: Vec<usize> = chunks.iter().skip(3).map(|seen| seen.body_length).collect();
    assert_eq!(taken, [5_000_000, 5_000_000, 2_000_000]);
}

#[tokio::test]
async fn an_upload_that_always_breaks_is_given_up() {
    let registry = FaultyRegistry::start();
    registry.inject(u32::MAX, "PUT", Fault::Status(500, None));
    let (name, (descriptor, source)) = (reference(&registry, "app"), blob());
    let error = client().push_blob(&name, &descriptor, &source, None, None).await.unwrap_err();
    assert_says(&error, &["cannot push blob sha256:", "answered 500", "tried 3 times"]);
}

#[tokio::test]
async fn a_manifest_whose_blob_the_registry_does_not_see_for_a_moment_is_sent_again() {
    let unknown = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
    let fault = Fault::Body(400, "application/json", unknown.to_owned());
    let manifest = br#"{"schemaVersion":2}"#;
    let registry = FaultyRegistry::start();
    registry.inject(2, "PUT", fault.clone());
    let name = reference(&registry, "app");
    let push =
        || async { client().push_manifest(&name, media_type::OCI_MANIFEST, manifest[..].into()).await };
    push().await.unwrap();
    assert_eq!(registry.seen("PUT").len(), 3);
    registry.inject(u32::MAX, "PUT", fault);
    assert_says(push().await.unwrap_err(), &["cannot push manifest", "BLOB_UNKNOWN", "tried 3 times"]);
    assert_eq!(registry.seen("PUT").len(), 6);
}

#[tokio::test]
async fn tokens_that_expire_on_the_way_are_replaced() {
    let registry = FaultyRegistry::start();
    registry.require(Login::AnonymousToken);
    let (name, (descriptor, source)) = (reference(&registry, "app"), blob());
    let client = client();
    client.blob_exists(&name, &descriptor.digest).await.unwrap();
    registry.revoke_tokens();
    client.push_blob(&name, &descriptor, &source, None, None).await.unwrap();
    assert!(registry.stored("app", &descriptor.digest).is_some());
}

#[tokio::test]
async fn sources_that_are_not_what_they_should_be_are_named() {
    let registry = FaultyRegistry::start();
    let name = reference(&registry, "app");
    let (_file, mut descriptor, source) = blob_in_file();
    descriptor.size += 1;
    let error = client().push_blob(&name, &descriptor, &source, None, None).await.unwrap_err();
    let ErrorKind::Source { source } = error.kind() else { panic!("{error}") };
    assert_says(source, &["has 700000 bytes instead of 700001"]);
    let (descriptor, _) = blob();
    let mut other = noise(SIZE);
    other[0] ^= 1;
    let error = client().push_blob(&name, &descriptor, &BlobSource::Bytes(other.into()), None, None).await;
    assert_says(error.unwrap_err(), &["answered 400: DIGEST_INVALID"]);
}

#[tokio::test]
async fn manifests_are_stored_under_tag_and_digest() {
    let registry = FaultyRegistry::start();
    let bytes: &'static [u8] = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
    let (name, digest) = (reference(&registry, "app:v1"), Digest::of(bytes));
    let push =
        |name| async move { client().push_manifest(&name, media_type::OCI_MANIFEST, bytes.into()).await };
    assert_eq!(push(name.clone()).await.unwrap(), digest);
    assert_eq!(registry.tagged("app", "v1"), Some(digest));
    push(name.with_digest(digest)).await.unwrap();
    assert_eq!(registry.seen(&format!("PUT /v2/app/manifests/{digest}")).len(), 1);
    let error = push(name.with_digest(Digest::of(b"other"))).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::DigestMismatch { .. }), "{error}");
    registry.inject(1, "PUT", Fault::ClaimDigest(Digest::of(b"other")));
    let error = push(name).await.unwrap_err();
    assert_says(&error, &["cannot push manifest v1", "announces digest"]);
}

#[tokio::test]
async fn an_upload_without_a_place_to_go_is_refused() {
    let registry = FaultyRegistry::start();
    registry.inject(1, "POST", Fault::DropHeader("Location"));
    let (name, (descriptor, source)) = (reference(&registry, "app"), blob());
    let error = client().push_blob(&name, &descriptor, &source, None, None).await.unwrap_err();
    assert_says(&error, &["did not say where to send it"]);
}
