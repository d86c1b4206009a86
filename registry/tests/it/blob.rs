//! Streaming blobs: resumed where the connection broke, and refused when they are wrong.

use std::io::Read as _;
use std::sync::{Arc, Mutex};

use base::image::{Descriptor, media_type};
use base::{Digest, Reference};
use registry::{Client, Error, ErrorKind, Result};
use testkit::FaultyRegistry;
use testkit::registry::{Fault, Login};

use crate::fixture::{assert_says, client, impatient, noise, reference};

const SIZE: u32 = 200_000;

/// A registry with one blob.
fn registry_with_blob() -> (FaultyRegistry, Reference, Descriptor) {
    let registry = FaultyRegistry::start();
    let digest = registry.put_blob("app", &noise(SIZE));
    let name = reference(&registry, "app");
    (registry, name, Descriptor::new(media_type::OCI_LAYER, digest, u64::from(SIZE)))
}

async fn read(name: &Reference, descriptor: &Descriptor) -> Result<Vec<u8>> {
    read_by(&client(), name, descriptor).await
}

async fn read_by(client: &Client, name: &Reference, descriptor: &Descriptor) -> Result<Vec<u8>> {
    client.blob(name, descriptor, None).await?.read_to_end().await
}

/// The error of reading the blob while `fault` lasts.
async fn read_error(fault: Fault) -> Error {
    let (registry, name, descriptor) = registry_with_blob();
    registry.inject(u32::MAX, "blobs", fault);
    read(&name, &descriptor).await.unwrap_err()
}

#[tokio::test]
async fn a_blob_arrives_whole_and_says_how_far_it_is() {
    let (_registry, name, descriptor) = registry_with_blob();
    let told = Arc::new(Mutex::new(Vec::new()));
    let inner = told.clone();
    let progress: registry::Progress = Arc::new(move |bytes| inner.lock().unwrap().push(bytes));
    let stream = client().blob(&name, &descriptor, Some(progress)).await.unwrap();
    assert_eq!(stream.read_to_end().await.unwrap(), noise(SIZE));
    let told = told.lock().unwrap();
    assert!(told.is_sorted());
    assert_eq!(told.last(), Some(&u64::from(SIZE)));
}

#[tokio::test]
async fn a_lost_connection_is_taken_up_where_it_broke() {
    let (registry, name, descriptor) = registry_with_blob();
    registry.inject(1, "blobs", Fault::CloseAfter(50_000));
    registry.inject(1, "blobs", Fault::CloseAfter(30_000));
    assert_eq!(read(&name, &descriptor).await.unwrap(), noise(SIZE));
    let ranges: Vec<_> = registry.seen("blobs").into_iter().map(|seen| seen.range).collect();
    let expected = [None, Some("bytes=50000-".to_owned()), Some("bytes=80000-".to_owned())];
    assert_eq!(ranges, expected);
}

#[tokio::test]
async fn a_connection_that_stalls_is_taken_up_where_it_did() {
    let (registry, name, descriptor) = registry_with_blob();
    registry.inject(1, "blobs", Fault::StallAfter(30_000));
    assert_eq!(read_by(&impatient(), &name, &descriptor).await.unwrap(), noise(SIZE));
    assert_eq!(registry.seen("blobs")[1].range.as_deref(), Some("bytes=30000-"));
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_again_from_the_start() {
    let (registry, name, descriptor) = registry_with_blob();
    registry.inject(1, "blobs", Fault::CloseAfter(50_000));
    registry.inject(1, "blobs", Fault::IgnoreRange);
    assert_eq!(read(&name, &descriptor).await.unwrap(), noise(SIZE));
}

#[tokio::test]
async fn a_wrong_range_is_refused() {
    let (registry, name, descriptor) = registry_with_blob();
    registry.inject(1, "blobs", Fault::CloseAfter(50_000));
    registry.inject(1, "blobs", Fault::WrongRange);
    let error = read(&name, &descriptor).await.unwrap_err();
    assert_says(&error, &["another range (\"bytes 0-0/1\")", "from byte 50000"]);
}

#[tokio::test]
async fn a_connection_that_always_breaks_is_given_up() {
    let error = read_error(Fault::CloseAfter(0)).await;
    assert_says(
        &error,
        &["lost after 0 of 200000 bytes (tried 3 times)", &Digest::of(&noise(SIZE)).to_string()],
    );
    let (registry, name, descriptor) = registry_with_blob();
    registry.inject(u32::MAX, "blobs", Fault::StallAfter(0));
    let error = read_by(&impatient(), &name, &descriptor).await.unwrap_err();
    assert_says(&error, &["sent nothing for 2 s", "tried 3 times"]);
}

#[tokio::test]
async fn a_connection_that_crawls_is_given_up_too() {
    let (registry, name, descriptor) = registry_with_blob();
    registry.inject(u32::MAX, "blobs", Fault::CloseAfter(1));
    let error = read(&name, &descriptor).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Interrupted { received: 51, .. }), "{error}");
}

#[tokio::test]
async fn other_bytes_are_refused_at_the_end() {
    let error = read_error(Fault::Damage).await;
    assert_says(&error, &["blob sha256:", &format!("instead of {}", Digest::of(&noise(SIZE))), "damaged it"]);
}

#[tokio::test]
async fn lies_about_the_length_are_refused_before_anything_is_read() {
    for claimed in [1_000, 300_000] {
        let error = read_error(Fault::ClaimLength(claimed)).await;
        assert_says(&error, &[&format!("has {claimed} bytes where the descriptor says 200000")]);
    }
    let (_registry, name, mut descriptor) = registry_with_blob();
    descriptor.size = 5;
    assert_says(
        read(&name, &descriptor).await.unwrap_err(),
        &["has 200000 bytes where the descriptor says 5"],
    );
}

#[tokio::test]
async fn missing_blobs_and_web_pages_are_named() {
    let (registry, name, _) = registry_with_blob();
    let missing = Descriptor::new(media_type::OCI_LAYER, Digest::of(b"missing"), 7);
    let error = read(&name, &missing).await.unwrap_err();
    assert!(error.is_not_found());
    assert_says(&error, &[&missing.digest.to_string(), &registry.reference("app"), "BLOB_UNKNOWN"]);
    let error = read_error(Fault::Body(200, "text/html", "<html>sign in".to_owned())).await;
    assert_says(&error, &["text/html instead of a registry's answer", "sign in"]);
}

#[tokio::test]
async fn secrets_do_not_follow_a_redirect_to_another_host() {
    let (registry, name, descriptor) = registry_with_blob();
    let (store, ..) = registry_with_blob();
    registry.require(Login::AnonymousToken);
    // A login comes first, so that there is a secret that could leak.
    let client = client();
    client.blob_exists(&name, &descriptor.digest).await.unwrap();
    registry.inject(1, "GET /v2/app/blobs", Fault::RedirectTo(format!("http://{}", store.address())));
    let stream = client.blob(&name, &descriptor, None).await.unwrap();
    assert_eq!(stream.read_to_end().await.unwrap(), noise(SIZE));
    assert!(registry.seen("GET /v2/app/blobs")[0].authorization.is_some());
    let arrived = store.seen("GET /v2/app/blobs");
    assert_eq!(arrived.len(), 1);
    assert_eq!(arrived[0].authorization, None);
}

#[test]
fn a_blob_can_be_read_by_a_thread_that_blocks() {
    let (registry, name, descriptor) = registry_with_blob();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let open = || runtime.block_on(client().blob(&name, &descriptor, None)).unwrap();
    let mut bytes = Vec::new();
    open().into_blocking(runtime.handle().clone()).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, noise(SIZE));
    registry.inject(1, "blobs", Fault::Damage);
    let mut reader = open().into_blocking(runtime.handle().clone());
    let error = reader.read_to_end(&mut bytes).unwrap_err();
    let error = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).unwrap();
    assert!(matches!(error.kind(), ErrorKind::DigestMismatch { .. }));
}
