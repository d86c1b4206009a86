//! Objects in a bucket, at moto's server.

use std::sync::Arc;

use base::Digest;
use registry::s3::{Bucket, BucketOptions, Keys, Parts, Written};
use registry::{BlobSource, Client, ClientOptions, RetryPolicy};
use sys::clock::SystemClock;
use testkit::MotoServer;

fn bucket(server: &MotoServer, name: &str) -> Bucket {
    let keys =
        Keys { id: "id".to_owned(), secret: "secret".to_owned(), session_token: Some("token".to_owned()) };
    let options = BucketOptions {
        bucket: name.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(server.url()),
        path_style: true,
        keys: Some(keys),
        parts: Parts { above: 5 << 20, size: 5 << 20 },
    };
    let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let client = Client::new(ClientOptions { retry, ..ClientOptions::default() });
    Bucket::new(client, Arc::new(SystemClock), options).unwrap()
}

async fn put(bucket: &Bucket, key: &str, text: &'static str, if_absent: bool) -> Written {
    let content = (BlobSource::Bytes(text.into()), &Digest::of(text.as_bytes()), text.len() as u64);
    bucket.put(key, content, if_absent).await.unwrap()
}

async fn get(bucket: &Bucket, key: &str) -> Option<String> {
    let bytes = bucket.get(key).await.unwrap()?.read_to_end(1000).await.unwrap().unwrap();
    Some(String::from_utf8(bytes).unwrap())
}

#[tokio::test]
async fn the_first_one_stays_unless_it_is_to_be_replaced() {
    let Some(server) = MotoServer::start() else { return };
    let bucket = bucket(&server, "cache");
    let key = "team/sha256:0 ü";
    assert_eq!((bucket.head(key).await.unwrap(), get(&bucket, key).await), (None, None));
    assert_eq!(put(&bucket, key, "one", true).await, Written::New);
    assert_eq!(put(&bucket, key, "another", true).await, Written::Existed);
    assert_eq!(get(&bucket, key).await.as_deref(), Some("one"));
    assert_eq!(put(&bucket, key, "two+", false).await, Written::New);
    let info = bucket.head(key).await.unwrap().unwrap();
    assert!(info.size == 4 && info.modified.is_some(), "{info:?}");
    bucket.touch(key).await.unwrap();
    assert_eq!(get(&bucket, key).await.as_deref(), Some("two+"));
    // What is longer than it may be is not read.
    assert_eq!(bucket.get(key).await.unwrap().unwrap().read_to_end(3).await.unwrap(), None);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_an_error_and_no_miss() {
    let Some(server) = MotoServer::start() else { return };
    let bucket = bucket(&server, "none");
    let error = bucket.get("key").await.err().expect("no bucket");
    let text = error.to_string();
    assert!(text.contains("cannot read object key of 127.0.0.1:") && text.contains("NoSuchBucket"), "{text}");
}

#[tokio::test]
async fn large_objects_go_in_parts_and_come_back_whole() {
    let Some(server) = MotoServer::start() else { return };
    let bucket = bucket(&server, "cache");
    let content: Vec<u8> =
        (0..(12_u32 << 20)).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (digest, size) = (Digest::of(&content), content.len() as u64);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    for source in [BlobSource::file(file.path()), BlobSource::Bytes(content.clone().into())] {
        let written = bucket.put("team/large ü", (source, &digest, size), false).await.unwrap();
        assert_eq!(written, Written::New);
        let read = bucket.get("team/large ü").await.unwrap().unwrap().read_to_end(size).await.unwrap();
        assert_eq!(Digest::of(&read.unwrap()), digest);
        bucket.delete("team/large ü").await.unwrap();
    }
    // What is not what it should be is not written, and leaves no parts behind.
    let wrong = (BlobSource::file(file.path()), &Digest::of(b"other"), size);
    let refused = bucket.put("team/wrong", wrong, false).await.unwrap_err();
    assert!(base::fault::chain(&refused).contains("instead of sha256:"), "{refused}");
    let short = (BlobSource::file(file.path()), &digest, size + 1);
    bucket.put("team/wrong", short, false).await.unwrap_err();
    assert_eq!(bucket.head("team/wrong").await.unwrap(), None);
    let (status, uploads) = server.request("GET", "/cache?uploads=");
    assert!(status == 200 && !uploads.contains("<Upload>"), "{uploads}");
}
